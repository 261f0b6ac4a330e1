"""Coverage: what was measured in which direction, read from K."""

from __future__ import annotations

import math

import pytest
import torch

from pfitre_service.model import ScanGeometry
from pfitre_service.prior.network import DIRECTIONS
from pfitre_service.prior.orientation import View
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.quality.coverage import directional_coverage

SIZE = 48
WEDGE = torch.arange(-42.5, 60.0, 2.5)
"""From -42.5 to 57.5 degrees: 62.5 to 132.5 are missing."""
MEASURED = torch.arange(DIRECTIONS).mul(5).add(2.5).add(42.5).remainder(180) <= 100
BETWEEN_AXES = [index for index in range(DIRECTIONS) if index % 9 not in (0, 8)]
"""Bins that touch none of the axes and diagonals of the slice."""
VIEWS = [View(mirrored, exchanged) for mirrored in (False, True) for exchanged in (False, True)]


def measured(angles, size: int = SIZE, device: str = "cpu", weights=None) -> NormalEquations:
    data = NormalEquations(ScanGeometry.from_detector(rows=1, columns=size), device=device)
    angles = torch.as_tensor(angles, dtype=torch.float64)
    data.add(torch.zeros(len(angles), 1, size), angles, weights=weights)
    return data


def needed(size: int) -> float:
    """Angles that a direction's bin asks for."""
    return size * math.pi / 2 / DIRECTIONS


def test_sums_to_the_angles_over_what_one_bin_needs(device):
    coverage = directional_coverage(measured(WEDGE, device=device), DIRECTIONS)
    assert coverage.device.type == device
    assert coverage.dtype == torch.float32
    assert float(coverage.sum()) == pytest.approx(len(WEDGE) / needed(SIZE), rel=1e-5)


def test_an_angle_of_weight_three_counts_as_three():
    angles = WEDGE[:6]
    weighted = directional_coverage(measured(angles, weights=torch.full((6,), 3.0)), DIRECTIONS)
    repeated = directional_coverage(measured(angles.repeat(3)), DIRECTIONS)
    torch.testing.assert_close(weighted, repeated)


def test_a_slice_has_coverage_one_where_its_pixels_ask_for_no_more_angles():
    count = math.ceil(SIZE * math.pi / 2)
    coverage = directional_coverage(measured(torch.arange(count) * 180 / count), DIRECTIONS)
    assert float(coverage.mean()) == pytest.approx(1.0, rel=0.02)
    # Single bins differ, since the grid's cells do not share out evenly among them.
    assert 0.5 < float(coverage.min()) < float(coverage.max()) < 1.5


def test_the_missing_wedge_is_nearly_empty_and_the_rest_is_even():
    coverage = directional_coverage(measured(WEDGE), DIRECTIONS) * needed(SIZE)
    assert float(coverage[~MEASURED].max()) < 0.3  # of the 2 angles in each measured bin; lines are not infinitely thin
    assert float(coverage[~MEASURED].mean()) < 0.1
    assert 1.2 < float(coverage[MEASURED][1:-1].min()) < float(coverage[MEASURED].max()) < 2.8


@pytest.mark.parametrize("bin_", range(DIRECTIONS))
def test_one_angle_shows_in_its_own_direction(bin_):
    coverage = directional_coverage(measured([5 * bin_ + 2.5]), DIRECTIONS)
    assert int(coverage.argmax()) == bin_
    nearby = coverage[[bin_ - 1, bin_, (bin_ + 1) % DIRECTIONS]].sum()
    assert float(nearby / coverage.sum()) > 0.55


def test_nothing_measured_is_nothing_covered(device):
    empty = directional_coverage(measured([], device=device), DIRECTIONS)
    assert empty.shape == (DIRECTIONS,)
    assert empty.device.type == device
    assert not empty.any()
    weightless = directional_coverage(measured([10.0, 20.0], weights=torch.zeros(2)), DIRECTIONS)
    assert not weightless.any()


def test_follows_what_is_taken_out_again():
    data = measured(WEDGE)
    before = directional_coverage(data, DIRECTIONS)
    other = torch.tensor([95.0, 101.0, 12.5], dtype=torch.float64)
    rows = torch.zeros(3, 1, SIZE)
    data.add(rows, other)
    assert float((directional_coverage(data, DIRECTIONS) - before)[19:21].min()) > 0.1 / needed(SIZE)
    data.remove(rows, other)
    torch.testing.assert_close(directional_coverage(data, DIRECTIONS), before)


def test_taking_out_everything_leaves_nothing():
    data = measured(WEDGE)
    data.remove(torch.zeros(len(WEDGE), 1, SIZE), WEDGE.double())
    assert not directional_coverage(data, DIRECTIONS).any()


def test_follows_merging():
    data = measured(WEDGE[::2])
    data.merge(measured(WEDGE[1::2]))
    expected = directional_coverage(measured(WEDGE), DIRECTIONS)
    torch.testing.assert_close(directional_coverage(data, DIRECTIONS), expected)


def test_does_not_ask_what_the_projections_show():
    data = NormalEquations(ScanGeometry.from_detector(rows=2, columns=SIZE))
    data.add(torch.rand(len(WEDGE), 2, SIZE, generator=torch.Generator().manual_seed(1)), WEDGE)
    torch.testing.assert_close(
        directional_coverage(data, DIRECTIONS), directional_coverage(measured(WEDGE), DIRECTIONS)
    )


@pytest.mark.parametrize("size", [47, 64, 97])
def test_angles_per_bin_do_not_depend_on_the_slices_size(size):
    here = directional_coverage(measured(WEDGE, size), DIRECTIONS) * needed(size)
    there = directional_coverage(measured(WEDGE), DIRECTIONS) * needed(SIZE)
    assert float((here - there).abs().max()) < 0.25  # of 2 angles a bin
    assert float((here - there).abs().mean()) < 0.07


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_the_object_seen_in_a_view_is_the_object_measured_at_the_views_angles(view):
    """The mirrored object at 180 - t, and the object with exchanged axes at 90 - t, give the same projections."""
    pictures = torch.rand(2, SIZE, SIZE, generator=torch.Generator().manual_seed(4))
    angles = WEDGE.double()
    seen_angles = 180 - angles if view.mirrored else angles
    seen_angles = 90 - seen_angles if view.exchanged else seen_angles
    geometry = ScanGeometry.from_detector(rows=2, columns=SIZE)
    rows = torch.rand(len(angles), 2, SIZE, generator=torch.Generator().manual_seed(5))
    data, seen = NormalEquations(geometry), NormalEquations(geometry)
    data.add(rows, angles)
    seen.add(rows, seen_angles)

    torch.testing.assert_close(seen.b, view.of(data.b), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(seen.normal(view.of(pictures)), view.of(data.normal(pictures)), rtol=1e-4, atol=1e-2)
    expected = view.of_coverage(directional_coverage(data, DIRECTIONS))
    got = directional_coverage(seen, DIRECTIONS)
    torch.testing.assert_close(got[BETWEEN_AXES], expected[BETWEEN_AXES], rtol=0.03, atol=0.01)
    # Cells on a diagonal count in one of the two bins that meet there; those on an axis are not shared out alike.
    for diagonal in (9, 27):
        both = [diagonal - 1, diagonal]
        assert float(got[both].sum()) == pytest.approx(float(expected[both].sum()), rel=0.03, abs=0.01)

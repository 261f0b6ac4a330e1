"""Folding: every missing wedge into one eighth, exactly, and back."""

from __future__ import annotations

import cmath
import math

import pytest
import torch

from pfitre_service.prior.network import DIRECTIONS
from pfitre_service.prior.orientation import View, describe, folding_view, neighbours

VIEWS = [View(mirrored, exchanged) for mirrored in (False, True) for exchanged in (False, True)]
ANGLES = torch.arange(0, 180, 5) + 2.5


def coverage_without(middle: float, width: float) -> torch.Tensor:
    """Densities of a scan that lacks `width` degrees around `middle`; bins that are half missing are half filled."""
    fine = torch.arange(0, 180, 0.1) + 0.05
    away = (fine - middle + 90).remainder(180) - 90
    return (away.abs() > width / 2).float().reshape(DIRECTIONS, -1).mean(dim=1)


def middle_of_what_is_missing(coverage: torch.Tensor) -> float:
    moment = sum(
        (1 - float(density)) * cmath.exp(2j * math.radians(angle))
        for angle, density in zip(ANGLES.tolist(), coverage, strict=True)
    )
    return math.degrees(cmath.phase(moment)) / 2 % 180


@pytest.mark.parametrize("width", [10.0, 60.0, 120.0, 170.0])
def test_every_orientation_of_the_wedge_is_folded_into_the_first_eighth(width):
    for middle in range(180):
        coverage = coverage_without(middle, width)
        assert abs((middle_of_what_is_missing(coverage) - middle + 90) % 180 - 90) < 0.1  # the helper above is right
        _, folded = describe(coverage)
        # A wedge across 0 degrees may come out a hair below 180, as one across 45 a hair above it.
        assert -0.1 < (middle_of_what_is_missing(folded) + 90) % 180 - 90 < 45.1, middle


def test_wedges_that_are_mirror_images_are_folded_into_the_same_coverage():
    for middle in range(1, 45):
        told = [
            describe(coverage_without(other, 50.0))[1] for other in (middle, 90 - middle, 90 + middle, 180 - middle)
        ]
        for other in told[1:]:
            torch.testing.assert_close(other, told[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("shape", [(6, 6), (2, 7, 7), (2, 4, 5, 8)], ids=str)
def test_the_way_back_is_exact(view, shape):
    pictures = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(view.back(view.of(pictures)), pictures)
    assert torch.equal(view.of(view.back(pictures.transpose(-1, -2))), pictures.transpose(-1, -2))


def test_views_move_pixels_where_they_say():
    picture = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert View(mirrored=True).of(picture).tolist() == [[2.0, 1.0], [4.0, 3.0]]
    assert View(exchanged=True).of(picture).tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert View(mirrored=True, exchanged=True).of(picture).tolist() == [[2.0, 4.0], [1.0, 3.0]]


def test_coverage_turns_with_the_picture():
    """Mirroring makes t into 180 - t, exchanging the axes makes it 90 - t, mirroring first then both 90 + t - 180."""
    for index, angle in enumerate(ANGLES.tolist()):
        coverage = torch.zeros(DIRECTIONS)
        coverage[index] = 1.0
        for view, expected in zip(VIEWS, (angle, 90 - angle, 180 - angle, angle - 90), strict=True):
            assert float(ANGLES[view.of_coverage(coverage).argmax()]) == expected % 180


@pytest.mark.parametrize("coverage", [torch.zeros(DIRECTIONS), torch.ones(DIRECTIONS)], ids=["nothing", "everything"])
def test_a_scan_without_a_direction_of_its_own_can_be_described(coverage):
    view, told = describe(coverage)
    assert torch.equal(told, coverage)
    assert isinstance(view, View)


def test_how_densely_was_measured_does_not_turn_the_view():
    coverage = coverage_without(130.0, 80.0)
    assert folding_view(coverage) == folding_view(coverage * 1e-3) == folding_view(coverage * 50)


def test_neighbours_are_the_slices_below_here_and_above():
    volume = torch.arange(4.0)[:, None, None].expand(4, 3, 5)
    assert neighbours(volume).shape == (4, 3, 3, 5)
    assert neighbours(volume)[..., 0, 0].tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]
    assert neighbours(volume[:1])[..., 0, 0].tolist() == [[0, 0, 0]]

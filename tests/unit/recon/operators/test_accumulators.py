"""b, K and c are sums over angles: any order, any batches, taken out again, merged."""

from __future__ import annotations

import math

import pytest
import torch

from pfitre_service.errors import InputError
from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.data_term import relative_residual, squared_residual
from pfitre_service.recon.operators.explicit import ExplicitProjections, sirt
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.operators.projector import Projector
from pfitre_service.recon.solvers.conjugate_gradient import circulant_preconditioner, conjugate_gradient
from pfitre_service.recon.solvers.filtered_backprojection import FilteredBackprojection

SLICES, COLUMNS = 3, 30
GEOMETRY = ScanGeometry.from_detector(rows=SLICES, columns=COLUMNS, axis=15.6)
ANGLES = torch.tensor([10.0, -62.5, 10.0, 47.0, 81.0, -5.0, 130.0])


@pytest.fixture
def projections():
    return torch.rand(len(ANGLES), SLICES, COLUMNS, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def accumulated(projections, device):
    data = NormalEquations(GEOMETRY, device=device)
    data.add(projections, ANGLES)
    return data


def assert_same(first, second):
    for name in ("b", "psf", "energy", "weight", "angles"):
        ours, theirs = getattr(first, name), getattr(second, name)
        scale = float(torch.as_tensor(theirs, dtype=torch.float64).abs().max())
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6 * scale, msg=lambda text, name=name: name + text)


def test_order_of_angles_does_not_matter(accumulated, projections, device):
    order = torch.tensor([4, 0, 6, 2, 5, 1, 3])
    other = NormalEquations(GEOMETRY, device=device)
    other.add(projections[order], ANGLES[order])
    assert_same(other, accumulated)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_size_of_batches_does_not_matter(accumulated, projections, device, batch):
    other = NormalEquations(GEOMETRY, device=device)
    for first in range(0, len(ANGLES), batch):
        other.add(projections[first : first + batch], ANGLES[first : first + batch])
        _ = other.spectrum  # what was cached before must not survive the next angle
    assert_same(other, accumulated)
    torch.testing.assert_close(other.spectrum, accumulated.spectrum)


def test_removing_an_angle_restores_what_was_there_before(accumulated, projections, device):
    before = NormalEquations(GEOMETRY, device=device)
    before.add(projections[:4], ANGLES[:4])
    weights, shifts = torch.tensor([1.0, 0.3, 2.0]), torch.tensor([0.0, 1.5, -2.0])
    after = NormalEquations(GEOMETRY, device=device)
    after.add(projections[:4], ANGLES[:4])
    after.add(projections[4:], ANGLES[4:], weights=weights, shifts=shifts)
    assert not torch.allclose(after.b, before.b)
    after.remove(projections[4:], ANGLES[4:], weights=weights, shifts=shifts)
    assert_same(after, before)
    torch.testing.assert_close(after.spectrum, before.spectrum, rtol=1e-6, atol=1e-6)


def test_merging_is_adding_together(accumulated, projections, device):
    first, second = NormalEquations(GEOMETRY, device=device), NormalEquations(GEOMETRY, device=device)
    first.add(projections[:3], ANGLES[:3])
    second.add(projections[3:], ANGLES[3:])
    _ = first.spectrum
    first.merge(second)
    assert_same(first, accumulated)
    torch.testing.assert_close(first.spectrum, accumulated.spectrum)


def test_merging_another_geometry_is_refused_and_names_both(accumulated):
    other = NormalEquations(ScanGeometry.from_detector(rows=SLICES, columns=COLUMNS, axis=14.0))
    with pytest.raises(InputError, match=r"axis=15\.6.*axis=14\.0"):
        accumulated.merge(other)


def test_a_weight_of_two_counts_an_angle_twice(data_term, projections, device):
    twice, weighted = data_term(GEOMETRY, device=device), data_term(GEOMETRY, device=device)
    twice.add(projections[:2], ANGLES[:2])
    twice.add(projections[:1], ANGLES[:1])
    weighted.add(projections[:2], ANGLES[:2], weights=torch.tensor([2.0, 1.0]))
    x = torch.rand(SLICES, COLUMNS, COLUMNS, generator=torch.Generator().manual_seed(2)).to(device)
    torch.testing.assert_close(weighted.b, twice.b)
    torch.testing.assert_close(weighted.energy, twice.energy)
    torch.testing.assert_close(weighted.normal(x), twice.normal(x), rtol=1e-4, atol=1e-2)
    assert weighted.weight == twice.weight == 3.0


def test_an_angle_of_zero_weight_changes_nothing(data_term, projections, device):
    without, data = data_term(GEOMETRY, device=device), data_term(GEOMETRY, device=device)
    without.add(projections[:2], ANGLES[:2])
    data.add(projections[:3], ANGLES[:3], weights=torch.tensor([1.0, 1.0, 0.0]))
    x = torch.rand(SLICES, COLUMNS, COLUMNS, generator=torch.Generator().manual_seed(2)).to(device)
    torch.testing.assert_close(data.b, without.b)
    torch.testing.assert_close(data.energy, without.energy)
    torch.testing.assert_close(data.normal(x), without.normal(x))
    assert data.weight == without.weight


@pytest.mark.parametrize("shift", [1.0, -3.0, 0.45, -2.71])
def test_shifting_a_projection_is_moving_the_axis(data_term, projections, device, shift):
    shifted = data_term(GEOMETRY, device=device)
    shifted.add(projections, ANGLES, shifts=torch.full((len(ANGLES),), shift))
    moved = data_term(
        ScanGeometry.from_detector(rows=SLICES, columns=COLUMNS, axis=GEOMETRY.axis + shift), device=device
    )
    moved.add(projections, ANGLES)
    torch.testing.assert_close(shifted.b, moved.b, rtol=1e-3, atol=1e-3)


def test_a_whole_shift_is_rolling_the_projection(data_term, projections, device):
    projections[:, :, :3] = projections[:, :, -3:] = 0.0
    plain, rolled = data_term(GEOMETRY, device=device), data_term(GEOMETRY, device=device)
    plain.add(projections, ANGLES)
    shifts = torch.tensor([0.0, 1.0, -2.0, 3.0, 0.0, -3.0, 2.0])
    moved = torch.stack([p.roll(int(s), dims=-1) for p, s in zip(projections, shifts, strict=True)])
    rolled.add(moved, ANGLES, shifts=shifts)
    torch.testing.assert_close(rolled.b, plain.b, rtol=1e-4, atol=1e-4)


def test_both_data_terms_hold_the_same_sums(accumulated, projections, device, relative_error):
    explicit = ExplicitProjections(GEOMETRY, device=device)
    explicit.add(projections, ANGLES)
    torch.testing.assert_close(accumulated.b, explicit.b)
    torch.testing.assert_close(accumulated.energy, explicit.energy)
    assert accumulated.weight == explicit.weight == len(ANGLES)
    x = torch.rand(SLICES, COLUMNS, COLUMNS, generator=torch.Generator().manual_seed(2)).to(device)
    assert relative_error(accumulated.normal(x).cpu(), explicit.normal(x).cpu()) < 1e-4
    torch.testing.assert_close(squared_residual(accumulated, x), squared_residual(explicit, x), rtol=1e-4, atol=0)


@pytest.mark.parametrize("noise", [0.0, 0.003, 0.01, 0.1])
@pytest.mark.parametrize(("size", "axis_offset"), [(96, 0.0), (97, 1.3)])
def test_free_residual_is_that_of_the_projected_result(size, axis_offset, noise, disc, measure):
    geometry = ScanGeometry.from_detector(rows=2, columns=size, axis=(size - 1) / 2 + axis_offset)
    angles = torch.linspace(-70, 70, 60)
    y = measure(geometry, disc(size, 2), angles, noise)
    data = NormalEquations(geometry)
    data.add(y, angles)
    rho = 0.01 * data.weight
    x = conjugate_gradient(
        lambda v: data.normal(v) + rho * v,
        data.b,
        torch.zeros_like(data.b),
        iterations=12,
        preconditioner=circulant_preconditioner(data, rho),
    )

    projector = Projector(geometry, torch.device("cpu"))
    squares = torch.zeros(2, dtype=torch.float64)
    for rows, angle in zip(y, angles.tolist(), strict=True):
        difference = projector.project(x, math.radians(angle)).double()
        difference[:, :size] -= rows  # beyond the data's columns the measured projection is zero
        squares += difference.square().sum(1)

    energy = y.double().square().sum((0, 2))
    explicit = float((squares.sum() / energy.sum()).sqrt())
    assert explicit < 0.1
    # the difference of large numbers: single precision leaves some 1e-7 of the data's energy
    torch.testing.assert_close(squared_residual(data, x) / energy, squares / energy, rtol=0.002, atol=4e-7)
    if noise > 0.0:
        assert relative_residual(data, x) == pytest.approx(explicit, rel=0.01)


def test_residual_of_nothing_measured_is_not_a_number():
    assert math.isnan(relative_residual(NormalEquations(GEOMETRY), torch.ones(SLICES, COLUMNS, COLUMNS)))


@pytest.mark.parametrize("columns", [2, 7, 8])
def test_the_smallest_scans_work(columns, device):
    geometry = ScanGeometry.from_detector(rows=1, columns=columns)
    data = NormalEquations(geometry, device=device)
    data.add(torch.ones(1, 1, columns), torch.tensor([12.0]))
    assert data.b.shape == (1, columns, columns)
    assert torch.isfinite(data.normal(data.b)).all()
    assert float(data.b.min()) > 0


class TestRefusals:
    @pytest.fixture(params=[NormalEquations, ExplicitProjections, FilteredBackprojection, "sirt"], ids=str)
    def add(self, request):
        """Gives projections and angles to each part that takes them."""
        if request.param == "sirt":
            return lambda values, angles, **more: sirt(values, angles, GEOMETRY, iterations=1)
        return lambda values, angles, **more: request.param(GEOMETRY).add(values, angles, **more)

    def test_missing_angles_are_named_with_both_shapes(self, add, projections):
        with pytest.raises(InputError, match=r"\(6, 3, 30\) for 6 angles; got \(7, 3, 30\)"):
            add(projections, ANGLES[:6])

    def test_a_wrong_width_is_named_with_both_shapes(self, add, projections):
        with pytest.raises(InputError, match=r"\(7, 3, 30\).*got \(7, 3, 29\)"):
            add(projections[:, :, :29], ANGLES)

    def test_a_single_image_is_not_a_stack(self, add, projections):
        with pytest.raises(InputError, match=r"\(1, 3, 30\).*got \(3, 30\)"):
            add(projections[0], ANGLES[:1])

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_values_that_are_not_finite(self, add, projections, bad):
        projections[3, 1, 7] = bad
        with pytest.raises(InputError, match="NaN or infinite"):
            add(projections, ANGLES)

    def test_angles_that_are_not_finite(self, add, projections):
        with pytest.raises(InputError, match="finite degrees"):
            add(projections, torch.where(ANGLES == 47.0, math.nan, ANGLES))

    def test_wrong_number_of_rows(self, data_term, projections):
        with pytest.raises(InputError, match=r"\(7, 3, 30\).*got \(7, 2, 30\)"):
            data_term(GEOMETRY).add(projections[:, :2], ANGLES)

    @pytest.mark.parametrize("name", ["weights", "shifts"])
    def test_lists_of_another_length(self, data_term, projections, name):
        with pytest.raises(InputError, match=rf"{name} must be one per angle, \(7,\); got \(2,\)"):
            data_term(GEOMETRY).add(projections, ANGLES, **{name: torch.ones(2)})

    @pytest.mark.parametrize("name", ["weights", "shifts"])
    def test_lists_that_are_not_finite(self, data_term, projections, name):
        with pytest.raises(InputError, match=f"{name} must be finite"):
            data_term(GEOMETRY).add(projections, ANGLES, **{name: torch.full((7,), math.nan)})

    def test_negative_weights(self, data_term, projections):
        with pytest.raises(InputError, match="zero or positive"):
            data_term(GEOMETRY).add(projections, ANGLES, weights=-torch.ones(7))

    def test_leaves_what_was_there_untouched(self, accumulated, projections):
        before = accumulated.b.clone()
        projections[5] = math.nan
        with pytest.raises(InputError):
            accumulated.add(projections, ANGLES)
        assert torch.equal(accumulated.b, before)
        assert accumulated.angles == len(ANGLES)

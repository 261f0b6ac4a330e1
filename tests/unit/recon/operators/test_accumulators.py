"""What the convolution keeps of angles is taken out again and merged; what no solver can use is refused."""

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


def test_a_spectrum_that_was_kept_does_not_survive_the_next_angle(accumulated, projections, device):
    other = NormalEquations(GEOMETRY, device=device)
    for first in range(0, len(ANGLES), 2):
        other.add(projections[first : first + 2], ANGLES[first : first + 2])
        _ = other.spectrum
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

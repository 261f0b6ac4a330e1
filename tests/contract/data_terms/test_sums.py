"""b, K and c of every data term are sums over angles, and all that a solver needs to know of the residual."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pfitre_service.errors import InputError
from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.data_term import relative_residual, squared_residual

SLICES, COLUMNS = 3, 30
GEOMETRY = ScanGeometry.from_detector(rows=SLICES, columns=COLUMNS, axis=15.6)
ANGLES = torch.tensor([10.0, -62.5, 10.0, 47.0, 81.0, -5.0, 130.0])


@pytest.fixture
def projections():
    return torch.rand(len(ANGLES), SLICES, COLUMNS, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def x(device):
    return torch.rand(SLICES, COLUMNS, COLUMNS, generator=torch.Generator().manual_seed(2)).to(device)


@pytest.fixture
def empty(data_term, device):
    return lambda: data_term(GEOMETRY, device=device)


@pytest.fixture
def accumulated(empty, projections):
    data = empty()
    data.add(projections, ANGLES)
    return data


def assert_same(first, second, x):
    torch.testing.assert_close(first.b, second.b, rtol=1e-5, atol=1e-6 * float(second.b.abs().max()))
    torch.testing.assert_close(first.energy, second.energy)
    normal = second.normal(x)
    torch.testing.assert_close(first.normal(x), normal, rtol=1e-4, atol=1e-5 * float(normal.abs().max()))
    assert first.weight == pytest.approx(second.weight, rel=1e-6)


def test_before_anything_is_measured_all_sums_are_zero(empty, x):
    data = empty()
    assert (data.b.shape, data.b.dtype, data.energy.shape, data.energy.dtype) == (
        (SLICES, COLUMNS, COLUMNS),
        torch.float32,
        (SLICES,),
        torch.float64,
    )
    assert data.b.device == data.energy.device == x.device
    assert not data.b.any()
    assert not data.energy.any()
    assert not data.normal(x).any()
    assert data.weight == 0.0
    assert math.isnan(relative_residual(data, x))


def test_order_of_angles_does_not_matter(accumulated, empty, projections, x):
    order = torch.tensor([4, 0, 6, 2, 5, 1, 3])
    other = empty()
    other.add(projections[order], ANGLES[order])
    assert_same(other, accumulated, x)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_size_of_batches_does_not_matter(accumulated, empty, projections, x, batch):
    other = empty()
    for first in range(0, len(ANGLES), batch):
        other.add(projections[first : first + batch], ANGLES[first : first + batch])
        other.normal(x)  # what was kept from it must not survive the next angle
    assert_same(other, accumulated, x)


def test_sums_of_two_parts_are_the_sums_of_the_whole(accumulated, empty, projections, x):
    first, second = empty(), empty()
    first.add(projections[:3], ANGLES[:3])
    second.add(projections[3:], ANGLES[3:])
    torch.testing.assert_close(first.b + second.b, accumulated.b, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(first.energy + second.energy, accumulated.energy)
    torch.testing.assert_close(first.normal(x) + second.normal(x), accumulated.normal(x), rtol=1e-4, atol=1e-2)
    assert first.weight + second.weight == accumulated.weight


def test_a_weight_of_two_counts_an_angle_twice(empty, projections, x):
    twice, weighted = empty(), empty()
    twice.add(projections[:2], ANGLES[:2])
    twice.add(projections[:1], ANGLES[:1])
    weighted.add(projections[:2], ANGLES[:2], weights=torch.tensor([2.0, 1.0]))
    torch.testing.assert_close(weighted.b, twice.b)
    torch.testing.assert_close(weighted.energy, twice.energy)
    torch.testing.assert_close(weighted.normal(x), twice.normal(x), rtol=1e-4, atol=1e-2)
    assert weighted.weight == twice.weight == 3.0


def test_an_angle_of_zero_weight_changes_nothing(empty, projections, x):
    without, data = empty(), empty()
    without.add(projections[:2], ANGLES[:2])
    data.add(projections[:3], ANGLES[:3], weights=torch.tensor([1.0, 1.0, 0.0]))
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


def test_a_whole_shift_is_rolling_the_projection(empty, projections):
    projections[:, :, :3] = projections[:, :, -3:] = 0.0
    plain, rolled = empty(), empty()
    plain.add(projections, ANGLES)
    shifts = torch.tensor([0.0, 1.0, -2.0, 3.0, 0.0, -3.0, 2.0])
    moved = torch.stack([p.roll(int(s), dims=-1) for p, s in zip(projections, shifts, strict=True)])
    rolled.add(moved, ANGLES, shifts=shifts)
    torch.testing.assert_close(rolled.b, plain.b, rtol=1e-4, atol=1e-4)


def test_residual_is_that_of_the_definition(accumulated, projections, x, definition):
    truth = definition(GEOMETRY, ANGLES)
    values, b, energy = x.cpu().double().numpy(), truth.b(projections), truth.energy(projections)
    inner = (values * (truth.normal(values) - 2 * b)).sum((1, 2))
    np.testing.assert_allclose(squared_residual(accumulated, x).cpu(), inner + energy, rtol=0.01)
    expected = np.sqrt((inner + energy).sum() / energy.sum())
    assert relative_residual(accumulated, x) == pytest.approx(expected, rel=0.005)
    assert relative_residual(accumulated, torch.zeros_like(x)) == 1.0


def test_residual_of_one_slice_is_its_own(accumulated, x):
    whole = squared_residual(accumulated, x)
    assert (whole.shape, whole.dtype) == ((SLICES,), torch.float64)
    x[1] = 0
    alone = squared_residual(accumulated, x)
    assert float(alone[1]) == pytest.approx(float(accumulated.energy[1]))
    torch.testing.assert_close(alone[[0, 2]], whole[[0, 2]])


@pytest.mark.parametrize("columns", [2, 7, 8])
def test_the_smallest_scans_work(columns, data_term, device):
    geometry = ScanGeometry.from_detector(rows=1, columns=columns)
    data = data_term(geometry, device=device)
    data.add(torch.ones(1, 1, columns), torch.tensor([12.0]))
    assert data.b.shape == (1, columns, columns)
    assert torch.isfinite(data.normal(data.b)).all()
    assert float(data.b.min()) > 0


def test_another_number_of_rows_is_refused(data_term, projections):
    with pytest.raises(InputError, match=r"\(7, 3, 30\).*got \(7, 2, 30\)"):
        data_term(GEOMETRY).add(projections[:, :2], ANGLES)


@pytest.mark.parametrize("name", ["weights", "shifts"])
def test_lists_of_another_length_are_refused(data_term, projections, name):
    with pytest.raises(InputError, match=rf"{name} must be one per angle, \(7,\); got \(2,\)"):
        data_term(GEOMETRY).add(projections, ANGLES, **{name: torch.ones(2)})


@pytest.mark.parametrize("name", ["weights", "shifts"])
def test_lists_that_are_not_finite_are_refused(data_term, projections, name):
    with pytest.raises(InputError, match=f"{name} must be finite"):
        data_term(GEOMETRY).add(projections, ANGLES, **{name: torch.full((7,), math.nan)})


def test_negative_weights_are_refused(data_term, projections):
    with pytest.raises(InputError, match="zero or positive"):
        data_term(GEOMETRY).add(projections, ANGLES, weights=-torch.ones(7))


def test_what_is_refused_leaves_what_was_there_untouched(accumulated, projections):
    before = accumulated.b.clone()
    projections[5] = math.nan
    with pytest.raises(InputError):
        accumulated.add(projections, ANGLES)
    assert torch.equal(accumulated.b, before)
    assert accumulated.weight == len(ANGLES)

"""The normal operator of every data term: against ASTRA, and against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.explicit import ExplicitProjections

RANDOM = np.random.default_rng(7)
ANGLE_SETS = {
    "half a turn": np.linspace(0, 180, 24, endpoint=False),
    "limited range": np.linspace(-70, 70, 21),
    "two ranges": np.concatenate([np.linspace(-60, -20, 9), np.linspace(30, 80, 11)]),
    "random": RANDOM.uniform(-180, 360, 17),
    "repeated and unordered": np.array([33.0, -71.5, 10.2, 33.0, 33.0, 128.0, 10.2]),
}
IRREGULAR = [np.array([5.0]), np.array([-40.0, -38.0, -11.0, 3.0, 3.0, 20.0]), RANDOM.uniform(0, 60, 9)]


def filled(term, geometry, angles, slices=1, device="cpu", **more):
    """A data term that has seen blank projections: only its normal operator matters."""
    data = term(geometry, slices=slices, device=device)
    angles = torch.as_tensor(np.asarray(angles, dtype=float))
    data.add(torch.zeros(len(angles), slices, geometry.columns), angles, **more)
    return data


@pytest.mark.parametrize("angles", ANGLE_SETS.values(), ids=ANGLE_SETS.keys())
@pytest.mark.parametrize("size", [64, 65, 97, 128])
def test_normal_operator_agrees_with_astra_within_one_percent(
    size, angles, data_term, rng, astra_reference, relative_error
):
    geometry = ScanGeometry.from_detector(rows=1, columns=size)
    x = rng.uniform(size=(size, size)).astype(np.float32)

    got = filled(data_term, geometry, angles).normal(torch.from_numpy(x)[None])[0]

    assert relative_error(got, astra_reference(geometry, angles).normal(x)) < 0.01


@pytest.mark.parametrize("axis_offset", [-5.0, 0.37, 3.5, 11.25])
@pytest.mark.parametrize("size", [64, 65])
def test_backprojection_agrees_with_astra_for_a_shifted_axis(
    size, axis_offset, data_term, rng, astra_reference, relative_error
):
    geometry = ScanGeometry.from_detector(rows=1, columns=size, axis=(size - 1) / 2 + axis_offset)
    angles = ANGLE_SETS["random"]
    reference = astra_reference(geometry, angles)
    y = reference.project(rng.uniform(size=(size, size)))[:, reference.margin : reference.margin + size]

    data = data_term(geometry)
    data.add(torch.from_numpy(y.copy())[:, None], torch.from_numpy(angles))

    assert relative_error(data.b[0], reference.backproject(y)) < 0.01


def test_normal_operator_agrees_with_astra_whatever_the_axis(data_term, rng, astra_reference, relative_error):
    angles = ANGLE_SETS["two ranges"]
    x = rng.uniform(size=(64, 64)).astype(np.float32)
    for axis in (20.3, 31.5, 44.0):
        geometry = ScanGeometry.from_detector(rows=1, columns=64, axis=axis)
        got = filled(data_term, geometry, angles).normal(torch.from_numpy(x)[None])[0]
        assert relative_error(got, astra_reference(geometry, angles).normal(x)) < 0.01


@pytest.mark.parametrize(("kernel", "limit"), [("strip", 0.01), ("linear", 0.03), ("line", 0.05)])
def test_operators_of_kernels_without_a_detector_width_differ_by_no_more_than_stated(
    kernel, limit, data_term, rng, astra_reference, relative_error
):
    geometry = ScanGeometry.from_detector(rows=1, columns=96)
    angles = np.linspace(-70, 70, 40)
    x = rng.uniform(size=(96, 96)).astype(np.float32)
    got = filled(data_term, geometry, angles).normal(torch.from_numpy(x)[None])[0]
    assert relative_error(got, astra_reference(geometry, angles, kernel).normal(x)) < limit


def test_white_noise_is_where_a_sampled_detector_aliases_and_no_convolution_can_follow(
    data_term, rng, astra_reference, relative_error
):
    geometry = ScanGeometry.from_detector(rows=1, columns=96)
    angles = np.linspace(-70, 70, 40)
    noise = rng.standard_normal((96, 96)).astype(np.float32)
    got = filled(data_term, geometry, angles).normal(torch.from_numpy(noise)[None])[0]
    assert 0.05 < relative_error(got, astra_reference(geometry, angles).normal(noise)) < 0.25


@pytest.mark.parametrize("size", [48, 49])
def test_forward_projection_follows_the_sign_convention_of_astra(size, astra_reference, relative_error):
    geometry = ScanGeometry.from_detector(rows=1, columns=size, axis=(size - 1) / 2 + 2.25)
    angles = torch.tensor([0.0, 30.0, 90.0, 135.0, -60.0, 200.0])
    centred = np.arange(size) - (size - 1) / 2
    blob = np.exp(-((centred[None, :] - 9) ** 2 + (centred[:, None] + 5) ** 2) / 18).astype(np.float32)

    got = filled(ExplicitProjections, geometry, angles).project(torch.from_numpy(blob)[None])[:, 0]

    reference = astra_reference(geometry, angles.numpy(), margin=0).project(blob)
    assert relative_error(got, reference) < 0.01
    # and in words: the blob (x = 9, y = -5 from the axis) lands on column axis + 9 cos t - 5 sin t
    columns = torch.arange(size, dtype=torch.float64)
    centre = (got.double() * columns).sum(1) / got.double().sum(1)
    radians = torch.deg2rad(angles.double())
    torch.testing.assert_close(
        centre, geometry.axis + 9 * radians.cos() - 5 * radians.sin(), atol=0.02, rtol=0, check_dtype=False
    )


@pytest.mark.parametrize("angles", ANGLE_SETS.values(), ids=ANGLE_SETS.keys())
def test_normal_operator_is_symmetric(data_term, angles, device):
    size = 21
    data = filled(data_term, ScanGeometry.from_detector(rows=2, columns=size), angles, slices=2, device=device)
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 2, size, size, generator=generator).to(device)
    left, right = (data.normal(x).double() * y).sum(), (data.normal(y).double() * x).sum()
    scale = data.normal(x).norm() * y.norm()
    assert abs(float(left - right)) < 1e-5 * float(scale)


@pytest.mark.parametrize("angles", [*IRREGULAR, *ANGLE_SETS.values()], ids=lambda angles: f"{len(angles)} angles")
@pytest.mark.parametrize("size", [12, 15])
def test_no_eigenvalue_lies_below_a_thousandth_of_the_largest(size, angles, data_term):
    data = filled(data_term, ScanGeometry.from_detector(rows=1, columns=size), angles)
    units = torch.eye(size * size).reshape(-1, size, size)
    matrix = data.normal(units).reshape(size * size, -1).double().numpy()
    eigenvalues = np.linalg.eigvalsh((matrix + matrix.T) / 2)
    assert eigenvalues[0] > -1e-3 * eigenvalues[-1]


@pytest.mark.parametrize("angles", ANGLE_SETS.values(), ids=ANGLE_SETS.keys())
def test_every_data_term_is_the_same_operator(angles, data_term, device, relative_error):
    size = 40
    geometry = ScanGeometry.from_detector(rows=2, columns=size, axis=21.2)
    seen = {"weights": torch.linspace(0, 2, len(angles)), "shifts": torch.linspace(-3.3, 2, len(angles))}
    x = torch.randn(2, size, size, generator=torch.Generator().manual_seed(1)).to(device)
    explicit = filled(ExplicitProjections, geometry, angles, slices=2, device=device, **seen).normal(x)
    got = filled(data_term, geometry, angles, slices=2, device=device, **seen).normal(x)
    assert relative_error(got.cpu(), explicit.cpu()) < 1e-3


@pytest.mark.parametrize(("columns", "size", "axis"), [(14, 14, 6.9), (20, 12, 9.5), (30, 15, 15.6)])
def test_all_three_sums_are_those_of_the_definition(
    columns, size, axis, data_term, rng, definition, relative_error, device
):
    """Angles, weights, shifts and an axis of one's own, on values without any smoothness."""
    geometry = ScanGeometry.from_detector(rows=2, columns=columns, axis=axis, size=size)
    angles, weights, shifts = ANGLE_SETS["repeated and unordered"], rng.uniform(0.2, 2, 7), rng.uniform(-1.5, 1.5, 7)
    y, x = (torch.from_numpy(rng.uniform(size=shape)).float() for shape in ((7, 2, columns), (2, size, size)))
    truth = definition(geometry, angles, weights, shifts)
    data = data_term(geometry, device=device)
    data.add(y, torch.from_numpy(angles), weights=torch.from_numpy(weights), shifts=torch.from_numpy(shifts))
    # Ours is a detector with an end: 2 % at these values, where a wrong weight makes 7 %, a wrong sign 20 % and more.
    assert relative_error(data.b.cpu(), truth.b(y)) < 0.03
    assert relative_error(data.normal(x.to(device)).cpu(), truth.normal(x)) < 0.003
    np.testing.assert_allclose(data.energy.cpu(), truth.energy(y), rtol=1e-6)
    assert data.weight == pytest.approx(weights.sum())


def test_what_it_is_given_stays_and_what_it_gives_is_new(data_term, device):
    data = filled(data_term, ScanGeometry.from_detector(rows=2, columns=9), [3.0, 50.0], 2, device)
    x = torch.rand(2, 9, 9, generator=torch.Generator().manual_seed(1)).to(device)
    given = x.clone()
    first = data.normal(x)
    assert torch.equal(x, given)
    assert (first.shape, first.dtype, first.device) == (x.shape, torch.float32, x.device)
    kept = first.clone()
    x.mul_(2)
    assert torch.equal(first, kept)
    torch.testing.assert_close(data.normal(x), 2 * first)


@pytest.mark.parametrize("slices", [1, 3, 40])
def test_every_slice_of_a_slab_gets_what_it_would_get_alone(slices, data_term, device):
    size = 31
    data = filled(data_term, ScanGeometry.from_detector(rows=slices, columns=size), [3.0, 50.0], slices, device)
    x = torch.randn(slices, size, size, generator=torch.Generator().manual_seed(1)).to(device)
    together = data.normal(x)
    for index in (0, slices // 2, slices - 1):
        torch.testing.assert_close(together[index : index + 1], data.normal(x[index : index + 1]), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("columns", "size"), [(40, 25), (41, 30), (24, 37), (33, 48)])
def test_slices_may_be_smaller_or_larger_than_the_detector(
    columns, size, data_term, rng, astra_reference, relative_error
):
    geometry = ScanGeometry.from_detector(rows=1, columns=columns, size=size)
    angles = ANGLE_SETS["limited range"]
    x = rng.uniform(size=(size, size)).astype(np.float32)
    data = filled(data_term, geometry, angles)
    reference = astra_reference(geometry, angles, margin=size)
    assert relative_error(data.normal(torch.from_numpy(x)[None])[0], reference.normal(x)) < 0.01

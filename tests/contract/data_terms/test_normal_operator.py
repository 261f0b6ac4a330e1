"""The normal operator against ASTRA and against its own definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.explicit import ExplicitProjections
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.operators.projector import Projector

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
def test_normal_operator_agrees_with_astra_within_one_percent(size, angles, rng, astra_reference, relative_error):
    geometry = ScanGeometry.from_detector(rows=1, columns=size)
    x = rng.uniform(size=(size, size)).astype(np.float32)

    got = filled(NormalEquations, geometry, angles).normal(torch.from_numpy(x)[None])[0]

    assert relative_error(got, astra_reference(geometry, angles).normal(x)) < 0.01


@pytest.mark.parametrize("axis_offset", [-5.0, 0.37, 3.5, 11.25])
@pytest.mark.parametrize("size", [64, 65])
def test_backprojection_agrees_with_astra_for_a_shifted_axis(size, axis_offset, rng, astra_reference, relative_error):
    geometry = ScanGeometry.from_detector(rows=1, columns=size, axis=(size - 1) / 2 + axis_offset)
    angles = ANGLE_SETS["random"]
    reference = astra_reference(geometry, angles)
    y = reference.project(rng.uniform(size=(size, size)))[:, reference.margin : reference.margin + size]

    data = NormalEquations(geometry)
    data.add(torch.from_numpy(y.copy())[:, None], torch.from_numpy(angles))

    assert relative_error(data.b[0], reference.backproject(y)) < 0.01


def test_normal_operator_agrees_with_astra_whatever_the_axis(rng, astra_reference, relative_error):
    angles = ANGLE_SETS["two ranges"]
    x = rng.uniform(size=(64, 64)).astype(np.float32)
    for axis in (20.3, 31.5, 44.0):
        geometry = ScanGeometry.from_detector(rows=1, columns=64, axis=axis)
        got = filled(NormalEquations, geometry, angles).normal(torch.from_numpy(x)[None])[0]
        assert relative_error(got, astra_reference(geometry, angles).normal(x)) < 0.01


@pytest.mark.parametrize(("kernel", "limit"), [("strip", 0.01), ("linear", 0.03), ("line", 0.05)])
def test_operators_of_kernels_without_a_detector_width_differ_by_no_more_than_stated(
    kernel, limit, rng, astra_reference, relative_error
):
    geometry = ScanGeometry.from_detector(rows=1, columns=96)
    angles = np.linspace(-70, 70, 40)
    x = rng.uniform(size=(96, 96)).astype(np.float32)
    got = filled(NormalEquations, geometry, angles).normal(torch.from_numpy(x)[None])[0]
    assert relative_error(got, astra_reference(geometry, angles, kernel).normal(x)) < limit


def test_white_noise_is_where_a_sampled_detector_aliases_and_no_convolution_can_follow(
    rng, astra_reference, relative_error
):
    geometry = ScanGeometry.from_detector(rows=1, columns=96)
    angles = np.linspace(-70, 70, 40)
    noise = rng.standard_normal((96, 96)).astype(np.float32)
    got = filled(NormalEquations, geometry, angles).normal(torch.from_numpy(noise)[None])[0]
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


@pytest.mark.parametrize("shift", [0.0, 2.0, -3.4])
@pytest.mark.parametrize("size", [24, 33])
def test_projector_and_backprojector_are_adjoint(size, shift, device):
    projector = Projector(ScanGeometry.from_detector(rows=3, columns=size, axis=size * 0.47), torch.device(device))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, size, size, generator=generator).to(device)
    y = torch.randn(3, projector.length, generator=generator).to(device)
    for angle in (0.0, 0.4, math.pi / 4, math.pi / 2, 2.2, -1.0):
        forward = (projector.project(x, angle, shift).double() * y).sum()
        backward = (projector.backproject(y, angle, shift).double() * x).sum()
        torch.testing.assert_close(forward, backward, rtol=1e-5, atol=1e-3)


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
def test_no_eigenvalue_lies_below_a_thousandth_of_the_largest(size, angles, data_term, dense_matrix):
    data = filled(data_term, ScanGeometry.from_detector(rows=1, columns=size), angles)
    matrix = dense_matrix(data.normal, size)
    eigenvalues = np.linalg.eigvalsh((matrix + matrix.T) / 2)
    assert eigenvalues[0] > -1e-3 * eigenvalues[-1]


@pytest.mark.parametrize("angles", ANGLE_SETS.values(), ids=ANGLE_SETS.keys())
def test_convolution_and_explicit_projections_are_one_operator(angles, device, relative_error):
    size = 40
    geometry = ScanGeometry.from_detector(rows=2, columns=size, axis=21.2)
    weights = torch.linspace(0, 2, len(angles))
    shifts = torch.linspace(-3.3, 2, len(angles))
    both = [
        filled(term, geometry, angles, slices=2, device=device, weights=weights, shifts=shifts)
        for term in (NormalEquations, ExplicitProjections)
    ]
    x = torch.randn(2, size, size, generator=torch.Generator().manual_seed(1)).to(device)
    assert relative_error(both[0].normal(x).cpu(), both[1].normal(x).cpu()) < 1e-3


@pytest.mark.parametrize("slices", [1, 3, 40])
def test_every_slice_of_a_slab_gets_what_it_would_get_alone(slices, device):
    size = 31
    data = filled(NormalEquations, ScanGeometry.from_detector(rows=slices, columns=size), [3.0, 50.0], slices, device)
    x = torch.randn(slices, size, size, generator=torch.Generator().manual_seed(1)).to(device)
    together = data.normal(x)
    for index in (0, slices // 2, slices - 1):
        torch.testing.assert_close(together[index : index + 1], data.normal(x[index : index + 1]), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("columns", "size"), [(40, 25), (41, 30), (24, 37), (33, 48)])
def test_slices_may_be_smaller_or_larger_than_the_detector(columns, size, rng, astra_reference, relative_error):
    geometry = ScanGeometry.from_detector(rows=1, columns=columns, size=size)
    angles = ANGLE_SETS["limited range"]
    x = rng.uniform(size=(size, size)).astype(np.float32)
    data = filled(NormalEquations, geometry, angles)
    reference = astra_reference(geometry, angles, margin=size)
    assert relative_error(data.normal(torch.from_numpy(x)[None])[0], reference.normal(x)) < 0.01

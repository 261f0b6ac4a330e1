"""Rays that are not all worth the same: against a dense solve, and against the same rays left out altogether."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pfitre_service.errors import InputError
from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.data_term import relative_residual, squared_residual
from pfitre_service.recon.operators.explicit import ExplicitProjections
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.operators.projector import Projector
from pfitre_service.recon.parameters import AdmmParameters
from pfitre_service.recon.solvers.admm import TikhonovSolver

SIZE, SLICES = 12, 2
ANGLES = torch.arange(-60.0, 61.0, 8.0)
GEOMETRY = ScanGeometry.from_detector(rows=SLICES, columns=SIZE, axis=5.8)
WEIGHTS = torch.linspace(0.5, 2.0, len(ANGLES))


@pytest.fixture
def rays():
    """A third of the rays count nothing, the others 0.2 to 3."""
    generator = torch.Generator().manual_seed(8)
    values = 0.2 + 2.8 * torch.rand(len(ANGLES), SLICES, SIZE, generator=generator)
    return values * (torch.rand(values.shape, generator=generator) > 1 / 3)


@pytest.fixture
def projections(astra_reference, rng):
    """Two discs, projected by ASTRA, with noise."""
    astra = astra_reference(GEOMETRY, ANGLES.numpy())
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    discs = [(np.hypot(x - place, y) < 3.5).astype(np.float32) for place in (0.0, 1.5)]
    rows = np.stack([astra.project(disc)[:, astra.margin : astra.margin + SIZE] for disc in discs], axis=1)
    return torch.from_numpy((rows + 0.3 * rng.standard_normal(rows.shape)).astype(np.float32))


@pytest.fixture
def weighted(projections, rays):
    data = ExplicitProjections(GEOMETRY)
    data.add(projections, ANGLES, weights=WEIGHTS, ray_weights=rays)
    return data


@pytest.fixture(params=["own", "ASTRA"])
def written_out(request, astra_reference):
    """A of each angle, (angle, column of the longer detector, pixel) float64; where the data's columns begin in it; and
    how far a solution may lie from ours: ASTRA draws its rays otherwise."""
    pixels = np.eye(SIZE * SIZE, dtype=np.float32).reshape(-1, SIZE, SIZE)
    if request.param == "ASTRA":
        astra = astra_reference(GEOMETRY, ANGLES.numpy())
        return np.stack([astra.project(pixel) for pixel in pixels], -1).astype(np.float64), astra.margin, 0.1
    projector = Projector(GEOMETRY, torch.device("cpu"))
    rows = [projector.project(torch.from_numpy(pixels), math.radians(angle)).T for angle in ANGLES.tolist()]
    return torch.stack(rows).double().numpy(), 0, 1e-3


def on_the_longer_detector(values, written_out, beyond):
    """One slice's (angle, column), filled up with `beyond`."""
    matrix, first, _ = written_out
    longer = np.full(matrix.shape[:2], beyond)
    longer[:, first : first + SIZE] = values
    return longer


def dense_solution(written_out, projections, rays, rho):
    """argmin 1/2 ||A x - y||^2_W + rho/2 ||x||^2 of each slice, written out; beside the data's columns y is zero."""
    volume = []
    for index in range(SLICES):
        y = on_the_longer_detector(projections[:, index], written_out, 0.0).ravel()
        w = on_the_longer_detector(rays[:, index], written_out, 1.0) * WEIGHTS.double().numpy()[:, None]
        matrix = written_out[0].reshape(-1, SIZE * SIZE)
        normal = matrix.T @ (w.reshape(-1, 1) * matrix) + rho * np.eye(SIZE * SIZE)
        volume.append(np.linalg.solve(normal, matrix.T @ (w.ravel() * y)).reshape(SIZE, SIZE))
    return np.stack(volume)


def test_the_solver_comes_to_the_dense_solution(weighted, written_out, projections, rays, relative_error):
    solver = TikhonovSolver(weighted, AdmmParameters(cg_iterations=100, physics_rho=3.0))
    solver.step()
    rho = 3.0 * weighted.weight
    assert relative_error(solver.x, dense_solution(written_out, projections, rays, rho)) < written_out[2]
    assert relative_error(solver.x, dense_solution(written_out, projections, torch.ones_like(rays), rho)) > 0.15


def test_the_residual_is_that_of_the_weighted_rays(weighted, written_out, projections, rays):
    x = torch.rand(SLICES, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    expected = []
    for index in range(SLICES):
        misfit = written_out[0] @ x[index].double().numpy().ravel()
        misfit -= on_the_longer_detector(projections[:, index], written_out, 0.0)
        w = on_the_longer_detector(rays[:, index], written_out, 1.0) * WEIGHTS.double().numpy()[:, None]
        expected.append(float((w * misfit**2).sum()))
    energy = float((WEIGHTS[:, None, None] * rays * projections.square()).double().sum())
    np.testing.assert_allclose(squared_residual(weighted, x).numpy(), expected, rtol=written_out[2])
    assert relative_residual(weighted, x) == pytest.approx(math.sqrt(sum(expected) / energy), rel=written_out[2])


def test_what_does_not_count_may_hold_anything(weighted, projections, rays):
    data = ExplicitProjections(GEOMETRY)
    data.add(torch.where(rays > 0, projections, 1e4), ANGLES, weights=WEIGHTS, ray_weights=rays)
    torch.testing.assert_close(data.b, weighted.b)
    torch.testing.assert_close(data.energy, weighted.energy)


def test_equal_weights_of_rays_are_weights_of_projections(projections):
    of_rays, of_projections = ExplicitProjections(GEOMETRY), NormalEquations(GEOMETRY)
    of_rays.add(projections, ANGLES, weights=WEIGHTS, ray_weights=torch.ones_like(projections))
    of_projections.add(projections, ANGLES, weights=WEIGHTS)
    x = torch.rand(SLICES, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(of_rays.b, of_projections.b)
    torch.testing.assert_close(of_rays.psf, of_projections.psf)
    torch.testing.assert_close(of_rays.normal(x), of_projections.normal(x), rtol=1e-3, atol=1e-3)
    assert of_rays.weight == pytest.approx(of_projections.weight)


def test_slices_taken_apart_keep_their_rays(weighted):
    x = torch.rand(SLICES, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    for index in range(SLICES):
        alone = weighted.of_slices(torch.tensor([index]))
        torch.testing.assert_close(alone.normal(x[[index]]), weighted.normal(x)[[index]])


def test_what_was_added_is_taken_out_and_what_was_not_is_refused(weighted, projections, rays):
    few = ExplicitProjections(GEOMETRY)
    few.add(projections[1:], ANGLES[1:], weights=WEIGHTS[1:], ray_weights=rays[1:])
    weighted.remove(projections[:1], ANGLES[:1], weights=WEIGHTS[:1], ray_weights=rays[:1])
    x = torch.rand(SLICES, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(weighted.b, few.b, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(weighted.normal(x), few.normal(x))
    with pytest.raises(InputError, match="no projection at -60 degrees with these weights was added"):
        weighted.remove(projections[:1], ANGLES[:1], weights=WEIGHTS[:1], ray_weights=rays[:1])


@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf")])
def test_weights_that_are_none_are_refused(projections, rays, bad):
    rays[2, 1, 3] = bad
    with pytest.raises(InputError, match=r"ray weights must be finite, zero or positive, one a ray, \(16, 2, 12\)"):
        ExplicitProjections(GEOMETRY).add(projections, ANGLES, ray_weights=rays)


def test_weights_of_another_shape_are_refused(projections, rays):
    with pytest.raises(InputError, match=r"\(16, 2, 12\); got \(16, 2, 11\)"):
        ExplicitProjections(GEOMETRY).add(projections, ANGLES, ray_weights=rays[:, :, 1:])

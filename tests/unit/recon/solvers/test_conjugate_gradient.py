"""Conjugate gradient and its preconditioner against dense linear algebra."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.solvers.conjugate_gradient import (
    circulant_preconditioner,
    circulant_spectrum,
    conjugate_gradient,
)

SIZE, SLICES = 14, 3


@pytest.fixture
def data(disc, measure):
    geometry = ScanGeometry.from_detector(rows=SLICES, columns=SIZE, axis=6.9)
    angles = torch.linspace(-65, 65, 19)
    accumulators = NormalEquations(geometry)
    accumulators.add(measure(geometry, disc(SIZE, SLICES), angles, noise=0.02), angles)
    return accumulators


@pytest.fixture
def rho(data):
    return 0.1 * data.weight


@pytest.fixture
def system(data, rho):
    return lambda v: data.normal(v) + rho * v


@pytest.fixture
def dense_solution(data, rho, dense_matrix):
    matrix = dense_matrix(data.normal, SIZE) + rho * np.eye(SIZE**2)
    return np.linalg.solve(matrix, data.b.reshape(SLICES, -1).double().numpy().T).T.reshape(SLICES, SIZE, SIZE)


@pytest.mark.parametrize("preconditioned", [True, False])
def test_agrees_with_a_dense_solve(data, rho, system, dense_solution, preconditioned, relative_error):
    preconditioner = circulant_preconditioner(data, rho) if preconditioned else None
    x = conjugate_gradient(
        system, data.b, torch.zeros_like(data.b), iterations=150, tolerance=1e-6, preconditioner=preconditioner
    )
    assert relative_error(x, dense_solution) < 1e-4


@pytest.mark.parametrize("preconditioned", [True, False])
def test_error_after_few_iterations_is_that_of_textbook_conjugate_gradient(
    data, rho, system, dense_matrix, preconditioned, relative_error
):
    """Optimal over the Krylov space: minimises the energy error, here by dense least squares."""
    K = dense_matrix(data.normal, SIZE) + rho * np.eye(SIZE**2)
    pre = circulant_preconditioner(data, rho) if preconditioned else None
    M = dense_matrix(pre, SIZE) if preconditioned else np.eye(SIZE**2)
    b = data.b[0].reshape(-1).double().numpy()
    basis = [M @ b]
    for _ in range(3):
        basis.append(M @ (K @ (basis[-1] / np.linalg.norm(basis[-1]))))
    V = np.linalg.qr(np.stack(basis, axis=1))[0]
    expected = V @ np.linalg.solve(V.T @ K @ V, V.T @ b)

    x = conjugate_gradient(system, data.b, torch.zeros_like(data.b), iterations=4, preconditioner=pre)

    assert relative_error(x[0].reshape(-1), expected) < 1e-3


def test_slices_in_a_batch_get_what_each_alone_gets(data, rho, system):
    precondition = circulant_preconditioner(data, rho)
    factors = torch.tensor([1.0, 1e-3, 50.0])[:, None, None]
    scaled = data.b * factors
    start = factors * torch.rand(scaled.shape, generator=torch.Generator().manual_seed(0))

    def solve(b, start):
        return conjugate_gradient(system, b, start, iterations=9, preconditioner=precondition)

    together = solve(scaled, start)
    for index in range(SLICES):
        one = slice(index, index + 1)
        alone = solve(scaled[one], start[one])[0]
        torch.testing.assert_close(together[index], alone, rtol=1e-3, atol=1e-4 * float(alone.abs().max()))


def test_an_empty_slice_stays_zero_beside_others(data, system):
    b = data.b.clone()
    b[1] = 0.0
    x = conjugate_gradient(system, b, torch.zeros_like(b), iterations=30)
    assert torch.equal(x[1], torch.zeros_like(x[1]))
    assert torch.isfinite(x).all()


def test_starting_at_the_solution_stays_there(data, system, dense_solution, relative_error):
    start = torch.from_numpy(dense_solution).float()
    x = conjugate_gradient(system, data.b, start, iterations=5)
    assert relative_error(x, dense_solution) < 1e-4


def test_inputs_are_left_as_they_were(data, rho, system):
    b, start = data.b.clone(), torch.ones_like(data.b)
    conjugate_gradient(system, data.b, start, iterations=3)
    assert torch.equal(data.b, b)
    assert torch.equal(start, torch.ones_like(start))


def test_ends_once_every_slice_is_below_the_tolerance(data, system):
    calls = 0

    def counting(v):
        nonlocal calls
        calls += 1
        return system(v)

    x = conjugate_gradient(counting, data.b, torch.zeros_like(data.b), iterations=200, tolerance=1e-3)
    residual = (data.b - system(x)).flatten(1).norm(dim=1) / data.b.flatten(1).norm(dim=1)
    assert float(residual.max()) < 1.1e-3
    assert calls < 60


def test_goes_on_by_accuracy_where_the_residual_hardly_shows_what_is_missing(data, measure, disc):
    """A change that no projection sees: far below the data in the residual, all of the error in x."""
    rho = 1e-3 * data.weight

    def system(v):
        return data.normal(v) + rho * v

    unseen = disc(SIZE, SLICES)
    for _ in range(300):
        unseen = unseen - data.normal(unseen) / (20 * data.weight)
    unseen *= data.b.norm() / data.weight / unseen.norm()
    solve = partial(
        conjugate_gradient,
        system,
        data.b + rho * unseen,
        torch.zeros_like(data.b),
        preconditioner=circulant_preconditioner(data, rho),
    )
    by_residual, by_accuracy = solve(iterations=300, tolerance=2e-3), solve(iterations=300, accuracy=1e-5)
    exact = solve(iterations=600)
    assert float((by_accuracy - exact).norm()) < 0.1 * float((by_residual - exact).norm())


@pytest.mark.parametrize("angles", [[7.0], [-40.0, -38.0, 3.0, 3.0, 20.0], list(range(0, 180, 9))])
@pytest.mark.parametrize("size", [11, 14])
def test_preconditioner_is_symmetric_and_positive(angles, size, dense_matrix):
    data = NormalEquations(ScanGeometry.from_detector(rows=1, columns=size))
    data.add(torch.zeros(len(angles), 1, size), torch.tensor(angles))
    matrix = dense_matrix(circulant_preconditioner(data, 0.1 * data.weight), size)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6 * np.abs(matrix).max())
    assert np.linalg.eigvalsh(matrix).min() > 0


def test_circulant_is_the_nearest_to_the_operator(data, dense_matrix):
    """Each entry of the circulant is the mean of the operator's entries on its (wrapped) diagonal."""
    K = dense_matrix(data.normal, SIZE).reshape(SIZE, SIZE, SIZE, SIZE)
    first_column = np.zeros((SIZE, SIZE))
    rows, columns = np.indices((SIZE, SIZE))
    for dy in range(SIZE):
        for dx in range(SIZE):
            first_column[dy, dx] = K[(rows + dy) % SIZE, (columns + dx) % SIZE, rows, columns].mean()
    expected = np.fft.rfft2(first_column).real.clip(min=0)
    np.testing.assert_allclose(circulant_spectrum(data).numpy(), expected, atol=1e-4 * expected.max())


@pytest.fixture
def scan(disc, measure):
    """Builds the accumulators of a larger slice."""

    def build(angles):
        geometry = ScanGeometry.from_detector(rows=1, columns=64)
        data = NormalEquations(geometry)
        data.add(measure(geometry, disc(64), angles, noise=0.01), angles)
        return data

    return build


@pytest.mark.parametrize(("tolerance", "share"), [(1e-2, 0.75), (1e-3, 0.7), (1e-5, 0.65)])
@pytest.mark.parametrize("rho_share", [0.1, 0.5])
def test_preconditioner_needs_fewer_iterations_than_none(scan, rho_share, tolerance, share):
    data = scan(torch.linspace(-70, 70, 40))
    rho = rho_share * data.weight

    def iterations(preconditioner):
        count = 0

        def operator(v):
            nonlocal count
            count += 1
            return data.normal(v) + rho * v

        zero = torch.zeros_like(data.b)
        conjugate_gradient(operator, data.b, zero, iterations=200, tolerance=tolerance, preconditioner=preconditioner)
        return count - 1

    assert iterations(circulant_preconditioner(data, rho)) <= share * iterations(None)


def test_preconditioner_does_not_spoil_the_first_angles_of_a_scan(disc, measure, relative_error):
    """A few angles leave most frequencies unmeasured; dividing by next to nothing there would paint on the slice."""
    geometry = ScanGeometry.from_detector(rows=1, columns=64)
    angles = torch.linspace(-70, 70, 30)
    y = measure(geometry, disc(64), angles, noise=0.01)

    def live(iterations, preconditioned):
        """x after each of the first angles, every step warm-started from the last."""
        data = NormalEquations(geometry)
        x, history = torch.zeros_like(data.b), []
        for index in range(12):
            data.add(y[index : index + 1], angles[index : index + 1])
            rho = 0.5 * data.weight
            x = conjugate_gradient(
                lambda v, data=data, rho=rho: data.normal(v) + rho * v,
                data.b,
                x,
                iterations=iterations,
                preconditioner=circulant_preconditioner(data, rho) if preconditioned else None,
            )
            history.append(x)
        return history

    exact = live(100, preconditioned=False)
    with_one, without = live(6, preconditioned=True), live(6, preconditioned=False)
    for index in (2, 5, 8, 11):
        assert (
            relative_error(with_one[index], exact[index]) < 1.25 * relative_error(without[index], exact[index]) + 0.01
        )

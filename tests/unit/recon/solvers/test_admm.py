"""ADMM: right answers, warm across arriving angles, and an orderly stop."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.parameters import AdmmParameters
from pfitre_service.recon.robust_scale import robust_scale
from pfitre_service.recon.solvers.admm import Anchor, IncrementalAdmm, StoppingRule, TikhonovSolver, relative_distance
from pfitre_service.recon.solvers.data_step import data_step

SIZE = 14
ANGLES = torch.linspace(-80, 80, 24)
EXACT = AdmmParameters(tolerance=1e-5, cg_iterations=15)


@dataclass
class Quadratic:
    """Prox of mu/2 ||z||^2, with rho the solver's: the one prior whose answer linear algebra knows."""

    mu: float
    rho: float
    seen: list[torch.Tensor] = field(default_factory=list)
    scales: list[float] = field(default_factory=list)

    def __call__(self, v, scale):
        self.seen.append(v.clone())
        self.scales.append(scale)
        return v * (self.rho / (self.rho + self.mu))


@dataclass
class Unchanged:
    """Prox of nothing at all."""

    def __call__(self, v, scale):
        return v


@pytest.fixture
def geometry():
    return ScanGeometry.from_detector(rows=2, columns=SIZE)


@pytest.fixture
def bright(disc):
    """A slab that is positive everywhere, so that z >= 0 does not bind."""
    return disc(SIZE, 2) + 2.0


def accumulators(geometry, slab, angles, measure):
    """Sums of noiseless projections on a detector that sees the corners as well."""
    wide = ScanGeometry.from_detector(rows=geometry.rows, columns=2 * SIZE, size=SIZE)
    data = NormalEquations(wide)
    data.add(measure(wide, slab, angles), angles)
    return data


def test_a_quadratic_prior_gives_the_closed_form(geometry, bright, measure, dense_matrix, relative_error):
    data = accumulators(geometry, bright, ANGLES, measure)
    rho = EXACT.rho * data.weight
    mu = 0.5 * rho
    K = dense_matrix(data.normal, SIZE)
    exact = np.linalg.solve(K + mu * np.eye(SIZE**2), data.b.reshape(2, -1).double().numpy().T).T
    assert exact.min() > 0

    admm = IncrementalAdmm(data, Quadratic(mu, rho), EXACT)
    for _ in range(60):
        admm.step()

    assert relative_error(admm.state.x.reshape(2, -1), exact) < 1e-3
    assert relative_error(admm.state.z.reshape(2, -1), exact) < 1e-3
    assert admm.prior_gap < 1e-3


def test_warm_across_arriving_angles_ends_where_all_from_the_start_ends(geometry, disc, measure, relative_error):
    angles = torch.tensor([0.0, 31.0, -45.0, 62.0, -20.0, 75.0])
    data_of_all = accumulators(geometry, disc(SIZE, 2) - 0.3, angles, measure)  # negative parts: z >= 0 binds
    mu = 0.3 * EXACT.rho * data_of_all.weight
    cold = IncrementalAdmm(data_of_all, Quadratic(mu, EXACT.rho * data_of_all.weight), EXACT)

    data = accumulators(geometry, disc(SIZE, 2) - 0.3, angles[:2], measure)
    warm = IncrementalAdmm(data, Quadratic(mu, EXACT.rho * data.weight), EXACT)
    for first in range(2, 6, 2):
        warm.step()
        warm.step()
        data.merge(accumulators(geometry, disc(SIZE, 2) - 0.3, angles[first : first + 2], measure))
        warm.prior.rho = EXACT.rho * data.weight
    for admm in (warm, cold):
        for _ in range(80):
            admm.step()

    assert float(cold.state.z.min()) == 0.0
    assert relative_error(warm.state.z, cold.state.z) < 2e-3


def test_u_keeps_its_pull_when_the_data_grow(geometry, bright, measure):
    """rho u is the multiplier, in the data's units: more angles raise rho, so u shrinks by as much."""
    data = accumulators(geometry, bright, ANGLES[:8], measure)
    prior = Quadratic(mu=5.0, rho=5.0)
    admm = IncrementalAdmm(data, prior)
    admm.step()
    multiplier = admm.state.u * admm.state.rho
    data.merge(accumulators(geometry, bright, ANGLES[8:], measure))
    admm.step()
    u_used = prior.seen[-1] - admm.state.x  # v = x + u
    assert admm.state.rho == pytest.approx(AdmmParameters().rho * len(ANGLES))
    torch.testing.assert_close(u_used * admm.state.rho, multiplier, rtol=1e-3, atol=1e-3)


def test_the_result_is_never_negative(geometry, disc, measure):
    data = accumulators(geometry, disc(SIZE, 2) - 0.5, ANGLES, measure)
    admm = IncrementalAdmm(data, Unchanged())
    for _ in range(3):
        admm.step()
        assert float(admm.state.z.min()) >= 0.0


def test_scale_follows_the_result_slowly(geometry, bright, measure):
    data = accumulators(geometry, bright, ANGLES[:4], measure)
    prior = Quadratic(1.0, 10.0)
    admm = IncrementalAdmm(data, prior)
    admm.step()
    first = robust_scale(admm.state.x)
    data.merge(accumulators(geometry, bright, ANGLES[4:], measure))
    admm.step()
    now = robust_scale(admm.state.x)
    assert now != pytest.approx(first)
    assert prior.scales == pytest.approx([first, 0.7 * first + 0.3 * now])


def test_a_step_without_angles_does_nothing(geometry):
    admm = IncrementalAdmm(NormalEquations(geometry), Unchanged())
    assert math.isnan(admm.step())
    assert admm.state.iterations == 0
    assert math.isnan(TikhonovSolver(NormalEquations(geometry)).step())


def test_an_anchor_draws_the_result_to_its_picture(geometry, bright, measure, relative_error):
    """With a prior that says nothing, ADMM ends at argmin 1/2 ||A x - y||^2_W + share W / 2 ||x - picture||^2."""
    data, picture = accumulators(geometry, bright, ANGLES, measure), bright.flip(-1)
    admm = IncrementalAdmm(data, Unchanged(), EXACT)
    admm.anchor = Anchor(picture, 2.0)
    for _ in range(60):
        admm.step()
    expected = data_step(data, picture, 2.0 * data.weight, picture, 100)
    assert relative_error(admm.state.x, expected) < 1e-3
    assert relative_error(expected, bright) > 0.01


def test_solve_stops_when_steps_stay_small(geometry, bright, measure):
    data = accumulators(geometry, bright, ANGLES, measure)
    admm = IncrementalAdmm(data, Unchanged())
    taken = admm.solve()
    assert 3 <= taken < AdmmParameters().max_iterations
    assert admm.state.iterations == taken
    assert admm.step() < AdmmParameters().tolerance


def test_solve_gives_up_at_its_limit(geometry, bright, measure):
    data = accumulators(geometry, bright, ANGLES, measure)
    admm = IncrementalAdmm(data, Unchanged(), AdmmParameters(tolerance=1e-12))
    assert admm.solve(max_iterations=4) == 4


def test_physics_alone_agrees_with_a_dense_solve(geometry, bright, measure, dense_matrix, relative_error):
    data = accumulators(geometry, bright, ANGLES, measure)
    solver = TikhonovSolver(data)
    for _ in range(40):
        change = solver.step()
    K = dense_matrix(data.normal, SIZE) + solver.parameters.physics_rho * data.weight * np.eye(SIZE**2)
    exact = np.linalg.solve(K, data.b.reshape(2, -1).double().numpy().T).T
    assert relative_error(solver.x.reshape(2, -1), exact) < 1e-3
    assert change < 1e-4


class TestStoppingRule:
    def test_needs_three_quiet_steps_in_a_row(self):
        stop = StoppingRule(0.01, 100)
        changes = [0.5, 0.001, 0.001, 0.2, 0.001, 0.001, 0.001]
        assert [stop(change) for change in changes] == [False] * 6 + [True]
        assert stop.steps == 7

    def test_ends_at_the_limit(self):
        stop = StoppingRule(0.01, 3)
        assert [stop(1.0) for _ in range(3)] == [False, False, True]

    def test_ends_when_the_held_out_error_has_been_above_its_least_for_three_steps(self):
        stop = StoppingRule(0.01, 100)
        errors = [0.5, 0.3, 0.31, 0.32, 0.3, 0.29, 0.31, 0.30, 0.305]
        assert [stop(1.0, error) for error in errors] == [False] * 8 + [True]

    def test_a_step_without_meaning_is_not_a_quiet_one(self):
        stop = StoppingRule(0.01, 10)
        assert not any(stop(change) for change in [0.001, 0.001, math.nan, 0.001, 0.001])


def test_distance_is_relative_to_the_first():
    assert relative_distance(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0])) == pytest.approx(0.5)
    assert relative_distance(torch.zeros(3), torch.ones(3)) == math.inf
    assert relative_distance(torch.zeros(3), torch.zeros(3)) == 0.0


@pytest.mark.parametrize("name", ["rho", "physics_rho", "tolerance"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_parameters_that_mean_nothing_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a positive number"):
        AdmmParameters(**{name: value})


@pytest.mark.parametrize("name", ["cg_iterations", "max_iterations"])
def test_counts_start_at_one(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        AdmmParameters(**{name: 0})

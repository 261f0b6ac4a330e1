"""Rounds of data step and network: no multiplier, and a pull that the held-out angles choose."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.data_term import relative_residual
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.parameters import AdmmParameters
from pfitre_service.recon.robust_scale import robust_scale
from pfitre_service.recon.solvers.admm import relative_distance
from pfitre_service.recon.solvers.data_step import data_step
from pfitre_service.recon.solvers.prior_rounds import MOST_ASKED, RHO_SHARES, LearnedSolver

SIZE = 24
ANGLES = torch.linspace(-80, 80, 24)
PARAMETERS = AdmmParameters()


class Network:
    """Answers `answer` of what it is given."""

    name = "guess"
    directions = 6

    def __init__(self, answer: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.answer = answer
        self.seen: list[torch.Tensor] = []
        self.scales: list[float] = []

    def observe(self, physics, smooth, coverage) -> None:
        """Nothing is needed."""

    def __call__(self, v: torch.Tensor, scale: float) -> torch.Tensor:
        self.seen.append(v.clone())
        self.scales.append(scale)
        return self.answer(v)


@pytest.fixture
def truth(disc) -> torch.Tensor:
    return disc(SIZE, 2)


@pytest.fixture
def noisy(truth, measure, split) -> tuple[NormalEquations, NormalEquations]:
    geometry = ScanGeometry.from_detector(rows=2, columns=SIZE)
    rows = measure(geometry, truth, ANGLES, noise=0.05)
    return split(geometry, rows, ANGLES, torch.arange(len(ANGLES)) % 4 == 1)


def learned(data: NormalEquations, answer) -> LearnedSolver:
    return LearnedSolver(data, Network(answer), PARAMETERS)


def test_first_sees_the_starting_picture_held_against_the_data(noisy, truth):
    data, heldout = noisy
    solver = learned(data, lambda v: v)
    solver.step(0.5 * truth, 1, heldout)
    rho = PARAMETERS.rho * data.weight
    expected = data_step(data, 0.5 * truth, rho, 0.5 * truth, PARAMETERS.cg_iterations)
    assert torch.equal(solver.prior.seen[0], expected)
    assert solver.prior.scales == [robust_scale(expected)]


def test_each_round_goes_on_from_the_last_answer(noisy, truth):
    data, heldout = noisy
    solver = learned(data, lambda v: 0.5 * v.flip(-1))
    first = solver.step(truth, 1, heldout)
    assert torch.equal(first.z, 0.5 * solver.prior.seen[0].flip(-1).clamp_min(0))
    solver.step(truth, 1, heldout)
    rho = min(first.rho_ratio, MOST_ASKED) * data.weight
    expected = data_step(data, first.z, rho, first.z, PARAMETERS.cg_iterations)
    assert relative_distance(solver.prior.seen[1], expected) < 1e-6


def test_an_answer_is_never_negative(noisy, truth):
    assert float(learned(noisy[0], lambda v: v - 1).step(truth, 1, noisy[1]).z.min()) == 0.0


def errors_of(data, heldout, z) -> dict[float, float]:
    steps = {share: data_step(data, z, share * data.weight, z, PARAMETERS.cg_iterations) for share in RHO_SHARES}
    return {share: relative_residual(heldout, x) for share, x in steps.items()}


def test_the_pull_and_the_error_are_those_of_the_rho_that_predicts_held_out_angles_best(noisy, truth):
    data, heldout = noisy
    found = learned(data, lambda v: truth.roll(1, -1)).step(truth, 1, heldout)
    errors = errors_of(data, heldout, found.z)
    best = min(errors, key=errors.get)
    assert RHO_SHARES[0] < best < RHO_SHARES[-1]
    assert found.rho_ratio == best
    assert found.heldout_error == errors[best]


def test_the_truth_deserves_a_larger_pull_than_something_else(noisy, truth):
    data, heldout = noisy
    true = learned(data, lambda v: truth).step(truth, 1, heldout).rho_ratio
    assert learned(data, lambda v: 5 * truth.flip(-1)).step(truth, 1, heldout).rho_ratio < 0.1 * true


def test_a_limit_holds(noisy, truth):
    solver = learned(noisy[0], lambda v: truth)
    solver.most_rho_share = 0.3
    assert solver.step(truth, 1, noisy[1]).rho_ratio == 0.3


def test_where_nothing_is_held_out_the_pull_stays_and_the_error_is_unknown(noisy, truth):
    data, _ = noisy
    found = learned(data, lambda v: truth).step(truth, 1, NormalEquations(data.geometry))
    assert found.rho_ratio == PARAMETERS.rho
    assert math.isnan(found.heldout_error)


def test_scale_follows_the_picture_slowly(noisy, truth):
    solver = learned(noisy[0], lambda v: 3 * v)
    solver.step(truth, 1, noisy[1])
    first = solver.scale
    solver.step(truth, 1, noisy[1])
    assert solver.scale == pytest.approx(0.7 * first + 0.3 * robust_scale(solver.prior.seen[1]))

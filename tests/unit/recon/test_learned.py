"""Rounds of data step and network: no multiplier, and a pull that the held-out angles choose."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from pfitre_service.model import ScanGeometry
from pfitre_service.recon.admm import data_step, relative_distance, robust_scale
from pfitre_service.recon.data_term import relative_residual
from pfitre_service.recon.learned import RHO_SHARES, WITHIN, LearnedSolver
from pfitre_service.recon.normal_equations import NormalEquations
from pfitre_service.recon.parameters import AdmmParameters

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
    geometry = ScanGeometry.of(rows=2, columns=SIZE)
    rows = measure(geometry, truth, ANGLES, noise=0.05)
    return split(geometry, rows, ANGLES, torch.arange(len(ANGLES)) % 4 == 1)


def learned(data: NormalEquations, answer) -> LearnedSolver:
    return LearnedSolver(data, Network(answer), PARAMETERS)


def test_first_sees_the_starting_picture_held_against_the_data(noisy, truth):
    data, heldout = noisy
    solver = learned(data, lambda v: v)
    solver.step(0.5 * truth, heldout)
    rho = PARAMETERS.rho * data.weight
    expected = data_step(data, 0.5 * truth, rho, 0.5 * truth, PARAMETERS.cg_iterations)
    assert torch.equal(solver.prior.seen[0], expected)
    assert solver.prior.scales == [robust_scale(expected)]


def test_each_round_goes_on_from_the_last_answer(noisy, truth):
    data, heldout = noisy
    solver = learned(data, lambda v: 0.5 * v.flip(-1))
    first = solver.step(truth, heldout)
    assert torch.equal(first.z, 0.5 * solver.prior.seen[0].flip(-1).clamp_min(0))
    solver.step(truth, heldout)
    assert relative_distance(solver.prior.seen[1], first.x) < 1e-6


def test_an_answer_is_never_negative(noisy, truth):
    assert float(learned(noisy[0], lambda v: v - 1).step(truth, noisy[1]).z.min()) == 0.0


def test_rho_is_the_largest_that_is_nearly_as_good_as_the_best(noisy, truth):
    data, heldout = noisy
    found = learned(data, lambda v: truth.roll(1, -1)).step(truth, heldout)
    errors = {}
    for share in RHO_SHARES:
        x = data_step(data, found.z, share * data.weight, found.z, PARAMETERS.cg_iterations)
        errors[share] = relative_residual(heldout, x)
    good = [share for share, error in errors.items() if error <= (1 + WITHIN) * min(errors.values())]
    assert found.rho_share == max(good)
    assert found.heldout_error == errors[found.rho_share]


def test_the_truth_deserves_the_largest_rho_and_something_else_the_smallest(noisy, truth):
    data, heldout = noisy
    assert learned(data, lambda v: truth).step(truth, heldout).rho_share == RHO_SHARES[-1]
    assert learned(data, lambda v: 5 * truth.flip(-1)).step(truth, heldout).rho_share <= RHO_SHARES[2]


def test_a_limit_holds(noisy, truth):
    solver = learned(noisy[0], lambda v: truth)
    solver.most_rho_share = 0.3
    assert solver.step(truth, noisy[1]).rho_share == 0.3


def test_where_nothing_is_held_out_rho_stays_and_the_error_is_unknown(noisy, truth):
    data, _ = noisy
    found = learned(data, lambda v: truth).step(truth, NormalEquations(data.geometry))
    assert found.rho_share == PARAMETERS.rho
    assert math.isnan(found.heldout_error)


def test_scale_follows_the_picture_slowly(noisy, truth):
    solver = learned(noisy[0], lambda v: 3 * v)
    solver.step(truth, noisy[1])
    first = solver.scale
    solver.step(truth, noisy[1])
    assert solver.scale == pytest.approx(0.7 * first + 0.3 * robust_scale(solver.prior.seen[1]))

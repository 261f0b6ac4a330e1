"""Physics, total variation and a network side by side: who is listened to, and when one is sent away."""

from __future__ import annotations

import math

import pytest
import torch

from pfitre_service.model import ScanGeometry
from pfitre_service.prior.parameters import TvParameters
from pfitre_service.prior.total_variation import TotalVariation
from pfitre_service.recon.operators.data_term import relative_residual
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.parameters import AdmmParameters
from pfitre_service.recon.solvers.pfitre import PfitreSolver

SIZE = 32
ANGLES = torch.arange(-40.0, 40.0, 4.0, dtype=torch.float64)
HELD = torch.arange(len(ANGLES)) % 8 == 4


class Answer:
    """A network that says the same whatever it is asked."""

    directions = 12
    name = "oracle"

    def __init__(self, picture: torch.Tensor) -> None:
        self.picture = picture
        self.shown: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def observe(self, physics, smooth, coverage) -> None:
        self.shown.append((physics, smooth, coverage))

    def __call__(self, v: torch.Tensor, scale: float) -> torch.Tensor:
        return self.picture


class Memory(Answer):
    """A network that knows no better than what it was shown first, from a few angles."""

    def __init__(self) -> None:
        super().__init__(torch.empty(0))

    def __call__(self, v: torch.Tensor, scale: float) -> torch.Tensor:
        if not self.picture.numel():
            self.picture = v.clone()
        return self.picture


@pytest.fixture
def truth(disc) -> torch.Tensor:
    return disc(SIZE, 2)


@pytest.fixture
def scan(truth, measure, split) -> tuple[NormalEquations, NormalEquations]:
    geometry = ScanGeometry.from_detector(rows=2, columns=SIZE)
    return split(geometry, measure(geometry, truth, ANGLES, 0.03), ANGLES, HELD)


def stepped(solver: PfitreSolver, steps: int) -> PfitreSolver:
    for _ in range(steps):
        solver.step()
    return solver


def settled(solver: PfitreSolver) -> PfitreSolver:
    while not solver.at_rest:
        solver.step()
    return solver


def distance(x: torch.Tensor, truth: torch.Tensor) -> float:
    return float((x - truth).norm() / truth.norm())


def test_without_any_prior_the_result_is_the_physics(scan):
    solver = stepped(PfitreSolver(*scan, classical=None), 3)
    assert torch.equal(solver.x, solver.physics.x)
    assert torch.equal(solver.z, solver.x)
    assert math.isnan(solver.prior_gap)
    assert solver.errors.result == solver.errors.physics == relative_residual(scan[1], solver.x)


def test_total_variation_chooses_its_weight_by_the_held_out_angles(scan, truth):
    solver = settled(PfitreSolver(*scan, classical=TotalVariation()))
    assert solver.classical.prior.weight != TotalVariation().weight
    fixed = settled(PfitreSolver(*scan, classical=TotalVariation(TvParameters(weight=0.01))))
    assert fixed.classical.prior.weight == 0.01
    assert solver.errors.result < fixed.errors.result
    assert distance(solver.x, truth) < distance(fixed.x, truth)


def test_the_weight_is_chosen_anew_only_when_the_data_have_grown_by_half(scan, truth, measure):
    data, heldout = scan
    solver = stepped(PfitreSolver(data, heldout, classical=TotalVariation()), 1)
    solver.classical.prior.weight = 3.0
    assert stepped(solver, 1).classical.prior.weight == 3.0
    more = torch.arange(44.0, 84.0, 4.0, dtype=torch.float64)
    data.add(measure(data.geometry, truth, more, 0.03), more)
    assert stepped(solver, 1).classical.prior.weight < 3.0


def test_a_network_is_shown_the_others_answers_and_the_measured_directions(scan, truth):
    network = Answer(truth)
    solver = stepped(PfitreSolver(*scan, classical=TotalVariation(), learned=network), 7)
    physics, smooth, coverage = network.shown[-1]
    assert torch.equal(physics, solver.physics.x)
    assert torch.equal(smooth, solver.classical.state.z)
    assert coverage.shape == (12,)
    assert float(coverage.max()) > 10 * float(coverage.min())


def test_a_network_that_knows_the_truth_is_followed_and_kept(scan, truth):
    solver = settled(PfitreSolver(*scan, classical=TotalVariation(), learned=Answer(truth)))
    assert solver.learned is not None
    assert not solver.remarks
    assert distance(solver.x, truth) < 0.2 * distance(solver.physics.x, truth)


def test_a_network_that_does_harm_is_turned_down_then_dropped_and_says_so(scan, truth):
    solver = PfitreSolver(*scan, classical=TotalVariation(), learned=Answer(truth.flip(-1) * 2))
    while not solver.remarks:
        solver.step()
    assert len(solver.remarks) == 1
    assert "downweighted" in solver.remarks[0]
    assert solver.learned.most_rho_share == 0.3
    settled(solver)
    assert solver.learned is None
    assert "oracle was dropped for total variation" in solver.remarks[1]
    assert torch.equal(solver.x, solver.classical.state.x)
    alone = settled(PfitreSolver(*scan, classical=TotalVariation()))
    assert solver.errors.result == pytest.approx(alone.errors.result, rel=0.05)


def test_what_is_shown_while_angles_come_is_never_clearly_worse_than_without_the_network(truth, measure):
    angles = torch.arange(-80.0, 80.0, 4.0, dtype=torch.float64)
    geometry = ScanGeometry.from_detector(rows=2, columns=SIZE)
    rows, held = measure(geometry, truth, angles, 0.03), torch.arange(len(angles)) % 8 == 4
    data, heldout = NormalEquations(geometry), NormalEquations(geometry)
    solver = PfitreSolver(data, heldout, classical=TotalVariation(), learned=Memory())
    learned = []
    for first in range(0, len(angles), 5):
        for accumulator, chosen in ((data, ~held), (heldout, held)):
            now = chosen & (torch.arange(len(angles)) >= first) & (torch.arange(len(angles)) < first + 5)
            if now.any():
                accumulator.add(rows[now], angles[now])
        solver.wake()
        stepped(solver, 3)
        learned.append(solver.errors.learned / solver.errors.without_network)
        assert not solver.errors.result > 1.04 * solver.errors.without_network
    assert max(learned[2:]) > 1.04  # the network's answer itself would have been


def test_nothing_is_judged_where_nothing_will_be_held_out(scan, truth):
    data, _ = scan
    nothing, harmful = NormalEquations(data.geometry), Answer(truth.flip(-1) * 2)
    solver = PfitreSolver(data, nothing, classical=TotalVariation(), learned=harmful, watched=False)
    settled(solver)
    assert harmful.shown
    assert solver.learned is not None
    assert solver.classical.prior.weight == TotalVariation().weight


def test_a_network_that_shall_be_watched_waits_for_the_first_held_out_angle(scan, truth):
    data, heldout = scan
    network = Answer(truth)
    solver = PfitreSolver(data, NormalEquations(data.geometry), classical=TotalVariation(), learned=network)
    settled(solver)
    assert not network.shown
    solver.use(data, heldout)
    stepped(solver, 4)
    assert network.shown


def test_the_answer_that_counts_is_the_one_that_foretells_the_held_out_angles_best(scan, truth):
    class Drifting(Answer):
        def __call__(self, v, scale):
            self.picture = self.picture * 1.2
            return self.picture

    solver = settled(PfitreSolver(*scan, classical=TotalVariation(), learned=Drifting(truth / 1.2)))
    assert distance(solver.z, truth) < 1e-6
    assert solver.errors.result == relative_residual(scan[1], solver.x)
    assert solver.errors.result < relative_residual(scan[1], solver.physics.x)


def test_the_result_is_drawn_to_the_answer_where_nothing_was_measured(scan, truth):
    solver = settled(PfitreSolver(*scan, classical=TotalVariation(), learned=Answer(truth)))
    assert distance(solver.x, truth) < 0.5 * distance(solver.classical.state.x, truth)


def test_it_is_asked_twice_from_total_variation_on_and_anew_when_there_are_new_data(scan, truth, measure):
    data, heldout = scan
    network = Answer(truth)
    solver = settled(PfitreSolver(data, heldout, classical=TotalVariation(), learned=network))
    assert len(network.shown) == 2
    more = torch.tensor([60.0], dtype=torch.float64)
    data.add(measure(data.geometry, truth, more, 0.03), more)
    solver.wake()
    settled(solver)
    assert len(network.shown) == 4


def test_an_answer_that_does_clearly_better_with_the_data_alone_is_shown_so(truth, measure, split):
    geometry = ScanGeometry.from_detector(rows=2, columns=SIZE)
    truth = truth * torch.rand(truth.shape, generator=torch.Generator().manual_seed(5))  # nothing is flat in it
    data, heldout = split(geometry, measure(geometry, truth, ANGLES, 0.03), ANGLES, HELD)
    oversmooth = TotalVariation(TvParameters(weight=3.0))
    solver = settled(PfitreSolver(data, heldout, classical=oversmooth, learned=Answer(0.8 * truth)))
    assert solver.errors.unregularised_is_better
    assert torch.equal(solver.x, solver.best.x)
    assert solver.errors.result == relative_residual(heldout, solver.x) < relative_residual(heldout, solver.guided.x)
    before = distance(solver.x, truth)
    solver.refit()
    shown = solver.x
    settled(solver)
    assert torch.equal(solver.x, shown)  # all that was to do was done at once
    assert distance(solver.x, truth) < 1.1 * before


def test_each_solver_rests_by_itself_and_all_move_again_when_there_are_new_data(scan, truth, measure):
    data, heldout = scan
    solver = settled(PfitreSolver(data, heldout, classical=TotalVariation(), learned=Answer(truth)))
    still = solver.x
    assert solver.step() == 0.0
    assert torch.equal(solver.x, still)
    more = torch.tensor([60.0], dtype=torch.float64)
    data.add(measure(data.geometry, truth, more, 0.03), more)
    solver.wake()
    assert not solver.at_rest
    assert solver.step() > 0.0


def test_never_more_steps_than_allowed(scan, truth):
    few = AdmmParameters(max_iterations=7, tolerance=1e-9)
    solver = PfitreSolver(*scan, classical=TotalVariation(), learned=Answer(truth), parameters=few)
    steps = 0
    while not solver.at_rest:
        solver.step()
        steps += 1
    assert steps == 7
    solver.refit()
    while not solver.at_rest:
        solver.step()
        steps += 1
    assert steps <= 14


def test_a_network_needs_total_variation_beside_it(scan, truth):
    with pytest.raises(ValueError, match="give one beside it"):
        PfitreSolver(*scan, classical=None, learned=Answer(truth))


def test_a_refit_takes_in_every_angle_and_keeps_the_answer(scan, truth):
    data, heldout = scan
    network = Answer(truth)
    solver = settled(PfitreSolver(data, heldout, classical=TotalVariation(), learned=network))
    before, asked = solver.x, len(network.shown)
    solver.refit()
    assert data.angles == len(ANGLES)
    settled(solver)
    assert len(network.shown) == asked
    assert torch.equal(solver.z, truth)
    assert 0 < distance(solver.x, before) < 0.05
    assert solver.errors.result > 0  # as it was before nothing was held out any more


def test_a_refit_drops_a_network_that_has_just_been_asked_and_does_harm(scan, truth):
    data, heldout = scan
    harmful = Answer(truth.flip(-1) * 20)
    short = AdmmParameters(max_iterations=1)
    solver = settled(PfitreSolver(data, heldout, classical=TotalVariation(), learned=harmful, parameters=short))
    assert not harmful.shown
    solver.refit()
    assert data.angles == len(ANGLES)
    assert len(harmful.shown) == 1
    assert solver.learned is None
    assert torch.equal(solver.x, solver.classical.state.x)
    assert "dropped" in solver.remarks[-1]


class TestProjectionsThatDoNotFitTogether:
    @pytest.fixture
    def noise(self, scan):
        solved, heldout = scan
        generator = torch.Generator().manual_seed(6)
        for data, angles in ((solved, ANGLES[~HELD]), (heldout, ANGLES[HELD])):
            data.add(torch.randn(len(angles), 2, SIZE, generator=generator) * 50, angles)
        return solved, heldout

    def test_never_meet_the_network_and_end_without_it(self, noise, truth):
        network = Answer(truth)
        solver = stepped(PfitreSolver(*noise, classical=TotalVariation(), learned=network), 12)
        assert solver.errors.outside_training
        assert torch.equal(solver.x, solver.classical.state.x)
        assert not solver.remarks  # more angles may still make sense of them
        solver.refit()
        assert not network.shown
        assert solver.learned is None
        assert "do not fit together" in solver.remarks[0]

    def test_are_forgiven_when_more_angles_make_sense_of_them(self, noise, truth, measure):
        data, _ = noise
        network = Answer(truth)
        solver = stepped(PfitreSolver(*noise, classical=TotalVariation(), learned=network), 4)
        fresh, unseen = NormalEquations(data.geometry), NormalEquations(data.geometry)
        rows = measure(data.geometry, truth, ANGLES, 0.03)
        fresh.add(rows[~HELD], ANGLES[~HELD])
        unseen.add(rows[HELD], ANGLES[HELD])
        solver.use(fresh, unseen)
        settled(solver)
        assert network.shown
        assert solver.best is not None

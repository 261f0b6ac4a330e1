"""The methods that the quality benchmark compares; each (slices, size, size) float32 from the same measured angles.

What is free to choose is chosen in favour of the classical answers: filtered back-projection gets the gain that fits
the rays best; total variation gets, for every case, the weight and the iterate that are best against the truth. What a
user gets with `--prior tv` is measured beside it: there the held-out angles choose, as they do for PFITRE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pfitre_service.bench.quality.cases import Measurement
from pfitre_service.bench.quality.log_grid import Trials, search
from pfitre_service.prior.architectures import build
from pfitre_service.prior.network import DIRECTIONS
from pfitre_service.prior.network_prior import NetworkPrior
from pfitre_service.prior.parameters import TvParameters
from pfitre_service.prior.registry import WeightsInfo, load
from pfitre_service.prior.total_variation import TotalVariation
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.parameters import AdmmParameters
from pfitre_service.recon.quality.coverage import directional_coverage
from pfitre_service.recon.robust_scale import robust_scale
from pfitre_service.recon.solvers.admm import IncrementalAdmm, StoppingRule, TikhonovSolver
from pfitre_service.recon.solvers.data_step import data_step
from pfitre_service.recon.solvers.filtered_backprojection import FilteredBackprojection
from pfitre_service.recon.solvers.pfitre import HINT_STEPS, PfitreSolver
from pfitre_service.recon.solvers.tv_weight import best_weight

HELDOUT_EVERY = 8
_TV_START = 0.15
_TV_TOLERANCE = 5e-4
_PHYSICS_STEPS = 20

Figure = Callable[[Tensor], float]
"""What a picture is worth, the higher the better."""


@dataclass(frozen=True, eq=False)
class Tuned:
    """The best that total variation does on one case."""

    pictures: tuple[Tensor, ...]
    """For each figure, the picture that is best in it."""
    trials: Trials


def load_network(name: str, folder: Path | None = None) -> tuple[nn.Module, WeightsInfo]:
    """The network with its trained weights. Raises as `prior.weights.load` and `prior.architectures.build` do."""
    state, info = load(name, folder)
    network = build(info.architecture)
    network.load_state_dict(state)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave it out
    return network.eval(), info


def heldout(angles: int) -> Tensor:
    """Which of so many angles are held out, (angle,) bool: every eighth, as in a live scan."""
    return torch.arange(angles) % HELDOUT_EVERY == HELDOUT_EVERY // 2


def filtered_backprojection(measurement: Measurement, data: NormalEquations) -> Tensor:
    """With the least-squares gain against the rays."""
    sum_ = FilteredBackprojection(measurement.geometry)
    sum_.add(*measurement.views)
    return sum_.volume(data)


def tuned_total_variation(data: NormalEquations, figures: tuple[Figure, ...], iterations: int) -> Tuned:
    """Every weight from zero to convergence, or `iterations`. The first figure also chooses the iterate, of x and z
    alike; the others choose between that one and the last."""
    pictures: dict[float, tuple[Tensor, ...]] = {}

    def evaluate(weight: float) -> tuple[float, ...]:
        best, last = _iterates(data, weight, figures[0], iterations)
        pictures[weight] = (best, *(max(best, last, key=figure) for figure in figures[1:]))
        return tuple(figure(picture) for figure, picture in zip(figures, pictures[weight], strict=True))

    trials = search(evaluate, _TV_START)
    best = tuple(pictures[trials.weight(trials.best(index))][index] for index in range(len(figures)))
    return Tuned(best, trials)


def _iterates(data: NormalEquations, weight: float, figure: Figure, iterations: int) -> tuple[Tensor, Tensor]:
    """The best and the last."""
    exact = AdmmParameters(tolerance=_TV_TOLERANCE)
    admm = IncrementalAdmm(data, TotalVariation(TvParameters(weight=weight)), exact)
    stop = StoppingRule(exact.tolerance, iterations)
    best = admm.state.x
    score = figure(best)
    done = False
    while not done:
        done = stop(admm.step())
        for picture in (admm.state.x, admm.state.z):
            reached = figure(picture)
            if reached > score:
                best, score = picture, reached
    return best, admm.state.z


def physics(data: NormalEquations, parameters: AdmmParameters) -> Tensor:
    """The data alone, until it settles."""
    solver = TikhonovSolver(data, parameters)
    stop = StoppingRule(parameters.tolerance, _PHYSICS_STEPS)
    while not stop(solver.step()):
        pass
    return solver.x


def one_pass(
    data: NormalEquations, heldout: NormalEquations, prior: NetworkPrior, parameters: AdmmParameters
) -> Tensor:
    """The prior, once, on all data, asked as the solver asks it first: on the data step from total variation's answer,
    and shown the data alone beside it."""
    weight = best_weight(data, heldout, TotalVariation(), parameters)
    everything = _together(data, heldout)
    alone = physics(everything, parameters)
    classical = IncrementalAdmm(everything, TotalVariation(TvParameters(weight=weight)), parameters)
    for _ in range(HINT_STEPS):
        classical.step()
    smooth = classical.state.z
    prior.observe(alone, smooth, directional_coverage(everything, DIRECTIONS))
    start = data_step(everything, smooth, parameters.rho * everything.weight, smooth, parameters.cg_iterations)
    return prior(start, robust_scale(start))


def one_pass_and_data(
    data: NormalEquations, heldout: NormalEquations, prior: NetworkPrior, parameters: AdmmParameters
) -> Tensor:
    """The same, and a data step after it."""
    guess = one_pass(data, heldout, prior, parameters)
    everything = _together(data, heldout)
    return data_step(everything, guess, parameters.rho * everything.weight, guess, parameters.cg_iterations)


def served(
    data: NormalEquations, heldout: NormalEquations, prior: NetworkPrior | None, parameters: AdmmParameters
) -> Tensor:
    """PFITRE, or total variation where there is no network, as the live engine does it: all solvers until they rest;
    then as many steps at most with the held-out angles given to them too. `data` and `heldout` stay as they are."""
    apart = _together(data), heldout
    solver = PfitreSolver(*apart, classical=TotalVariation(), learned=prior, parameters=parameters)
    _until_rest(solver)
    solver.refit()
    _until_rest(solver)
    return solver.x


def _until_rest(solver: PfitreSolver) -> None:
    while not solver.at_rest:
        solver.step()


def _together(*parts: NormalEquations) -> NormalEquations:
    """All measurements, in accumulators of their own."""
    everything = NormalEquations(parts[0].geometry, slices=parts[0].slices, device=parts[0].device)
    for part in parts:
        everything.merge(part)
    return everything

"""PFITRE on one tomogram: the data alone, total variation, and a network, side by side on the same accumulators.

    physics     the data alone (Tikhonov)
    classical   ADMM with total variation, its weight chosen by the held-out angles: what the network is compared
                with, one of the things it is shown, and what takes its place when the held-out angles speak against it
    learned     a few rounds of data step and network; the last answer that predicted the held-out angles as well counts
    guided      the classical ADMM drawn to that answer: the result, as long as the answer predicts the held-out angles
                as well as what can be had without a network

What was measured is total variation's matter, which knows no object from another; what was not is the network's, as far
as nothing that was measured speaks against it. Where the answer held against the data alone predicts the held-out
angles clearly better than with total variation besides, that is the result.

Each is warm across arriving angles and comes to rest by a `StoppingRule` of its own. After `HINT_STEPS` steps of
the classical one the network has its rounds, and the guided one goes on from there. When more angles have come, the
network is asked again.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace

from torch import Tensor

from pfitre_service.recon.operators.data_term import DataTerm, relative_residual
from pfitre_service.recon.parameters import AdmmParameters
from pfitre_service.recon.quality.coverage import directional_coverage
from pfitre_service.recon.solvers.admm import (
    Anchor,
    IncrementalAdmm,
    StoppingRule,
    TikhonovSolver,
    relative_distance,
)
from pfitre_service.recon.solvers.prior_rounds import LearnedPrior, LearnedSolver, Round
from pfitre_service.recon.solvers.prior_selection import HeldoutErrors, PriorMonitor, is_better
from pfitre_service.recon.solvers.tv_weight import FEWEST_HELD_OUT, AdjustablePrior, best_weight

_GROWTH = 1.5
"""The weight is chosen anew each time that so many times as many angles are in."""
HINT_STEPS = 6
"""Steps of the classical solver after which the network is first asked: as in training, where it never saw total
variation come to its end. Asked then, its answers do worse with every round (digital twin, five families, 100 degrees
missing, two rounds: 22.6 dB after 6 steps, 22.2 after 12, 21.9 after 30)."""
_ASK_EVERY = 4
"""Steps between one time that the network is asked and the next, while angles keep coming."""
_TRIED = 3
"""Steps after which the guided solver has shown whether it comes near what the answer alone predicts."""
_ROUNDS = 2
"""Rounds of the network from total variation on: about as many as it saw in training. More drift to what it likes to
see, and no projection speaks against that (digital twin, 150 degrees missing: up to 4 dB in four rounds)."""
_TURNED_DOWN = 0.3
"""The most that a network which was downweighted may pull on the data step, as a share of the summed weights."""


class PfitreSolver:
    """All solvers of one tomogram.

    Parameters
    ----------
    data
        Accumulators of the angles that are solved for.
    heldout
        Accumulators of those that are held out.
    classical
        Total variation; with None the result is the physics.
    learned
        The network; None for none.
    parameters
        Balance, iterations and tolerance; the defaults for None.
    watched
        Whether angles are, or will be, held out; the network waits for the first of them.

    Raises
    ------
    ValueError
        There is a network with no classical prior beside it.
    """

    def __init__(
        self,
        data: DataTerm,
        heldout: DataTerm,
        *,
        classical: AdjustablePrior | None,
        learned: LearnedPrior | None = None,
        parameters: AdmmParameters | None = None,
        watched: bool = True,
    ) -> None:
        if learned is not None and classical is None:
            raise ValueError("a network guides the classical prior: give one beside it")
        self.parameters = parameters if parameters is not None else AdmmParameters()
        self.watched = watched
        self.physics = TikhonovSolver(data, self.parameters)
        self.classical = None if classical is None else IncrementalAdmm(data, classical, self.parameters)
        self._adjustable = None if classical is None or not classical.adjustable else classical
        self.learned = None if learned is None else LearnedSolver(data, learned, self.parameters)
        self.guided: IncrementalAdmm | None = None
        """None before the network was asked."""
        self.heldout = heldout
        self.errors = HeldoutErrors()
        self.remarks: list[str] = []
        """What a person should know of the prior's fate."""
        self.best: Round | None = None
        """The network's best answer on these data; None before it was asked."""
        self._watch = PriorMonitor(patience=_ROUNDS)
        self._adjusted_at = 0
        self._steps = 0
        self._rounds = 0
        self._guided_steps = 0
        """Since the guided solver was given its last answer."""
        self._begin(self.parameters.max_iterations)
        self._stale = False
        """Whether there are data that the network was not asked about, nor `best` measured on."""

    def use(self, data: DataTerm, heldout: DataTerm) -> None:
        """Goes on with other accumulators of the same slices, whatever the axis, from the volumes as they are.

        Parameters
        ----------
        data, heldout
            As at the beginning.
        """
        self.heldout = heldout
        for solver in (self.physics, self.classical, self.learned, self.guided):
            if solver is not None:
                solver.data = data
        self._adjusted_at = 0
        self.wake()

    def wake(self) -> None:
        """The accumulators have changed: what rested may move again, and what was best is to be found anew."""
        self._begin(self.parameters.max_iterations)
        self._stale = True

    def _begin(self, most_steps: int) -> None:
        self._resting: set[TikhonovSolver | IncrementalAdmm | LearnedSolver] = set()
        self._rules: dict[TikhonovSolver | IncrementalAdmm, StoppingRule] = {}
        self._measured: dict[TikhonovSolver | IncrementalAdmm, tuple[Tensor, float]] = {}
        """Volumes and their errors on the held-out angles."""
        self._began_at, self._most_steps = self._steps, most_steps

    @property
    def at_rest(self) -> bool:
        """Whether another step would change nothing worth while, or has become one too many."""
        if self._steps - self._began_at >= self._most_steps:
            return True
        solvers = (self.physics, self.classical, self.guided, self.learned if self._listens else None)
        return all(solver is None or solver in self._resting for solver in solvers)

    def refit(self) -> None:
        """Gives the held-out angles to the data as well; at most as many steps follow as were taken so far. Nothing can
        tell any more when a further round does harm: the network's best answer stays. A network that has done worse
        until now than what can be had without it is dropped."""
        if self.errors.outside_training:
            self.drop_network(
                f"the projections do not fit together (held-out error {self.errors.without_network:.3g} without it) as "
                "they did in all that it was trained on"
            )
        never_asked = self.best is None and (self.heldout.angles > 0 or not self.watched)
        if self.learned is not None and self.classical is not None and never_asked:
            self._ask(self.learned, self.classical)
        if self.errors.harmful:
            self.drop_network(_found(self.errors))
        taken, everything = self._steps - self._began_at, self.physics.data
        everything.merge(self.heldout)
        self.use(everything, everything.empty())
        self._begin(taken)
        if self.learned is None or self.classical is None or self.guided is None or self.best is None:
            return
        self._resting.update((self.classical, self.learned))
        if self.errors.unregularised_is_better:
            self._resting.add(self.guided)
            self.best = replace(self.best, x=self.learned.from_data(self.best))

    @property
    def x(self) -> Tensor:
        """The result, (slices, size, size) float32."""
        solver = self._result
        if solver is None:
            return self.physics.x
        if solver is self.guided and self.best is not None and self.errors.unregularised_is_better:
            return self.best.x
        return solver.x

    @property
    def z(self) -> Tensor:
        """What the prior makes of it; the result itself without a prior."""
        solver = self._result
        if solver is None:
            return self.physics.x
        return solver.state.z if solver.anchor is None else solver.anchor.picture

    @property
    def _result(self) -> IncrementalAdmm | None:
        """The solver whose volume is shown, None for the physics alone: the guided one, unless the held-out angles
        speak against its network now."""
        return self.classical if self.guided is None or self.errors.harmful else self.guided

    @property
    def prior_gap(self) -> float:
        """||z - x|| / ||x||: how far prior and data disagree; NaN without a prior."""
        return math.nan if self.learned is None and self.classical is None else relative_distance(self.x, self.z)

    def step(self) -> float:
        """One step of each solver that moves, or a round of the network; returns the largest relative change,
        ||x - x_previous|| / ||x||."""
        self._steps += 1
        changes = [self._move(self.physics)]
        if self.errors.outside_training:
            self.best = self.guided = None
        if self.learned is not None and self.classical is not None and self._due(self.classical):
            changes.append(self._ask(self.learned, self.classical))
            self._judge()
            return max(changes)
        self._adjust()
        changes += [self._move(solver) for solver in (self.classical, self.guided) if solver is not None]
        self._guided_steps += 1
        self._measure()
        if self.guided is not None and self._guided_steps >= _TRIED and self.errors.unregularised_is_better:
            self._resting.add(self.guided)
        return changes[-1] if self.learned is None else max(changes)

    def _adjust(self) -> None:
        """Chooses the classical prior's weight anew when the data have grown by half since the last time."""
        data, prior = self.physics.data, self._adjustable
        if prior is None or self.heldout.angles < FEWEST_HELD_OUT or data.angles < _GROWTH * self._adjusted_at:
            return
        self._adjusted_at = data.angles
        prior.weight = best_weight(data, self.heldout, prior, self.parameters)
        for solver in (self.classical, self.guided):
            if solver is not None:
                self._restart(solver)
        if self.guided is not None:
            self.guided.prior = copy.copy(prior)

    def _move(self, solver: TikhonovSolver | IncrementalAdmm) -> float:
        if solver in self._resting:
            return 0.0
        change = solver.step()
        if solver not in self._rules:  # the classical one leaves some of the steps to the network and what follows it
            share = 2 if solver is self.classical and self.learned is not None else 1
            self._rules[solver] = StoppingRule(self.parameters.tolerance, max(1, self._most_steps // share))
        if self._rules[solver](change, self._heldout_error(solver)):
            self._resting.add(solver)
        return change

    def _restart(self, solver: IncrementalAdmm) -> None:
        """It may move again."""
        self._resting.discard(solver)
        self._rules.pop(solver, None)

    @property
    def _listens(self) -> bool:
        """Whether the network may be asked, once it is time."""
        return not self.errors.outside_training and (self.heldout.angles > 0 or not self.watched)

    def _due(self, classical: IncrementalAdmm) -> bool:
        if not self._listens or self.learned in self._resting:
            return False
        hinted = classical.state.iterations >= HINT_STEPS or classical in self._resting
        first = self.best is None and hinted
        anew = self._stale and self._steps % _ASK_EVERY == 0
        return first or anew or 0 < self._rounds < _ROUNDS

    def _ask(self, learned: LearnedSolver, classical: IncrementalAdmm) -> float:
        """One round; returns how far the network's best answer moved: ||z - z_previous|| / ||z||. It rests after the
        last one, until there are more data."""
        smooth = classical.state.z
        learned.prior.observe(self.physics.x, smooth, directional_coverage(learned.data, learned.prior.directions))
        if self.best is not None and self._stale:
            self.best = learned.measured(self.best.z, self.best.number, self.heldout)
        self._stale = False
        if self._rounds == _ROUNDS:
            self._rounds, learned.z = 0, None
        self._rounds += 1
        found, before = learned.step(smooth, self._rounds, self.heldout), self.best
        best = found if before is None or is_better(found, before) else before
        if self._rounds == _ROUNDS:
            self._resting.add(learned)
        if self.guided is None:  # it begins where total variation alone has got
            self.guided = IncrementalAdmm(classical.data, copy.copy(classical.prior), self.parameters)
            self.guided.state = replace(classical.state)
        self.best, self.guided.anchor = best, Anchor(best.z, best.rho_ratio)
        self._restart(self.guided)
        self._guided_steps = 0
        self._measure()
        return 1.0 if before is None else relative_distance(best.z, before.z)

    def _measure(self) -> None:
        """The errors on the held-out angles."""
        if not self.heldout.angles:
            return
        physics = classical = self._heldout_error(self.physics)
        if self.classical is not None:
            classical = self._heldout_error(self.classical)
        self.errors = HeldoutErrors(physics, classical)
        if self.guided is not None and self.best is not None:
            answer = math.nan if self._stale else self.best.heldout_error
            self.errors = HeldoutErrors(physics, classical, self._heldout_error(self.guided), answer)

    def _heldout_error(self, solver: TikhonovSolver | IncrementalAdmm) -> float:
        if not self.heldout.angles:
            return math.nan
        volume, error = self._measured.get(solver, (None, math.nan))
        if volume is not solver.x:
            error = relative_residual(self.heldout, solver.x)
            self._measured[solver] = solver.x, error
        return error

    def _judge(self) -> None:
        """Turns the network down, and then drops it, when the held-out angles speak against it."""
        if self.learned is None or not self.heldout.angles or not self._watch(self.errors):
            return
        if self._watch.downweighted:
            self.drop_network(_found(self.errors))
            return
        self._watch.downweighted = True
        self.learned.most_rho_share = _TURNED_DOWN
        self.best = self.guided = None
        self._rounds, self.learned.z = 0, None
        self._resting.discard(self.learned)
        self.remarks.append(f"the prior {self.learned.prior.name} was downweighted: {_found(self.errors)}")

    def drop_network(self, reason: str) -> None:
        """Total variation, or the data alone, from now on.

        Parameters
        ----------
        reason
            Why, in words.
        """
        if self.learned is None:
            return
        instead = "the data alone" if self.classical is None else "total variation"
        self.remarks.append(f"the prior {self.learned.prior.name} was dropped for {instead}: {reason}")
        self.learned = self.best = self.guided = None
        if self.classical is not None:  # it may have left steps to the network
            self._restart(self.classical)
        self._measure()


def _found(errors: HeldoutErrors) -> str:
    return f"held-out error {errors.learned:.3g}, without it {errors.without_network:.3g}"

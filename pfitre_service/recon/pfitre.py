"""PFITRE on one tomogram: the data alone, total variation, and a network, side by side on the same accumulators.

    physics     the data alone (Tikhonov)
    classical   ADMM with total variation, its weight chosen by the held-out angles: what the network is compared
                with, one of the things it is shown, and what takes its place when the held-out angles speak against it
    learned     a few rounds of data step and network; the last answer that foretold the held-out angles as well counts
    guided      the classical ADMM drawn to that answer: the result, as long as the answer foretells the held-out angles
                as well as what can be had without a network

What was measured is total variation's matter, which knows no object from another; what was not is the network's, as far
as nothing that was measured speaks against it. Each is warm across arriving angles, and rests when it no longer moves.
The network is asked when the classical one rests, and now and then before that.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

from torch import Tensor

from pfitre_service.recon.admm import CLEARLY, Anchor, IncrementalAdmm, TikhonovSolver, relative_distance
from pfitre_service.recon.coverage import directional_coverage
from pfitre_service.recon.data_term import relative_residual
from pfitre_service.recon.learned import LearnedPrior, LearnedSolver, Round
from pfitre_service.recon.normal_equations import NormalEquations
from pfitre_service.recon.parameters import AdmmParameters
from pfitre_service.recon.smoothing import FEWEST_HELD_OUT, AdjustablePrior, best_weight

_GROWTH = 1.5
"""The weight is chosen anew each time that so many times as many angles are in."""
MOST_IN_TRAINING = 0.4
"""Held-out errors of training's noisiest scans, 30 counts at the brightest pixel, stay below 0.3."""
_ASK_EVERY = 4
"""Steps from one round of the network to the next while the classical solver still moves."""
_ROUNDS = 3
"""Rounds of the network from total variation on: about as many as it saw in training. More drift to what it likes to
see, and no projection speaks against that (digital twin, 150 degrees missing: up to 4 dB in four rounds)."""
_TURNED_DOWN = 0.3
"""The most that a network which was turned down may pull on the data step, as a share of the summed weights."""


@dataclass(frozen=True)
class HeldoutErrors:
    """||A x - y|| / ||y|| on angles that no solver has seen; NaN where nothing is held out."""

    result: float = math.nan
    """Of what is shown."""
    physics: float = math.nan
    classical: float = math.nan
    learned: float = math.nan
    """Of the network's answer held against the data alone, or of the guided one, whichever is larger: guided by a wrong
    answer, total variation would still explain the projections, with that answer in all that they leave open."""

    @property
    def without_network(self) -> float:
        """The better of what can be had without a network."""
        return min(self.physics, self.classical)

    @property
    def outside_training(self) -> bool:
        """Whether the projections fit together worse than any in training: noise alone, another sample in between, or
        only the first few angles of a scan. A network would paint something all the same."""
        return self.without_network > MOST_IN_TRAINING


class PfitreSolver:
    """All solvers of one tomogram. There may be no `learned`; with no `classical` either, the result is the physics."""

    def __init__(
        self,
        data: NormalEquations,
        heldout: NormalEquations,
        *,
        classical: AdjustablePrior | None,
        learned: LearnedPrior | None = None,
        parameters: AdmmParameters | None = None,
        watched: bool = True,
    ) -> None:
        """watched: whether angles are, or will be, held out; the network waits for the first of them. Raises ValueError
        for a network with no classical prior beside it."""
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
        self._watch = PriorWatch()
        self._adjusted_at = 0
        self._steps = 0
        self._resting: set[TikhonovSolver | IncrementalAdmm | LearnedSolver] = set()
        self._rounds = 0
        self._plain = False
        """Whether the answer held against the data alone foretells clearly better than with total variation besides."""
        self._stale = False
        """Whether `best` was measured on less than what is in by now."""

    def use(self, data: NormalEquations, heldout: NormalEquations) -> None:
        """Goes on with other accumulators of the same slices, whatever the axis, from the volumes as they are."""
        self.heldout = heldout
        for solver in (self.physics, self.classical, self.learned, self.guided):
            if solver is not None:
                solver.data = data
        self._adjusted_at = 0
        self.wake()

    def wake(self) -> None:
        """The accumulators have changed: what rested may move again, and what was best is to be found anew."""
        self._resting.clear()
        self._stale = True

    def refit(self) -> None:
        """Gives the held-out angles to the data as well. Nothing can tell any more when a further round does harm: the
        network's best answer stays. A network that has done worse until now
        than what can be had without it is dropped."""
        if self.errors.outside_training:
            self.drop_network(
                f"the projections do not fit together (held-out error {self.errors.without_network:.3g} without it) as "
                "they did in all that it was trained on"
            )
        never_asked = self.best is None and (self.heldout.angles > 0 or not self.watched)
        if self.learned is not None and self.classical is not None and never_asked:
            self._ask(self.learned, self.classical)
        if harmful(self.errors):
            self.drop_network(_found(self.errors))
        everything = self.physics.data
        everything.merge(self.heldout)
        self.use(everything, NormalEquations(everything.geometry, slices=everything.slices, device=everything.device))
        if self.learned is not None and self.guided is not None and self.best is not None:
            self._resting.add(self.learned)
            self.best = replace(self.best, x=self.learned.from_data(self.best))

    @property
    def x(self) -> Tensor:
        """The result, (slices, size, size) float32."""
        solver = self._result
        if self.best is not None and self._plain and solver is not None and solver is self.guided:
            return self.best.x
        return self.physics.x if solver is None else solver.state.x

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
        return self.classical if self.guided is None or harmful(self.errors) else self.guided

    @property
    def prior_gap(self) -> float:
        """||z - x|| / ||x||: how far prior and data disagree; NaN without a prior."""
        return math.nan if self.learned is None and self.classical is None else relative_distance(self.x, self.z)

    def step(self) -> float:
        """One step of each solver that moves; returns the largest relative change, ||x - x_previous|| / ||x||."""
        self._adjust()
        changes = [self._move(self.physics)]
        if self.classical is not None:
            changes.append(self._move(self.classical))
        if self.guided is not None:
            changes.append(self._move(self.guided))
        self._measure()
        if self.errors.outside_training:
            self.best = self.guided = None
        elif self.learned is not None and self.classical is not None and self._due(self.learned):
            changes.append(self._ask(self.learned, self.classical))
            self._judge()
        self._steps += 1
        return changes[-1] if self.learned is None else max(changes)

    def _adjust(self) -> None:
        """Chooses the classical prior's weight anew when the data have grown by half since the last time."""
        data, prior = self.physics.data, self._adjustable
        if prior is None or self.heldout.angles < FEWEST_HELD_OUT or data.angles < _GROWTH * self._adjusted_at:
            return
        self._adjusted_at = data.angles
        prior.weight = best_weight(data, self.heldout, prior, self.parameters)
        if self.guided is not None:
            self.guided.prior = copy.copy(prior)
        self.wake()

    def _move(self, solver: TikhonovSolver | IncrementalAdmm) -> float:
        """The solver whose volume will be the result never rests: when it may stop is not decided here."""
        if solver in self._resting:
            return 0.0
        change = solver.step()
        last = self.guided or self.classical or self.physics
        is_result = solver is last and (self.learned is None or self.guided is not None)
        if not is_result and change < self.parameters.tolerance:
            self._resting.add(solver)
        return change

    def _due(self, learned: LearnedSolver) -> bool:
        if self.watched and not self.heldout.angles:
            return False
        return learned not in self._resting and (
            self.classical in self._resting or self._steps % _ASK_EVERY == _ASK_EVERY - 1
        )

    def _ask(self, learned: LearnedSolver, classical: IncrementalAdmm) -> float:
        """One round; returns how far the network's best answer moved: ||z - z_previous|| / ||z||. Rests after the last
        round, and begins anew from total variation once there are new data."""
        smooth = classical.state.z
        learned.prior.observe(self.physics.x, smooth, directional_coverage(learned.data, learned.prior.directions))
        if self.best is not None and self._stale:
            self.best = learned.measured(self.best.z, self.best.number, self.heldout)
        self._stale = False
        if self._rounds == _ROUNDS:
            self._rounds, learned.z = 0, None
        self._rounds += 1
        found, before = learned.step(smooth, self._rounds, self.heldout), self.best
        best = found if before is None or supersedes(found, before) else before
        change = 1.0 if before is None else relative_distance(best.z, before.z)
        if self._rounds == _ROUNDS:
            self._resting.add(learned)
        if self.guided is None:  # it begins where total variation alone has got
            self.guided = IncrementalAdmm(classical.data, copy.copy(classical.prior), self.parameters)
            self.guided.state = replace(classical.state)
        self.best, self.guided.anchor = best, Anchor(best.z, best.share)
        self._resting.discard(self.guided)
        self._measure()
        return change

    def _measure(self) -> None:
        """The errors on the held-out angles."""
        if not self.heldout.angles:
            return
        physics = relative_residual(self.heldout, self.physics.x)
        classical = physics if self.classical is None else relative_residual(self.heldout, self.classical.state.x)
        self.errors = HeldoutErrors(classical, physics, classical)
        if self.guided is not None and self.best is not None:
            guided = relative_residual(self.heldout, self.guided.state.x)
            alone = math.nan if self._stale else self.best.heldout_error
            errors = replace(self.errors, learned=guided if math.isnan(alone) else max(guided, alone))
            self._plain = alone < (1 - CLEARLY) * guided
            self.errors = errors if harmful(errors) else replace(errors, result=alone if self._plain else guided)

    def _judge(self) -> None:
        """Turns the network down, and then drops it, when the held-out angles speak against it."""
        if self.learned is None or not self.heldout.angles or not self._watch(self.errors):
            return
        if self._watch.turned_down:
            self.drop_network(_found(self.errors))
            return
        self._watch.turned_down = True
        self.learned.most_rho_share = _TURNED_DOWN
        self.best = self.guided = None
        self.wake()
        self.remarks.append(f"the prior {self.learned.prior.name} was turned down: {_found(self.errors)}")

    def drop_network(self, reason: str) -> None:
        """Total variation, or the data alone, from now on."""
        if self.learned is None:
            return
        instead = "the data alone" if self.classical is None else "total variation"
        self.remarks.append(f"the prior {self.learned.prior.name} was dropped for {instead}: {reason}")
        self.learned = self.best = self.guided = None
        self.wake()
        self._measure()


def _found(errors: HeldoutErrors) -> str:
    return f"held-out error {errors.learned:.3g}, without it {errors.without_network:.3g}"


MARGIN = 0.03
"""A network's answer, held against the data alone, may foretell held-out angles worse by this share: total variation,
which guided by it takes away what noise is left, makes up for as much."""


def harmful(errors: HeldoutErrors) -> bool:
    """Whether the network's answer is clearly worse than what can be had without it; NaN says nothing against it."""
    return errors.learned > (1 + MARGIN) * errors.without_network


def supersedes(found: Round, best: Round) -> bool:
    """Whether an answer takes the place of an earlier one: in a later round it must foretell the held-out angles as
    well, in an earlier one (of more data) better. Where nothing is held out, the last is as good as any."""
    if math.isnan(found.heldout_error):
        return True
    margin = CLEARLY if found.number >= best.number else -CLEARLY
    return not found.heldout_error > (1 + margin) * best.heldout_error


class PriorWatch:
    """Says when a network is to be turned down: when it was `harmful` for `PATIENCE` rounds in a row."""

    PATIENCE = 3

    def __init__(self) -> None:
        self.turned_down = False
        self._worse = 0

    def __call__(self, errors: HeldoutErrors) -> bool:
        """Takes in one round."""
        self._worse = self._worse + 1 if harmful(errors) else 0
        if self._worse < self.PATIENCE:
            return False
        self._worse = 0
        return True

"""PFITRE on one tomogram: the data alone, total variation, and a network, side by side on the same accumulators.

    physics     the data alone (Tikhonov)
    classical   ADMM with total variation, its weight chosen by the held-out angles: what the network is compared
                with, one of the things it is shown, and what takes its place when the held-out angles speak against it
    learned     rounds of data step and network; the last that foretold the held-out angles clearly better is the
                result, as long as it foretells them as well as what can be had without a network

Each is warm across arriving angles, and rests when it no longer moves. The network is asked when the classical one
rests, and now and then before that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor

from pfitre_service.recon.admm import IncrementalAdmm, TikhonovSolver, relative_distance
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
_PROGRESS = 0.005
"""A round must lower the held-out error by so large a share: with less, a network drifts to what it likes to see, and
no projection speaks against it (digital twin, 150 degrees missing: up to 4 dB in four rounds)."""
_IDLE_ROUNDS = 2
"""So many rounds without progress, and the network rests."""
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
    """Of the network's best round, whether it is shown or not."""

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
    """All solvers of one tomogram. `classical` and `learned` may be None; with neither the result is the physics."""

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
        """watched: whether angles are, or will be, held out; the network waits for the first of them."""
        self.parameters = parameters if parameters is not None else AdmmParameters()
        self.watched = watched
        self.physics = TikhonovSolver(data, self.parameters)
        self.classical = None if classical is None else IncrementalAdmm(data, classical, self.parameters)
        self._adjustable = None if classical is None or not classical.adjustable else classical
        self.learned = None if learned is None else LearnedSolver(data, learned, self.parameters)
        self.heldout = heldout
        self.errors = HeldoutErrors()
        self.remarks: list[str] = []
        """What a person should know of the prior's fate."""
        self.best: Round | None = None
        """The network's best round on these data; None before it was asked."""
        self._watch = PriorWatch()
        self._adjusted_at = 0
        self._steps = 0
        self._resting: set[TikhonovSolver | IncrementalAdmm | LearnedSolver] = set()
        self._idle_rounds = 0
        self._stale = False
        """Whether `best` was made from less than what is in by now."""

    def use(self, data: NormalEquations, heldout: NormalEquations) -> None:
        """Goes on with other accumulators of the same slices, whatever the axis, from the volumes as they are."""
        self.heldout = heldout
        for solver in (self.physics, self.classical, self.learned):
            if solver is not None:
                solver.data = data
        self._adjusted_at = 0
        self.wake()

    def wake(self) -> None:
        """The accumulators have changed: what rested may move again, and what was best is to be found anew."""
        self._resting.clear()
        self._idle_rounds = 0
        self._stale = True

    def refit(self) -> None:
        """Gives the held-out angles to the data as well. Nothing can tell any more when a further round does harm: the
        network's best answer stays, and the data step takes in every angle. A network that has done worse until now
        than what can be had without it is dropped."""
        if self.errors.outside_training:
            self.drop_network(
                f"the projections do not fit together (held-out error {self.errors.without_network:.3g} without it) as "
                "they did in all that it was trained on"
            )
        if self.learned is not None and self.best is None and (self.heldout.angles or not self.watched):
            self._ask(self.learned)
        if harmful(self.errors):
            self.drop_network(_found(self.errors))
        best, everything = self.best, self.physics.data
        everything.merge(self.heldout)
        self.use(everything, NormalEquations(everything.geometry, slices=everything.slices, device=everything.device))
        if self.learned is not None and best is not None:
            self.learned.z, self.learned.rho_share = best.z, best.rho_share
            self.best = self.learned.round(self.heldout)
            self._resting.add(self.learned)
            if self.classical is not None:
                self._resting.add(self.classical)  # nobody asks for its answer any more
            self._stale = False

    @property
    def x(self) -> Tensor:
        """The result, (slices, size, size) float32."""
        if (shown := self._shown) is not None:
            return shown.x
        return self.physics.x if self.classical is None else self.classical.state.x

    @property
    def z(self) -> Tensor:
        """What the prior makes of it; the result itself without a prior."""
        if (shown := self._shown) is not None:
            return shown.z
        return self.physics.x if self.classical is None else self.classical.state.z

    @property
    def _shown(self) -> Round | None:
        """The network's best round, unless the held-out angles speak against it now."""
        return None if harmful(self.errors) else self.best

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
        self._measure()
        if self.errors.outside_training:
            self.best = None
        elif self.learned is not None and self._due(self.learned):
            changes.append(self._ask(self.learned))
            self._judge()
        elif self.learned is not None and self.best is not None and self._stale:
            self.best = self.learned.follow(self.best, self.heldout)
            self._measure()
        self._steps += 1
        return changes[-1] if self.learned is None else max(changes)

    def _adjust(self) -> None:
        """Chooses the classical prior's weight anew when the data have grown by half since the last time."""
        data, prior = self.physics.data, self._adjustable
        if prior is None or self.heldout.angles < FEWEST_HELD_OUT or data.angles < _GROWTH * self._adjusted_at:
            return
        self._adjusted_at = data.angles
        prior.weight = best_weight(data, self.heldout, prior, self.parameters)
        self.wake()

    def _move(self, solver: TikhonovSolver | IncrementalAdmm) -> float:
        """The solver whose volume is the result never rests: when it may stop is not decided here."""
        if solver in self._resting:
            return 0.0
        change = solver.step()
        is_result = self.learned is None and solver is (self.classical or self.physics)
        if not is_result and change < self.parameters.tolerance:
            self._resting.add(solver)
        return change

    def _due(self, learned: LearnedSolver) -> bool:
        if self.watched and not self.heldout.angles:
            return False
        settled = (self.classical or self.physics) in self._resting
        return learned not in self._resting and (settled or self._steps % _ASK_EVERY == _ASK_EVERY - 1)

    def _ask(self, learned: LearnedSolver) -> float:
        """One round; returns how far the result moved. Rests when several rounds have brought nothing better."""
        physics = self.physics.x
        smooth = physics if self.classical is None else self.classical.state.z
        learned.prior.observe(physics, smooth, directional_coverage(learned.data, learned.prior.directions))
        before = self.x
        if self.best is not None and self._stale:
            learned.z = self.best.z
            self.best = learned.round(self.heldout)
        self._stale = False
        found = learned.step(smooth, self.heldout)
        # Where nothing is held out, the last round is as good as any.
        if self.best is None or not found.heldout_error >= (1 - _PROGRESS) * self.best.heldout_error:
            self.best = found
            change = relative_distance(found.x, before)
        else:
            change = 0.0
        self._idle_rounds = 0 if self.best is found and change >= self.parameters.tolerance else self._idle_rounds + 1
        if self._idle_rounds >= _IDLE_ROUNDS:
            self._resting.add(learned)
        self._measure()
        return change

    def _measure(self) -> None:
        if self.heldout.angles:
            physics = relative_residual(self.heldout, self.physics.x)
            classical = physics if self.classical is None else relative_residual(self.heldout, self.classical.state.x)
            learned = math.nan if self.best is None else relative_residual(self.heldout, self.best.x)
            errors = HeldoutErrors(classical, physics, classical, learned)
            self.errors = errors if self.best is None or harmful(errors) else replace(errors, result=learned)

    def _judge(self) -> None:
        """Turns the network down, and then drops it, when the held-out angles speak against it."""
        if self.learned is None or not self.heldout.angles or not self._watch(self.errors):
            return
        if self._watch.turned_down:
            self.drop_network(_found(self.errors))
            return
        self._watch.turned_down = True
        self.learned.most_rho_share = _TURNED_DOWN
        self.best = None
        self.wake()
        self.remarks.append(f"the prior {self.learned.prior.name} was turned down: {_found(self.errors)}")

    def drop_network(self, reason: str) -> None:
        """Total variation, or the data alone, from now on."""
        if self.learned is None:
            return
        instead = "the data alone" if self.classical is None else "total variation"
        self.remarks.append(f"the prior {self.learned.prior.name} was dropped for {instead}: {reason}")
        self.learned = self.best = None
        self.wake()
        self._measure()


def _found(errors: HeldoutErrors) -> str:
    return f"held-out error {errors.learned:.3g}, without it {errors.without_network:.3g}"


MARGIN = 0.04
"""A network's answer may foretell held-out angles worse by this share: twice what its smoothing may cost."""


def harmful(errors: HeldoutErrors) -> bool:
    """Whether the network's answer is clearly worse than what can be had without it; NaN says nothing against it."""
    return errors.learned > (1 + MARGIN) * errors.without_network


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

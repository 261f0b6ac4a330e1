"""PFITRE on one tomogram: the data alone, total variation, and a network, side by side on the same accumulators.

    physics     the data alone (Tikhonov)
    classical   ADMM with total variation: what the network is compared with, one of the things it is shown, and what
                takes its place when the held-out angles speak against it
    learned     rounds of network and data step; the result, where there is a network

Each is warm across arriving angles. The classical ones rest when they no longer move.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from pfitre_service.recon.admm import RHO_LIMITS, IncrementalAdmm, Prior, TikhonovSolver, relative_distance
from pfitre_service.recon.coverage import directional_coverage
from pfitre_service.recon.data_term import relative_residual
from pfitre_service.recon.normal_equations import NormalEquations
from pfitre_service.recon.parameters import AdmmParameters


class LearnedPrior(Prior, Protocol):
    """A prior that is told about the tomogram before it is asked."""

    name: str
    directions: int
    """Into how many bins the measured directions are sorted."""

    def observe(self, physics: Tensor, smooth: Tensor, coverage: Tensor) -> None:
        """The data alone and total variation's answer, (slices, size, size) each, and `directional_coverage`."""


@dataclass(frozen=True)
class HeldoutErrors:
    """||A x - y|| / ||y|| on angles that no solver has seen; NaN where nothing is held out."""

    result: float = math.nan
    physics: float = math.nan
    classical: float = math.nan

    @property
    def without_network(self) -> float:
        """The better of what can be had without a network."""
        return min(self.physics, self.classical)


class PfitreSolver:
    """All solvers of one tomogram. `classical` and `learned` may be None; with neither the result is the physics."""

    def __init__(
        self,
        data: NormalEquations,
        heldout: NormalEquations,
        *,
        classical: Prior | None,
        learned: LearnedPrior | None = None,
        parameters: AdmmParameters | None = None,
    ) -> None:
        self.parameters = parameters if parameters is not None else AdmmParameters()
        self.physics = TikhonovSolver(data, self.parameters)
        self.classical = None if classical is None else IncrementalAdmm(data, classical, self.parameters)
        self.learned = None if learned is None else IncrementalAdmm(data, learned, self.parameters)
        self.heldout = heldout
        self.errors = HeldoutErrors()
        self.remarks: list[str] = []
        """What a person should know of the prior's fate."""
        self._watch = PriorWatch()
        self._resting: set[TikhonovSolver | IncrementalAdmm] = set()

    def use(self, data: NormalEquations, heldout: NormalEquations) -> None:
        """Goes on with other accumulators of the same geometry, from the volumes as they are."""
        self.heldout = heldout
        self.physics.data = data
        for admm in (self.classical, self.learned):
            if admm is not None:
                admm.data = data
        self.wake()

    def wake(self) -> None:
        """The accumulators have changed: what rested may move again."""
        self._resting.clear()

    @property
    def x(self) -> Tensor:
        """The result, (slices, size, size) float32."""
        admm = self.learned or self.classical
        return self.physics.x if admm is None else admm.state.x

    @property
    def z(self) -> Tensor:
        """What the prior makes of it; the result itself without a prior."""
        admm = self.learned or self.classical
        return self.physics.x if admm is None else admm.state.z

    @property
    def prior_gap(self) -> float:
        """||z - x|| / ||x||: how far prior and data disagree; NaN without a prior."""
        return math.nan if self.learned is None and self.classical is None else relative_distance(self.x, self.z)

    def step(self) -> float:
        """One step of each solver that moves; returns the result's change, ||x - x_previous|| / ||x||."""
        change = self._step_unless_resting(self.physics)
        if self.classical is not None:
            change = self._step_unless_resting(self.classical)
        if self.learned is not None:
            change = self._step_learned(self.learned)
        self._measure()
        if self.learned is not None:
            self._judge(self.learned)
        return change

    def _step_unless_resting(self, solver: TikhonovSolver | IncrementalAdmm) -> float:
        """The solver whose volume is the result never rests: when it may stop is not decided here."""
        if solver in self._resting:
            return 0.0
        change = solver.step()
        if solver is not (self.learned or self.classical or self.physics) and change < self.parameters.tolerance:
            self._resting.add(solver)
        return change

    def _step_learned(self, admm: IncrementalAdmm) -> float:
        prior: LearnedPrior = admm.prior  # type: ignore[assignment]  # as it was given to __init__
        smooth = self.physics.x if self.classical is None else self.classical.state.z
        prior.observe(self.physics.x, smooth, directional_coverage(admm.data, prior.directions))
        return admm.step(self.heldout)

    def _measure(self) -> None:
        if self.heldout.angles:
            physics = relative_residual(self.heldout, self.physics.x)
            classical = physics if self.classical is None else relative_residual(self.heldout, self.classical.state.x)
            result = classical if self.learned is None else relative_residual(self.heldout, self.learned.state.x)
            self.errors = HeldoutErrors(result, physics, classical)

    def _judge(self, admm: IncrementalAdmm) -> None:
        """Turns the network down, and then drops it, when the held-out angles speak against it."""
        if not self.heldout.angles or not self._watch(self.errors.result, self.errors.without_network):
            return
        name = admm.prior.name  # type: ignore[attr-defined]
        found = f"held-out error {self.errors.result:.3g}, without it {self.errors.without_network:.3g}"
        if not self._watch.turned_down:
            self._watch.turned_down = True
            admm.rho_share = RHO_LIMITS[0]
            self.remarks.append(f"the prior {name} was turned down: {found}")
        else:
            self.drop_network(found)

    def drop_network(self, reason: str) -> None:
        """Total variation, or the data alone, from now on."""
        if self.learned is None:
            return
        name = self.learned.prior.name  # type: ignore[attr-defined]
        instead = "the data alone" if self.classical is None else "total variation"
        self.remarks.append(f"the prior {name} was dropped for {instead}: {reason}")
        self.learned = None
        self.wake()


class PriorWatch:
    """Says when a prior does harm: when its held-out error has been larger, by more than `MARGIN`, than what can be had
    without it, for `PATIENCE` steps in a row."""

    MARGIN = 0.02
    PATIENCE = 3

    def __init__(self) -> None:
        self.turned_down = False
        self._worse = 0

    def __call__(self, error: float, without: float) -> bool:
        """Takes in one step; NaN says nothing against the prior."""
        self._worse = self._worse + 1 if error > (1 + self.MARGIN) * without else 0
        if self._worse < self.PATIENCE:
            return False
        self._worse = 0
        return True

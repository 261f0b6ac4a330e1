"""Rounds of data step and network: no multiplier, and a pull that the held-out angles choose.

    x <- argmin_x 1/2 ||A x - y||^2_W + rho/2 ||x - z||^2        data step from z, by CG
    z <- network(x)                                              shown the data alone, total variation and the coverage

A network minimises nothing. With the multiplier of ADMM it is pushed ever further from what it was trained on, by the
running sum of its disagreements with the data; so there is none. rho says how far measured rays may be smoothed, a
matter of their noise. Of all values tried, the largest is taken whose held-out error is within `WITHIN` of the least:
the simplest picture that the data do not speak against (the "one standard error" rule of Breiman et al. 1984). What the
network is shown next is made with the rho of the least error: all that the data have to say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pfitre_service.recon.admm import Prior, data_step, robust_scale
from pfitre_service.recon.data_term import relative_residual
from pfitre_service.recon.normal_equations import NormalEquations
from pfitre_service.recon.parameters import AdmmParameters

RHO_SHARES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""What is tried for rho, as shares of the summed weights."""
WITHIN = 0.02
"""Share of the least held-out error that smoothing may cost."""
MOST_ASKED = 3.0
"""The most for what the network is shown: beyond it that is its own answer again, and in training it saw no more."""
_SLICES = 12


class LearnedPrior(Prior, Protocol):
    """A prior that is told about the tomogram before it is asked."""

    name: str
    directions: int
    """Into how many bins the measured directions are sorted."""

    def observe(self, physics: Tensor, smooth: Tensor, coverage: Tensor) -> None:
        """The data alone and total variation's answer, (slices, size, size) each, and `directional_coverage`."""


@dataclass(frozen=True, eq=False)
class Round:
    """x was made from the answer z, with this rho; all (slices, size, size) float32."""

    x: Tensor
    z: Tensor
    rho_share: float
    heldout_error: float
    """NaN where nothing is held out."""


class LearnedSolver:
    """The network's answer `z` on accumulators that may grow between rounds, warm."""

    def __init__(self, data: NormalEquations, prior: LearnedPrior, parameters: AdmmParameters) -> None:
        self.data = data
        self.prior = prior
        self.parameters = parameters
        self.z: Tensor | None = None
        self.rho_share = parameters.rho
        self.most_rho_share = RHO_SHARES[-1]
        self._asked_rho_share = parameters.rho
        self.scale = 0.0
        """The tomogram's scale of values: robust, and slow to change."""

    def step(self, smooth: Tensor, heldout: NormalEquations) -> Round:
        """Asks the network about its last answer, held against the data; at first about `smooth`."""
        start = smooth if self.z is None else self.z
        x = self._data_step(start, self._asked_rho_share)
        now = robust_scale(x)
        self.scale = now if self.scale == 0.0 else 0.7 * self.scale + 0.3 * now
        self.z = self.prior(x, self.scale).clamp_min(0.0)
        return self.round(heldout)

    def round(self, heldout: NormalEquations) -> Round:
        """The data step from the answer as it is, with the rho that suits the held-out angles."""
        assert self.z is not None  # `step` asks before it measures
        errors = self._errors(self.z, heldout) if heldout.angles else {}
        known = {share: error for share, error in errors.items() if math.isfinite(error)}  # empty rows have none
        if known:
            least = min(known, key=known.__getitem__)
            self.rho_share = max(share for share, error in known.items() if error <= (1 + WITHIN) * known[least])
            self._asked_rho_share = min(least, MOST_ASKED)
        x = self._data_step(self.z, self.rho_share)
        error = relative_residual(heldout, x) if heldout.angles else math.nan
        return Round(x, self.z, self.rho_share, error)

    def follow(self, earlier: Round, heldout: NormalEquations) -> Round:
        """An earlier answer, held against all that has come in since."""
        x = data_step(
            self.data, earlier.z, earlier.rho_share * self.data.weight, earlier.x, self.parameters.cg_iterations
        )
        error = relative_residual(heldout, x) if heldout.angles else math.nan
        return Round(x, earlier.z, earlier.rho_share, error)

    def _data_step(self, z: Tensor, rho_share: float) -> Tensor:
        return data_step(self.data, z, rho_share * self.data.weight, z, self.parameters.cg_iterations)

    def _errors(self, z: Tensor, heldout: NormalEquations) -> dict[float, float]:
        """The held-out error for each of `RHO_SHARES` up to the limit, found on slices from all over the slab."""
        count = min(_SLICES, self.data.slices)
        rows = torch.linspace(0, self.data.slices - 1, count, device=self.data.device).round().long()
        few, unseen, answer = self.data.of_slices(rows), heldout.of_slices(rows), z[rows]
        errors = {}
        for rho_share in RHO_SHARES:
            if rho_share <= self.most_rho_share:
                x = data_step(few, answer, rho_share * few.weight, answer, self.parameters.cg_iterations)
                errors[rho_share] = relative_residual(unseen, x)
        return errors

"""Rounds of data step and network: no multiplier, and a pull that the held-out angles choose.

    x <- argmin_x 1/2 ||A x - y||^2_W + rho/2 ||x - z||^2        data step from z, by CG
    z <- network(x)                                              shown the data alone, total variation and the coverage

A network minimises nothing. With the multiplier of ADMM it is pushed ever further from what it was trained on, by the
running sum of its disagreements with the data; so there is none. rho is tried anew for each answer, and the held-out
angles choose: what the network is next shown is made with the rho of the least held-out error, which is all that the
data have to say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pfitre_service.recon.operators.data_term import DataTerm, relative_residual
from pfitre_service.recon.parameters import AdmmParameters
from pfitre_service.recon.robust_scale import robust_scale
from pfitre_service.recon.solvers.admm import Prior
from pfitre_service.recon.solvers.data_step import data_step

RHO_SHARES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""What is tried for rho, as shares of the summed weights."""
MOST_ASKED = 3.0
"""The most for what the network is shown: beyond it that is its own answer again, and in training it saw no more."""
_SLICES = 12


class LearnedPrior(Prior, Protocol):
    """A prior that is told about the tomogram before it is asked."""

    name: str
    """Of its weights."""
    directions: int
    """Into how many bins the measured directions are sorted."""

    def observe(self, physics: Tensor, smooth: Tensor, coverage: Tensor) -> None:
        """What the prior is shown besides the slices, from now on.

        Parameters
        ----------
        physics
            (slices, size, size) float32, the data alone.
        smooth
            (slices, size, size) float32, total variation's answer.
        coverage
            (directions,) densities, see `directional_coverage`.
        """


@dataclass(frozen=True, eq=False)
class Round:
    """The answer z and what the held-out angles say of it; x and z (slices, size, size) float32."""

    x: Tensor
    """The data step from z with that pull."""
    z: Tensor
    """The network's answer."""
    number: int
    """How many rounds made it."""
    rho_ratio: float
    """Pull on the data step, as a share of the summed weights, with which it predicts the held-out angles best."""
    heldout_error: float
    """Of the best data step from it; NaN where nothing is held out."""


class LearnedSolver:
    """The network's answer `z` on accumulators that may grow between rounds, warm.

    Parameters
    ----------
    data
        Accumulators, which may grow between rounds.
    prior
        The network.
    parameters
        Balance and iterations.
    """

    def __init__(self, data: DataTerm, prior: LearnedPrior, parameters: AdmmParameters) -> None:
        self.data = data
        self.prior = prior
        self.parameters = parameters
        self.z: Tensor | None = None
        self.most_rho_share = RHO_SHARES[-1]
        self._asked_rho_share = parameters.rho
        self.scale = 0.0
        """The tomogram's scale of values: robust, and slow to change."""

    def step(self, smooth: Tensor, number: int, heldout: DataTerm) -> Round:
        """Asks the network about its last answer, held against the data; at first about `smooth`.

        Parameters
        ----------
        smooth
            (slices, size, size) float32, total variation's answer.
        number
            Of the round, from 1.
        heldout
            Accumulators of the held-out angles.

        Returns
        -------
        Round
            The answer, and what the held-out angles say of it.
        """
        fresh = self.z is None
        start = smooth if self.z is None else self.z
        x = self._data_step(start, self.parameters.rho if fresh else self._asked_rho_share)
        now = robust_scale(x)
        self.scale = now if self.scale == 0.0 else 0.7 * self.scale + 0.3 * now
        self.z = self.prior(x, self.scale).clamp_min(0.0)
        return self.measured(self.z, number, heldout)

    def measured(self, z: Tensor, number: int, heldout: DataTerm) -> Round:
        """What the held-out angles say of an answer, and the pull that suits them.

        Parameters
        ----------
        z
            (slices, size, size) float32, the answer.
        number
            Of the round, from 1.
        heldout
            Accumulators of the held-out angles.

        Returns
        -------
        Round
            The answer with its data step.
        """
        errors = self._errors(z, heldout) if heldout.angles else {}
        known = {
            rho_ratio: error for rho_ratio, error in errors.items() if math.isfinite(error)
        }  # empty rows have none
        if not known:
            return Round(z, z, number, self.parameters.rho, math.nan)
        least = min(known, key=known.__getitem__)
        self._asked_rho_share = min(least, MOST_ASKED)
        x = self._data_step(z, least)
        return Round(x, z, number, least, relative_residual(heldout, x))

    def from_data(self, answer: Round) -> Tensor:
        """The data step from an answer on all that is in by now.

        Parameters
        ----------
        answer
            Of an earlier round.

        Returns
        -------
        Tensor
            (slices, size, size) float32.
        """
        return self._data_step(answer.z, answer.rho_ratio)

    def _data_step(self, z: Tensor, rho_share: float) -> Tensor:
        return data_step(self.data, z, rho_share * self.data.weight, z, self.parameters.cg_iterations)

    def _errors(self, z: Tensor, heldout: DataTerm) -> dict[float, float]:
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

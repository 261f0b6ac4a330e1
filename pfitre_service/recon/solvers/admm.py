"""Incremental ADMM: physics and prior correct each other, while the scan still adds angles.

    minimise over x, z:   1/2 ||A x - y||^2_W + R(z)    subject to x = z

    x <- argmin_x 1/2 ||A x - y||^2_W + rho/2 ||x - z + u||^2      data step: (K + rho) x = b + rho (z - u), by CG
    z <- prior(x + u)                                              network or total variation, never negative
    u <- u + x - z

Boyd et al. 2011; with a network as the prior, Zhao et al. 2025 (PFITRE). x, z and u stay warm between steps and across
arriving angles. rho is a share of the summed weights, so that prior and data keep their balance while the data
grow; u is the multiplier divided by rho and is rescaled with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pfitre_service.recon.operators.data_term import DataTerm
from pfitre_service.recon.parameters import AdmmParameters
from pfitre_service.recon.robust_scale import robust_scale
from pfitre_service.recon.solvers.conjugate_gradient import circulant_preconditioner, conjugate_gradient
from pfitre_service.recon.solvers.data_step import data_step

_ACCURACY = 0.1
"""How exactly a data step is solved, as a share of how little a step must change to be the last."""
CLEARLY = 0.005
"""Share by which a held-out error lies clearly above another: what is within it goes up and down by itself."""


class Prior(Protocol):
    """What the solver asks of a prior: one picture in, a likelier one out."""

    def __call__(self, v: Tensor, scale: float) -> Tensor:
        """A likelier picture.

        Parameters
        ----------
        v
            (slices, size, size) float32.
        scale
            The tomogram's scale of values, in the unit of v.

        Returns
        -------
        Tensor
            (slices, size, size) float32.
        """


@dataclass
class AdmmState:
    """The solver's memory, all (slices, size, size) float32."""

    x: Tensor
    """What the data say, helped by the prior: the result."""
    z: Tensor
    """What the prior made of it."""
    u: Tensor
    """Running sum of their disagreement (scaled multiplier)."""
    rho: float = 0.0
    """The rho that u is scaled by, absolute."""
    scale: float = 0.0
    """The tomogram's scale of values: robust, and slow to change."""
    iterations: int = 0
    """Made so far."""


@dataclass(frozen=True, eq=False)
class Anchor:
    """A picture that the data step is drawn to besides: adds share W / 2 ||x - picture||^2 to what is made small, W the
    summed weights."""

    picture: Tensor
    """(slices, size, size) float32"""
    rho_ratio: float
    """The share of the summed weights."""


class IncrementalAdmm:
    """ADMM on accumulators that may grow between steps, drawn to `anchor` where there is one.

    Parameters
    ----------
    data
        Accumulators, which may grow between steps.
    prior
        What follows each data step.
    parameters
        Balance, iterations and tolerance; the defaults for None.
    """

    def __init__(self, data: DataTerm, prior: Prior, parameters: AdmmParameters | None = None) -> None:
        self.data = data
        self.prior = prior
        self.anchor: Anchor | None = None
        self.parameters = parameters if parameters is not None else AdmmParameters()
        zero = torch.zeros_like(data.b)
        self.state = AdmmState(x=zero, z=zero.clone(), u=zero.clone())

    @property
    def x(self) -> Tensor:
        """The volume, (slices, size, size) float32."""
        return self.state.x

    def step(self) -> float:
        """One iteration with all angles that are in by now; returns ||x - x_previous|| / ||x||."""
        state, data = self.state, self.data
        if data.weight <= 0.0:
            return math.nan
        rho = self.parameters.rho * data.weight
        self._rescale(rho)
        previous = state.x
        target, pull = state.z - state.u, rho
        if self.anchor is not None:
            pull = rho + self.anchor.rho_ratio * data.weight
            target.lerp_(self.anchor.picture, 1 - rho / pull)
        accuracy = _ACCURACY * self.parameters.tolerance
        state.x = data_step(data, target, pull, state.x, self.parameters.cg_iterations, accuracy)
        self._follow_scale()
        state.z = self.prior(state.x + state.u, state.scale).clamp_min(0.0)
        state.u = state.u + state.x - state.z
        state.iterations += 1
        return relative_distance(state.x, previous)

    def solve(self, max_iterations: int | None = None) -> int:
        """Steps until converged (see `AdmmParameters`).

        Parameters
        ----------
        max_iterations
            Most steps; None for that of the parameters.

        Returns
        -------
        int
            How many steps it took.
        """
        limit = self.parameters.max_iterations if max_iterations is None else max_iterations
        stop = StoppingRule(self.parameters.tolerance, limit)
        while not stop(self.step()):
            pass
        return stop.steps

    @property
    def prior_gap(self) -> float:
        """||z - x|| / ||x||: how far the prior and the data disagree."""
        return relative_distance(self.state.x, self.state.z)

    def _rescale(self, rho: float) -> None:
        if self.state.rho > 0.0 and rho != self.state.rho:
            self.state.u = self.state.u * (self.state.rho / rho)
        self.state.rho = rho

    def _follow_scale(self) -> None:
        now = robust_scale(self.state.x)
        self.state.scale = now if self.state.scale == 0.0 else 0.7 * self.state.scale + 0.3 * now


class TikhonovSolver:
    """The physics alone: argmin_x 1/2 ||A x - y||^2_W + rho/2 ||x||^2, warm across arriving angles.

    Parameters
    ----------
    data
        Accumulators, which may grow between steps.
    parameters
        Weight and iterations; the defaults for None.
    """

    def __init__(self, data: DataTerm, parameters: AdmmParameters | None = None) -> None:
        self.data = data
        self.parameters = parameters if parameters is not None else AdmmParameters()
        self.x = torch.zeros_like(data.b)

    def step(self) -> float:
        """`cg_iterations` further iterations; returns ||x - x_previous|| / ||x||."""
        rho = self.parameters.physics_rho * self.data.weight
        if rho <= 0.0:
            return math.nan
        previous = self.x
        self.x = conjugate_gradient(
            lambda v: self.data.normal(v) + rho * v,
            self.data.b,
            self.x,
            iterations=self.parameters.cg_iterations,
            preconditioner=circulant_preconditioner(self.data, rho),
        )
        return relative_distance(self.x, previous)


class StoppingRule:
    """When to stop: after three steps in a row that changed less than `tolerance`, or after three in a row whose
    held-out error lay clearly above the least so far (the solver has begun to fit what does not repeat in other
    angles), or after `max_steps`.

    Parameters
    ----------
    tolerance
        Relative change of a step, ||x - x_previous|| / ||x||.
    max_steps
        At most.
    """

    def __init__(self, tolerance: float, max_steps: int) -> None:
        self.tolerance = tolerance
        self.max_steps = max_steps
        self.steps = 0
        self._quiet = self._above = 0
        self._least = math.inf

    def __call__(self, change: float, heldout_error: float = math.nan) -> bool:
        """Takes in one step.

        Parameters
        ----------
        change
            ||x - x_previous|| / ||x||.
        heldout_error
            ||A x - y|| / ||y|| over the held-out angles; NaN where nothing is held out.

        Returns
        -------
        bool
            True when it was the last.
        """
        self.steps += 1
        self._quiet = self._quiet + 1 if change < self.tolerance else 0
        self._above = self._above + 1 if heldout_error > (1 + CLEARLY) * self._least else 0
        self._least = min(self._least, heldout_error)
        return self._quiet >= 3 or self._above >= 3 or self.steps >= self.max_steps


def relative_distance(x: Tensor, other: Tensor) -> float:
    """||x - other|| / ||x||.

    Parameters
    ----------
    x, other
        Of one shape.

    Returns
    -------
    float
        Zero where both are zero, infinite where x alone is.
    """
    distance = float(torch.linalg.vector_norm(x - other))
    if distance == 0.0:
        return 0.0
    norm = float(torch.linalg.vector_norm(x))
    return distance / norm if norm > 0.0 else math.inf

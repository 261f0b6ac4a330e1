"""How the network is judged: by what its answers predict of angles that no solver has seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pfitre_service.recon.solvers.admm import CLEARLY
from pfitre_service.recon.solvers.prior_rounds import Round

_MOST_IN_TRAINING = 0.4
"""Held-out errors of training's noisiest scans, 30 counts at the brightest pixel, stay below 0.3."""
_MARGIN = 0.03
"""A network's answer, held against the data alone, may predict held-out angles worse by this share: total variation,
which guided by it takes away what noise is left, makes up for as much."""


@dataclass(frozen=True)
class HeldoutErrors:
    """||A x - y|| / ||y|| on angles that no solver has seen; NaN where nothing is held out."""

    physics: float = math.nan
    """Of the data alone."""
    classical: float = math.nan
    """The physics' where there is no classical solver."""
    guided: float = math.nan
    """Of total variation drawn to the network's answer."""
    answer: float = math.nan
    """Of the network's answer held against the data alone; NaN while it was not measured on all that is in."""

    @property
    def unregularised_is_better(self) -> bool:
        """Whether the answer does clearly better with the data alone than with total variation besides."""
        return self.answer < (1 - CLEARLY) * self.guided

    @property
    def learned(self) -> float:
        """By which the network is judged. Guided by a wrong answer, total variation would still explain the
        projections, with that answer in all that they leave open: the larger of the two counts, unless the answer is
        shown plain."""
        return self.answer if self.unregularised_is_better or self.answer > self.guided else self.guided

    @property
    def result(self) -> float:
        """Of what is shown."""
        if math.isnan(self.learned) or self.harmful:
            return self.classical
        return self.answer if self.unregularised_is_better else self.guided

    @property
    def without_network(self) -> float:
        """The better of what can be had without a network."""
        return min(self.physics, self.classical)

    @property
    def outside_training(self) -> bool:
        """Whether the projections fit together worse than any in training: noise alone, another sample in between, or
        only the first few angles of a scan. A network would paint something all the same."""
        return self.without_network > _MOST_IN_TRAINING

    @property
    def harmful(self) -> bool:
        """Whether the network's answer is clearly worse than what can be had without it; NaN speaks for neither."""
        return self.learned > (1 + _MARGIN) * self.without_network


def is_better(found: Round, best: Round) -> bool:
    """Whether an answer takes the place of an earlier one: in a later round it must predict the held-out angles as
    well, in an earlier one (of more data) better. Where nothing is held out, the last is as good as any.

    Parameters
    ----------
    found
        The new answer.
    best
        The best so far.

    Returns
    -------
    bool
        True where it does.
    """
    if math.isnan(found.heldout_error):
        return True
    margin = CLEARLY if found.number >= best.number else -CLEARLY
    return not found.heldout_error > (1 + margin) * best.heldout_error


class PriorMonitor:
    """Says when a network is to be downweighted.

    Parameters
    ----------
    patience
        Rounds in a row in which it must have been harmful.
    """

    def __init__(self, patience: int) -> None:
        self.downweighted = False
        self._patience = patience
        self._worse = 0

    def __call__(self, errors: HeldoutErrors) -> bool:
        """Takes in one round.

        Parameters
        ----------
        errors
            After the round.

        Returns
        -------
        bool
            True when the network is to be downweighted.
        """
        self._worse = self._worse + 1 if errors.harmful else 0
        if self._worse < self._patience:
            return False
        self._worse = 0
        return True

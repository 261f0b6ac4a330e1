"""Search of a weight over a logarithmic grid that grows until the best lies inside it, for several figures at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

REACH = 16
"""Half-steps of the grid to either side of the start at most: a factor of 256."""


@dataclass(frozen=True)
class Trials:
    """What was tried: scores, the higher the better, by half-step of the grid."""

    start: float
    scores: dict[int, tuple[float, ...]]

    def best(self, figure: int = 0) -> int:
        """Half-step with the highest score of that figure."""
        return max(self.scores, key=lambda step: self.scores[step][figure])

    def weight(self, step: int) -> float:
        """The weight of a half-step: each is a factor of the square root of two."""
        return self.start * math.pow(2.0, step / 2)

    def at_edge(self, figure: int = 0) -> bool:
        """Whether the best of that figure lies on the edge of what was tried."""
        return self.best(figure) in (min(self.scores), max(self.scores))


def search(evaluate: Callable[[float], tuple[float, ...]], start: float) -> Trials:
    """Tries `start`, half and twice of it, and goes on by factors of 2 until every figure's best has a lower neighbour
    on both sides; then the square roots of two around each best. `evaluate(weight)`: one score a figure."""
    trials = Trials(start, {})

    def attempt(*steps: int) -> None:
        for step in steps:
            if step not in trials.scores and abs(step) <= REACH:
                trials.scores[step] = evaluate(trials.weight(step))

    attempt(0, -2, 2)
    for figure in range(len(trials.scores[0])):
        while trials.at_edge(figure) and abs(trials.best(figure)) < REACH:
            attempt(trials.best(figure) - 2, trials.best(figure) + 2)
    for figure in range(len(trials.scores[0])):
        best = trials.best(figure)
        attempt(best - 1, best + 1)
    return trials

"""Two patterns in one object: one inside a region and the other outside, or their sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pfitre_service.twin.families.family import Pattern, toned
from pfitre_service.twin.families.fields import wander
from pfitre_service.twin.families.grid import Floats, Grid, log_uniform
from pfitre_service.twin.families.outlines import outline


@dataclass(frozen=True)
class Mixture:
    """The pattern that joins two of `patterns`, drawn anew each time."""

    patterns: Sequence[Pattern]
    """Two of these are drawn."""

    def __call__(self, grid: Grid, rng: np.random.Generator) -> Floats:
        """One mixture.

        Parameters
        ----------
        grid
            Of the volume.
        rng
            Whose state decides.

        Returns
        -------
        Floats
            (z, y, x), 0 to 1.
        """
        first, second = rng.choice(len(self.patterns), 2, replace=False)
        one, other = (toned(self.patterns[i](grid, rng), rng) for i in (first, second))
        one, other = one * np.float32(rng.uniform(0.3, 1)), other * np.float32(rng.uniform(0.3, 1))
        kind = rng.random()
        if kind < 0.4:
            region = outline(grid, rng)
        elif kind < 0.75:
            cells = log_uniform(rng, 1, 5)
            region = grid.soft(wander(grid, rng, cells) * np.float32(0.3 / cells))
        else:
            return (one + other) / max(1.0, float((one + other).max()))
        return region * one + (1 - region) * other

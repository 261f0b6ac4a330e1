"""What turns a pattern that fills the slice into a family: an outline, a choice of tones, and the contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfitre_service.twin.families.grid import FIELD_OF_VIEW, Floats, Grid
from pfitre_service.twin.families.outlines import outline

Family = Callable[[tuple[int, int, int], np.random.Generator], NDArray[np.float32]]
"""family((z, y, x), rng) -> (z, y, x) float32, finite, >= 0: relative attenuation, the densest 0.6 to 1, air 0."""
Pattern = Callable[[Grid, np.random.Generator], Floats]
"""pattern(grid, rng) -> (z, y, x) float32 from 0 to about 1, filling the whole slice."""

_ATTEMPTS = 4
_LEAST_FILLED = 0.01
_FLATTEST = 0.04
_FAINTEST = np.float32(1e-4)


@dataclass(frozen=True)
class Confined:
    """The family of a pattern cut to random outlines, at times inverted or lying in a matrix."""

    pattern: Pattern
    """What fills the slice."""

    def __call__(self, shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.float32]:
        """One phantom.

        Parameters
        ----------
        shape
            (z, y, x), slices square.
        rng
            Whose state decides.

        Returns
        -------
        NDArray[np.float32]
            (z, y, x), relative attenuation, the densest 0.6 to 1, air 0.
        """
        grid = Grid.from_shape(shape)
        for _ in range(_ATTEMPTS):
            volume = toned(self.pattern(grid, rng), rng) * outline(grid, rng)
            if _shows(volume):
                return settled(volume, rng)
        # Sparse patterns miss a small outline now and then: the bare outline is a fair object too.
        return settled(outline(grid, rng), rng)


def _shows(volume: Floats) -> bool:
    """Whether enough of the volume is filled, and with something: its middle slice is not one flat grey."""
    inside = volume[volume.shape[0] // 2]
    inside = inside[inside > _FAINTEST]
    return inside.size > _LEAST_FILLED * volume[0].size and float(inside.std()) > _FLATTEST * float(inside.max())


@dataclass(frozen=True)
class Whole:
    """The family of a pattern that makes its own outline; what leaves the field of view is cut."""

    pattern: Pattern
    """What makes its own outline."""

    def __call__(self, shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.float32]:
        """One phantom.

        Parameters
        ----------
        shape
            (z, y, x), slices square.
        rng
            Whose state decides.

        Returns
        -------
        NDArray[np.float32]
            (z, y, x), relative attenuation, the densest 0.6 to 1, air 0.
        """
        grid = Grid.from_shape(shape)
        inside: Floats = np.float32(FIELD_OF_VIEW) - np.hypot(grid.y, grid.x)
        return settled(self.pattern(grid, rng) * grid.soft(inside), rng)


def toned(volume: Floats, rng: np.random.Generator) -> Floats:
    """As it is in half of the draws; else inverted, lifted into a matrix (low contrast), or with a bent tone curve.

    Parameters
    ----------
    volume
        (z, y, x), 0 to about 1.
    rng
        Whose state decides.

    Returns
    -------
    Floats
        (z, y, x), 0 to 1.
    """
    kind = rng.random()
    volume = np.clip(volume, 0, 1)
    if kind < 0.15:
        return 1 - volume
    if kind < 0.35:
        low = np.float32(rng.uniform(0.03, 0.8))
        return low + (1 - low) * volume
    if kind < 0.5:
        return volume ** np.float32(rng.uniform(0.5, 2))
    return volume


def settled(volume: Floats, rng: np.random.Generator) -> NDArray[np.float32]:
    """Scales so that the densest voxel is between 0.6 and 1, and makes air exactly 0.

    Parameters
    ----------
    volume
        (z, y, x), not negative.
    rng
        Of the scale.

    Returns
    -------
    NDArray[np.float32]
        (z, y, x).
    """
    peak = max(float(volume.max()), 1e-6)
    result = (volume * np.float32(rng.uniform(0.6, 1) / peak)).astype(np.float32, copy=False)
    result[result < _FAINTEST] = 0
    return result

"""The twin's own samples as held-back families: slabs from the middle of a chip or of a battery particle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pfitre_service.twin.chip import layered_chip
from pfitre_service.twin.families.family import settled
from pfitre_service.twin.families.grid import Floats, Grid
from pfitre_service.twin.particle import battery_particle

_LEAST_DEPTH = 16
"""Both samples need so many voxels along z."""


def chip_slab(shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """The middle slices of a chip of 3 to 6 layers, lying as it always does: layers stacked along y.

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
    Grid.from_shape(shape)
    seed, layers = int(rng.integers(2**31)), int(rng.integers(3, 7))
    return settled(_middle(layered_chip(_deep(shape), seed=seed, layers=layers), shape[0]), rng)


def particle_slab(shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """The middle slices of a battery particle.

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
    Grid.from_shape(shape)
    return settled(_middle(battery_particle(_deep(shape), seed=int(rng.integers(2**31))), shape[0]), rng)


def _deep(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    return max(shape[0], _LEAST_DEPTH), shape[1], shape[2]


def _middle(volume: Floats, depth: int) -> Floats:
    first = (volume.shape[0] - depth) // 2
    return volume[first : first + depth]

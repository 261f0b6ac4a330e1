"""A sample of several elements, scanned by a small beam: a map for each angle and element, and the beam itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfitre_service.twin.phantoms import PHANTOMS
from pfitre_service.twin.project import FineVolume, bin_volume

_OVERSAMPLING = 2
_PHANTOM_OF = {"Cu": ("layered_chip", 0), "Fe": ("layered_chip", 1), "Ni": ("battery_particle", 0)}
"""Element to phantom and seed."""
_CONCENTRATION = 0.1
"""Per pixel, of the phantom's densest voxel."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RasterSample:
    """What an ideal fluorescence detector sees, and the beam that it sees it in."""

    angles: NDArray[np.float64]
    """(angle,), degrees."""
    maps: Mapping[str, NDArray[np.float32]]
    """By element: line integrals (angle, row, column)."""
    beam: NDArray[np.float32]
    """(angle, row, column): counts of the ion chamber, which differ from pixel to pixel."""
    truth: Mapping[str, NDArray[np.float32]]
    """By element: (z, y, x)."""

    @property
    def map_shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        rows, columns = self.beam.shape[1:]
        return rows, columns


def raster_sample(
    *, rows: int = 8, columns: int = 48, angles: int = 20, missing: float = 60.0, seed: int = 0
) -> RasterSample:
    """Elements Cu, Fe and Ni, scanned at angles around 0.

    Parameters
    ----------
    rows
        Of a map.
    columns
        Of a map.
    angles
        How many.
    missing
        Degrees of 180 that are left out.
    seed
        Of the beam.

    Returns
    -------
    RasterSample
        Maps, and the truth.
    """
    half = (180 - missing) / 2
    degrees = np.linspace(-half, half, angles)
    shape = (rows * _OVERSAMPLING, columns * _OVERSAMPLING, columns * _OVERSAMPLING)
    volumes = {
        element: PHANTOMS[phantom](shape, seed=number) * np.float32(_CONCENTRATION)
        for element, (phantom, number) in _PHANTOM_OF.items()
    }
    drift = np.random.default_rng(seed).uniform(0.9, 1.1, (angles, rows, columns))
    return RasterSample(
        angles=degrees,
        maps={element: _project(volume, degrees) for element, volume in volumes.items()},
        beam=(1e5 * drift).astype(np.float32),
        truth={element: bin_volume(volume, _OVERSAMPLING) for element, volume in volumes.items()},
    )


def _project(volume: NDArray[np.float32], degrees: NDArray[np.float64]) -> NDArray[np.float32]:
    sample = FineVolume.from_volume(volume, oversampling=_OVERSAMPLING)
    return np.stack([sample.project(float(angle)) for angle in degrees])

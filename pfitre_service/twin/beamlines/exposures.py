"""The frames of one small scan, taken once, so that every form of documents carries the very same counts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.model import Measurement
from pfitre_service.twin.detector import Camera
from pfitre_service.twin.phantoms import PHANTOMS
from pfitre_service.twin.project import FineVolume, bin_volume

_OVERSAMPLING = 2
_ATTENUATION = 0.1
"""Per pixel, of the phantom's densest material."""
_SAME_ANGLE = 0.01
"""Degrees within which a stage stands at the angle of an exposure."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Exposures:
    """Counts of a transmission scan."""

    angles: NDArray[np.float64]
    """(angle,), degrees, evenly spaced and rising."""
    projections: NDArray[np.uint16]
    """(angle, row, column)."""
    flats: NDArray[np.uint16]
    """(frame, row, column), beam without sample."""
    darks: NDArray[np.uint16]
    """(frame, row, column), no beam."""
    axis: float
    """Column of the rotation axis."""
    truth: NDArray[np.float32]
    """(z, y, x), attenuation per pixel."""

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        rows, columns = self.projections.shape[1:]
        return rows, columns

    def at(self, angle: float) -> NDArray[np.uint16]:
        """The projection that was taken at an angle, within 0.01 degrees.

        Parameters
        ----------
        angle
            Degrees.

        Returns
        -------
        NDArray[np.uint16]
            (row, column), counts; a copy.

        Raises
        ------
        InputError
            None was taken there.
        """
        distance = np.abs(self.angles - angle)
        nearest = int(distance.argmin())
        if distance[nearest] > _SAME_ANGLE:
            raise InputError(
                f"no exposure was taken at {angle:g} degrees; the nearest is at {self.angles[nearest]:g}: "
                "move the stage to angles of the exposures only"
            )
        # A copy: documents are shared and may be changed by who receives them.
        frame: NDArray[np.uint16] = self.projections[nearest].copy()
        return frame


def expose(
    *,
    phantom: str = "layered_chip",
    rows: int = 8,
    columns: int = 48,
    angles: int = 40,
    missing: float = 60.0,
    flats: int = 6,
    darks: int = 4,
    seed: int = 0,
) -> Exposures:
    """Takes a phantom at angles around 0.

    Parameters
    ----------
    phantom
        A key of PHANTOMS.
    rows
        Detector rows.
    columns
        Detector columns.
    angles
        How many.
    missing
        Degrees of 180 that are left out.
    flats
        Frames without sample.
    darks
        Frames without beam.
    seed
        Of phantom and noise.

    Returns
    -------
    Exposures
        Counts, and the truth.
    """
    shape = (rows * _OVERSAMPLING, columns * _OVERSAMPLING, columns * _OVERSAMPLING)
    volume = PHANTOMS[phantom](shape, seed=seed) * np.float32(_ATTENUATION)
    axis = columns / 2
    sample = FineVolume.from_volume(volume, oversampling=_OVERSAMPLING, axis=axis)
    camera = Camera((rows, columns), seed=seed)
    half = (180 - missing) / 2
    degrees = np.linspace(-half, half, angles)
    return Exposures(
        angles=degrees,
        projections=np.stack([camera.projection(sample.project(float(angle))) for angle in degrees]),
        flats=np.stack([camera.flat() for _ in range(flats)]),
        darks=np.stack([camera.dark() for _ in range(darks)]),
        axis=axis,
        truth=bin_volume(volume, _OVERSAMPLING),
    )


class PlayedExposures:
    """Exposures as what a detector looks at (an `ImageSource`); flats and darks come in turn, again and again.

    Parameters
    ----------
    exposures
        That are played.
    """

    measurement: Measurement = "transmission"
    """What the images hold."""
    dtype: np.dtype[Any] = np.dtype(np.uint16)
    """Of the images."""

    def __init__(self, exposures: Exposures) -> None:
        self.shape: tuple[int, int] = exposures.frame_shape
        self.rotation_axis: float | None = exposures.axis
        self._exposures = exposures
        self._flats = itertools.cycle(exposures.flats)
        self._darks = itertools.cycle(exposures.darks)

    def projection(self, angle: float) -> NDArray[Any]:
        """An image with the sample in the beam.

        Parameters
        ----------
        angle
            Degrees.

        Returns
        -------
        NDArray[Any]
            (row, column), counts.
        """
        return self._exposures.at(angle)

    def flat(self) -> NDArray[Any]:
        """(row, column), counts with beam and without sample."""
        return next(self._flats).copy()

    def dark(self) -> NDArray[Any]:
        """(row, column), counts without beam."""
        return next(self._darks).copy()

"""Where the images of the twin's detector come from: a simulated exposure or a recorded scan."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.model import Measurement
from pfitre_service.twin.detector import Camera, FluorescenceDetector
from pfitre_service.twin.project import FineVolume
from pfitre_service.twin.recordings import Recording

_SAME_ANGLE = 0.01
"""Degrees within which a stage stands at a recorded angle."""


class ImageSource(Protocol):
    """What the detector looks at."""

    shape: tuple[int, int]
    """(rows, columns)."""
    dtype: np.dtype[Any]
    """Of the images."""
    measurement: Measurement
    """What the images hold: counts, or line integrals."""
    rotation_axis: float | None
    """Column of the rotation axis, where it is known."""

    def projection(self, angle: float) -> NDArray[Any]:
        """An image with the sample in the beam.

        Parameters
        ----------
        angle
            Degrees.

        Returns
        -------
        NDArray[Any]
            (row, column).
        """
        ...

    def flat(self) -> NDArray[Any]:
        """(row, column) with beam and without sample."""
        ...

    def dark(self) -> NDArray[Any]:
        """(row, column) without beam."""
        ...


def look(source: ImageSource, *, angle: float, shutter: str, sample: str) -> NDArray[Any]:
    """What a source shows.

    Parameters
    ----------
    source
        What there is to be seen.
    angle
        Degrees at which the stage stands.
    shutter
        "open" or "closed".
    sample
        "in" or "out".

    Returns
    -------
    NDArray[Any]
        (row, column).
    """
    if shutter == "closed":
        return source.dark()
    return source.flat() if sample == "out" else source.projection(angle)


class SimulatedScan:
    """A phantom in the beam: the projection at any angle, as the detector would see it.

    Parameters
    ----------
    sample
        The phantom.
    detector
        What makes counts, or noisy line integrals, of its shadow.
    """

    def __init__(self, sample: FineVolume, detector: Camera | FluorescenceDetector) -> None:
        self._sample = sample
        self._detector = detector
        self.shape: tuple[int, int] = (sample.values.shape[1], sample.columns)
        self.rotation_axis: float | None = sample.axis
        self.measurement: Measurement = "transmission" if isinstance(detector, Camera) else "line_integral"
        self.dtype: np.dtype[Any] = np.dtype(np.uint16 if isinstance(detector, Camera) else np.float32)

    def projection(self, angle: float) -> NDArray[Any]:
        """An image with the sample in the beam.

        Parameters
        ----------
        angle
            Degrees.

        Returns
        -------
        NDArray[Any]
            (row, column), counts or line integrals.
        """
        return self._detector.projection(self._sample.project(angle))

    def flat(self) -> NDArray[Any]:
        """(row, column), counts with beam and without sample."""
        return self._camera().flat()

    def dark(self) -> NDArray[Any]:
        """(row, column), counts without beam."""
        return self._camera().dark()

    def _camera(self) -> Camera:
        if isinstance(self._detector, FluorescenceDetector):
            raise InputError("a fluorescence detector has no flat or dark field: leave flats and darks at 0")
        return self._detector


class RecordedScan:
    """Projections that a beamline took, played at the stage's angle. They are line integrals and need no flats.

    Parameters
    ----------
    recording
        Projections and their angles.
    rotation_axis
        Column of the rotation axis; None where it is not known.
    """

    measurement: Measurement = "line_integral"
    """What the images hold."""

    def __init__(self, recording: Recording, *, rotation_axis: float | None = None) -> None:
        self._recording = recording
        _, rows, columns = recording.projections.shape
        self.shape: tuple[int, int] = (rows, columns)
        self.dtype: np.dtype[Any] = recording.projections.dtype
        self.rotation_axis = rotation_axis

    def projection(self, angle: float) -> NDArray[Any]:
        """The projection that was recorded at an angle, within 0.01 degrees.

        Parameters
        ----------
        angle
            Degrees.

        Returns
        -------
        NDArray[Any]
            (row, column), line integrals.

        Raises
        ------
        InputError
            None was recorded there.
        """
        distance = np.abs(self._recording.angles - angle)
        nearest = int(distance.argmin())
        if distance[nearest] > _SAME_ANGLE:
            raise InputError(
                f"no projection was recorded at {angle:g} degrees; the nearest is at "
                f"{self._recording.angles[nearest]:g}: move the stage to recorded angles only"
            )
        # A copy: documents are shared and may be changed by who receives them.
        projection: NDArray[Any] = self._recording.projections[nearest].copy()
        return projection

    def flat(self) -> NDArray[Any]:
        """None: a recording has no flat and no dark field.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError("this recording holds line integrals: it has no flat or dark field to play")

    dark = flat

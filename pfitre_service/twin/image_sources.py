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
    dtype: np.dtype[Any]
    measurement: Measurement
    rotation_axis: float | None
    """Column of the rotation axis, where it is known."""

    def projection(self, angle: float) -> NDArray[Any]:
        """(row, column) with the sample at `angle` degrees."""
        ...

    def flat(self) -> NDArray[Any]:
        """(row, column) with beam and without sample."""
        ...

    def dark(self) -> NDArray[Any]:
        """(row, column) without beam."""
        ...


def look(source: ImageSource, *, angle: float, shutter: str, sample: str) -> NDArray[Any]:
    """(row, column): what `source` shows with the stage at `angle` degrees, the shutter "open" or "closed", and the
    sample "in" or "out"."""
    if shutter == "closed":
        return source.dark()
    return source.flat() if sample == "out" else source.projection(angle)


class SimulatedScan:
    """A phantom in the beam: the projection at any angle, as the detector would see it."""

    def __init__(self, sample: FineVolume, detector: Camera | FluorescenceDetector) -> None:
        self._sample = sample
        self._detector = detector
        self.shape: tuple[int, int] = (sample.values.shape[1], sample.columns)
        self.rotation_axis: float | None = sample.axis
        self.measurement: Measurement = "transmission" if isinstance(detector, Camera) else "line_integral"
        self.dtype: np.dtype[Any] = np.dtype(np.uint16 if isinstance(detector, Camera) else np.float32)

    def projection(self, angle: float) -> NDArray[Any]:
        return self._detector.projection(self._sample.project(angle))

    def flat(self) -> NDArray[Any]:
        return self._camera().flat()

    def dark(self) -> NDArray[Any]:
        return self._camera().dark()

    def _camera(self) -> Camera:
        if isinstance(self._detector, FluorescenceDetector):
            raise InputError("a fluorescence detector has no flat or dark field: leave flats and darks at 0")
        return self._detector


class RecordedScan:
    """Projections that a beamline took, played at the stage's angle. They are line integrals and need no flats."""

    measurement: Measurement = "line_integral"

    def __init__(self, recording: Recording, *, rotation_axis: float | None = None) -> None:
        self._recording = recording
        _, rows, columns = recording.projections.shape
        self.shape: tuple[int, int] = (rows, columns)
        self.dtype: np.dtype[Any] = recording.projections.dtype
        self.rotation_axis = rotation_axis

    def projection(self, angle: float) -> NDArray[Any]:
        """The recorded projection at `angle`; raises InputError where none was recorded within 0.01 degrees."""
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
        raise InputError("this recording holds line integrals: it has no flat or dark field to play")

    dark = flat

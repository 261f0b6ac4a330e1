"""Where the images of the twin's detector come from: a simulated exposure or a recorded scan."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.model import Measurement
from pfitre_service.twin.detector import Camera, FluorescenceDetector
from pfitre_service.twin.project import FineVolume
from pfitre_service.twin.recordings import Recording

_SAME_ANGLE = 0.01
"""Degrees within which a stage stands at a recorded angle."""


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

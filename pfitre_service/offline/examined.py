"""Frames to be examined that are not to be solved: those that `pfitre doctor` has read."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfitre_service.engine.examination import examine
from pfitre_service.errors import InputError
from pfitre_service.model import Finding, Frame, Measurement
from pfitre_service.preprocess import PreprocessParameters, References, to_line_integrals
from pfitre_service.preprocess.value_plausibility import FrameValues
from pfitre_service.recon.calibration.calibration import bright_rows

_MOST_BYTES = 512 << 20
"""Of projections that are kept; beyond, every second one is let go."""
_MOST_REFERENCES = 32
"""Flats, and darks, that are kept."""
_SLICES = 3


class Examined:
    """The frames of one tomogram; takes them as they come, and is asked at the end."""

    def __init__(self, measurement: Measurement, *, said: bool) -> None:
        self.measurement: Measurement = measurement
        self.measurement_said = said
        self.references: References | None = None
        self.values: dict[int, FrameValues] = {}
        self._sample: dict[int, tuple[float, Tensor]] = {}
        self._projections: dict[int, Frame] = {}
        self._flats: list[Frame] = []
        self._darks: list[Frame] = []
        self._seen, self._every, self._bytes = 0, 1, 0

    def take(self, frame: Frame) -> None:
        """One more frame of any role."""
        if frame.role == "projection":
            self._take_projection(frame)
            return
        kept = self._flats if frame.role == "flat" else self._darks
        if len(kept) < _MOST_REFERENCES:
            kept.append(frame)

    def findings(self) -> tuple[Finding, ...]:
        """Everything that speaks against the frames taken. Raises InputError when they do not fit each other."""
        parameters = PreprocessParameters()
        self.references = References.from_frames(_stack(self._flats), _stack(self._darks), parameters)
        bright: Tensor | None = None
        for row, frame in self._projections.items():
            corrected = to_line_integrals(frame.image[None], self.references, parameters, self.measurement)
            self.values[row] = corrected.facts[0]
            if not corrected.unusable[0]:
                image = torch.from_numpy(corrected.values[0])
                bright = bright_rows(image, _SLICES) if bright is None else bright
                self._sample[row] = (frame.angle, image[bright])
        return examine(self)

    def sample(self) -> tuple[Tensor, Tensor, Tensor]:
        """As of `Accumulators`: line integrals (angle, slices, columns), angles in degrees, and rows."""
        places = sorted(self._sample)
        rows = torch.stack([self._sample[place][1] for place in places]) if places else torch.zeros(0, 1, 2)
        angles = torch.tensor([self._sample[place][0] for place in places], dtype=torch.float64)
        return rows, angles, torch.tensor(places, dtype=torch.int64)

    def _take_projection(self, frame: Frame) -> None:
        row, self._seen = self._seen, self._seen + 1
        if row % self._every:
            return
        self._projections[row] = frame
        self._bytes += frame.image.nbytes
        if self._bytes > _MOST_BYTES and len(self._projections) > 64:
            self._every *= 2
            self._projections = {row: one for row, one in self._projections.items() if row % self._every == 0}
            self._bytes = sum(one.image.nbytes for one in self._projections.values())


def _stack(frames: list[Frame]) -> NDArray[np.generic] | None:
    if len({frame.image.shape for frame in frames}) > 1:
        raise InputError("flats or darks of several sizes in one tomogram; they must be alike")
    return np.stack([frame.image for frame in frames]) if frames else None

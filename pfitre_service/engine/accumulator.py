"""Frames of one tomogram, added up under one calibration.

What a frame adds depends on the flats and darks, the rotation axis and its own shift. When these change, frames are
added up anew beside the old ones, and an engine goes on with the new ones when they have caught up.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfitre_service.model import FrameBatch, HeldOut, Measurement, ScanGeometry
from pfitre_service.preprocess import LineIntegrals, PreprocessParameters, References, to_line_integrals
from pfitre_service.preprocess.noise import noise_energy
from pfitre_service.preprocess.value_plausibility import FrameValues
from pfitre_service.recon.calibration.calibration import Calibration, bright_rows
from pfitre_service.recon.operators.explicit import ExplicitProjections
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.solvers.filtered_backprojection import FilteredBackprojection


class Accumulators:
    """Accumulators of the solver, the held-out ones and the preview's, and a few slices of every frame.

    Parameters
    ----------
    geometry
        Of the line integrals.
    calibration
        Axis and shifts that frames are added with.
    references
        Flats and darks; None for none.
    measurement
        What the frames hold.
    measurement_said
        Whether a person or a document said so.
    preprocess
        From counts to line integrals.
    heldout_every
        Every n-th frame is held out; 0 holds none out.
    ray_weights
        Whether frames come with a weight for each ray.
    slices
        How many are kept of every frame, for `sample`.
    device
        Where the accumulators lie.
    """

    def __init__(
        self,
        geometry: ScanGeometry,
        calibration: Calibration,
        references: References | None,
        *,
        measurement: Measurement,
        measurement_said: bool,
        preprocess: PreprocessParameters,
        heldout_every: int,
        ray_weights: bool,
        slices: int,
        device: torch.device,
    ) -> None:
        self.geometry = replace(geometry, axis=calibration.axis)
        self.calibration = calibration
        self.references = references
        self.heldout_every = heldout_every
        self.stored = 0
        """Projections given to `add`, unusable and withdrawn ones included."""
        self.unusable = 0
        self.damaged: dict[int, str] = {}
        """Projections among them that the store could not give any more, by row, with name and reason."""
        self.warnings: dict[str, None] = {}
        data_term = ExplicitProjections if ray_weights else NormalEquations
        self.solved: NormalEquations = data_term(self.geometry, device=device)
        self.heldout = self.solved.empty()
        self.heldout_noise = 0.0
        """Expected energy of the noise in the held-out frames, weighted as these are: ||y - y_true||^2_W."""
        self.angles: dict[int, float] = {}
        """Degrees, by the row in the store, of all frames that are in."""
        self.preview = FilteredBackprojection(self.geometry, device=device)
        self.measurement: Measurement = measurement
        self.measurement_said = measurement_said
        self.values: dict[int, FrameValues] = {}
        """What each frame that was asked for says by itself, by its row in the store, unusable ones included."""
        self._preprocess = preprocess
        self._slices = slices
        self._bright: Tensor | None = None
        self._sample: dict[int, tuple[float, Tensor]] = {}

    @property
    def used(self) -> int:
        """Projections in the solver's or the held-out accumulators."""
        return self.solved.angles + self.heldout.angles

    def add(self, batch: FrameBatch, withdrawn: frozenset[int]) -> None:
        """Adds frames.

        Parameters
        ----------
        batch
            As they lie in the store.
        withdrawn
            Rows of the store that are left out.
        """
        corrected = self._corrected(batch)
        rows = batch.first + np.arange(len(batch.images))
        wanted = ~np.isin(rows, list(withdrawn))
        self._note(batch, corrected, wanted)
        chosen = wanted & ~corrected.unusable
        for data, values, angles, given in self._parts(batch, corrected, chosen):
            data.add(values, angles, **given)
            self._accumulate_noise(data, values, given, sign=1)
            self.preview.add(values, angles, shifts=given["shifts"])
        self._keep(batch, corrected, chosen)
        self.angles.update(zip(rows[chosen].tolist(), batch.angles[chosen].tolist(), strict=True))
        self.stored += len(batch.images)

    def forget(self, row: int) -> None:
        """Takes out a frame that was left out as damaged.

        Parameters
        ----------
        row
            Of the store.
        """
        del self.damaged[row]
        self.unusable -= 1

    def remove(self, batch: FrameBatch) -> None:
        """Takes out frames that `add` put in, damaged ones aside; those that were unusable are forgotten.

        Parameters
        ----------
        batch
            As it was given to `add`.
        """
        corrected = self._corrected(batch)
        for data, values, angles, given in self._parts(batch, corrected, ~corrected.unusable):
            data.remove(values, angles, **given)
            self._accumulate_noise(data, values, given, sign=-1)
            self.preview.remove(values, angles, shifts=given["shifts"])
        self.unusable -= int(corrected.unusable.sum())
        for row in range(batch.first, batch.first + len(batch.images)):
            self._sample.pop(row, None)
            self.values.pop(row, None)
            self.angles.pop(row, None)

    @property
    def noise_floor(self) -> float:
        """||y - y_true|| / ||y|| of the held-out frames: the held-out error of a perfect volume. NaN without any."""
        energy = float(self.heldout.energy.sum()) if self.heldout.angles else 0.0
        return math.sqrt(max(0.0, self.heldout_noise) / energy) if energy > 0 else math.nan

    def sample(self) -> tuple[Tensor, Tensor, Tensor]:
        """A few bright slices of every frame: line integrals (angle, slices, columns) float32, angles (angle,) in
        degrees, and rows in the store (angle,)."""
        places = sorted(self._sample)
        angles = torch.tensor([self._sample[place][0] for place in places], dtype=torch.float64)
        empty = torch.zeros(0, 1, self.geometry.columns)
        rows = torch.stack([self._sample[place][1] for place in places]) if places else empty
        return rows, angles, torch.tensor(places, dtype=torch.int64)

    @property
    def sampled(self) -> int:
        """How many frames `sample` has."""
        return len(self._sample)

    def _accumulate_noise(self, data: NormalEquations, values: Tensor, given: dict[str, Tensor], *, sign: int) -> None:
        if data is self.heldout:
            weighed = values * given["ray_weights"].sqrt() if "ray_weights" in given else values
            self.heldout_noise += sign * float((given["weights"].numpy() * noise_energy(weighed.numpy())).sum())

    def _corrected(self, batch: FrameBatch) -> LineIntegrals:
        corrected = to_line_integrals(
            batch.images, self.references, self._preprocess, self.measurement, batch.ray_weights
        )
        if not batch.damaged:
            return corrected
        unusable, reasons = corrected.unusable.copy(), list(corrected.reasons)
        for row in batch.damaged:
            unusable[row - batch.first], reasons[row - batch.first] = True, ""  # `damaged` has the reason
        return replace(corrected, unusable=unusable, reasons=tuple(reasons))

    def _parts(
        self, batch: FrameBatch, corrected: LineIntegrals, chosen: NDArray[np.bool_]
    ) -> list[tuple[NormalEquations, Tensor, Tensor, dict[str, Tensor]]]:
        """Where the chosen frames go: accumulators, line integrals, angles, and what else `add` is given."""
        rows = batch.first + np.arange(len(batch.images))
        held = HeldOut(self.heldout_every).among(rows)
        shifts = self.calibration.shifts_of(torch.from_numpy(rows))
        given = {"weights": torch.from_numpy(corrected.weights), "shifts": shifts}
        if corrected.ray_weights is not None:
            given["ray_weights"] = torch.tensor(corrected.ray_weights)
        return [
            (
                data,
                torch.from_numpy(corrected.values[part]),
                torch.from_numpy(batch.angles[part]),
                {name: values[torch.from_numpy(part)] for name, values in given.items()},
            )
            for part, data in ((chosen & ~held, self.solved), (chosen & held, self.heldout))
            if part.any()
        ]

    def _note(self, batch: FrameBatch, corrected: LineIntegrals, wanted: NDArray[np.bool_]) -> None:
        self.warnings.update(dict.fromkeys(corrected.warnings))
        self.unusable += int((corrected.unusable & wanted).sum())
        self.damaged |= {row: why for row, why in batch.damaged.items() if wanted[row - batch.first]}
        for row in np.flatnonzero(wanted).tolist():
            if batch.first + row not in batch.damaged:
                self.values[batch.first + row] = corrected.facts[row]
        for row, reason in enumerate(corrected.reasons):
            if reason and wanted[row]:
                self.warnings[f"projection {batch.first + row} was left out: {reason}"] = None

    def _keep(self, batch: FrameBatch, corrected: LineIntegrals, chosen: NDArray[np.bool_]) -> None:
        for row in np.flatnonzero(chosen).tolist():
            image = torch.from_numpy(corrected.values[row])
            if self._bright is None:
                self._bright = bright_rows(image, self._slices)
            self._sample[batch.first + row] = (float(batch.angles[row]), image[self._bright])

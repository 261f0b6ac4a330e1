"""What is known of where the rays ran: the rotation axis and the drift of each projection."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pfitre_service.recon.calibration.drift import find_shifts
from pfitre_service.recon.calibration.rotation_axis import find_axis
from pfitre_service.recon.parameters import CalibrationParameters

AxisOrigin = Literal["given", "found", "middle"]
"""Where the axis comes from: the run or the user; the projections; the detector's middle, for want of better."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What projections are added with."""

    axis: float
    """Column of the rotation axis."""
    axis_origin: AxisOrigin = "given"
    """See `AxisOrigin`."""
    axis_uncertainty: float = math.nan
    """Columns, one standard deviation; NaN unless it was found."""
    shifts: tuple[float, ...] = ()
    """Columns by which a projection lies right of where it should, by its row in the store; zero for rows beyond."""
    angles: int = 0
    """How many projections it was found from."""
    doubt: str = ""
    """Why the axis was not found, where it was looked for."""

    def shifts_of(self, rows: Tensor) -> Tensor:
        """The shifts of some projections.

        Parameters
        ----------
        rows
            (row,) int64, rows of projections in the store.

        Returns
        -------
        Tensor
            (row,) float64, columns; zero for rows beyond those that are known.
        """
        known = torch.tensor([*self.shifts, 0.0], dtype=torch.float64)
        return known[rows.clamp_max(len(self.shifts))]

    def differs(self, other: Calibration, tolerance: float) -> bool:
        """Whether frames added with another calibration should be added again with this one.

        Parameters
        ----------
        other
            The calibration that they were added with.
        tolerance
            Columns by which axis or shifts may change without that.

        Returns
        -------
        bool
            True where they should.
        """
        rows = torch.arange(max(len(self.shifts), len(other.shifts)))
        moved = (self.shifts_of(rows) - other.shifts_of(rows)).abs().max().item() if len(rows) else 0.0
        return abs(self.axis - other.axis) > tolerance or moved > tolerance

    def document(self) -> dict[str, Any]:
        """The calibration as a catalogue's metadata; `from_document` reads it back."""
        uncertainty = None if math.isnan(self.axis_uncertainty) else round(self.axis_uncertainty, 3)
        return {
            "axis": self.axis,
            "axis_origin": self.axis_origin,
            "axis_uncertainty": uncertainty,
            "shifts": [round(shift, 3) for shift in self.shifts],
            "angles": self.angles,
            "doubt": self.doubt,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Calibration | None:
        """Reads what `document` has written.

        Parameters
        ----------
        document
            From a catalogue's metadata.

        Returns
        -------
        Calibration | None
            None for what `document` did not write.
        """
        try:
            uncertainty = document["axis_uncertainty"]
            found = cls(
                axis=float(document["axis"]),
                axis_origin=document["axis_origin"],
                axis_uncertainty=math.nan if uncertainty is None else float(uncertainty),
                shifts=tuple(float(shift) for shift in document["shifts"]),
                angles=int(document["angles"]),
                doubt=str(document["doubt"]),
            )
        except (KeyError, TypeError, ValueError):
            return None
        sound = all(map(math.isfinite, (found.axis, *found.shifts))) and found.axis_origin in get_args(AxisOrigin)
        return found if sound else None


def calibrate(
    rows: Tensor, angles: Tensor, places: Tensor, before: Calibration, parameters: CalibrationParameters
) -> Calibration:
    """The calibration that projections speak for; `before` where they say nothing clear.

    Parameters
    ----------
    rows
        (angle, slices, columns) float32 line integrals of a few bright slices.
    angles
        (angle,) degrees.
    places
        (angle,) int64, rows of the projections in the store.
    before
        What is known by now; an axis that was given stays.
    parameters
        Whether axis and drift are looked for.

    Returns
    -------
    Calibration
        Of these projections.
    """
    known = replace(before, angles=len(angles))
    shifts = before.shifts_of(places)
    known = _with_axis(known, rows, angles, shifts, parameters)
    if not parameters.drift:
        return known
    shifts = find_shifts(rows, angles, known.axis)
    by_place = torch.zeros(int(places.max()) + 1 if len(places) else 0, dtype=torch.float64)
    by_place[places] = shifts
    known = replace(known, shifts=tuple(by_place.tolist()) if bool(shifts.any()) else ())
    return _with_axis(known, rows, angles, shifts, parameters) if bool(shifts.any()) else known


def _with_axis(
    known: Calibration, rows: Tensor, angles: Tensor, shifts: Tensor, parameters: CalibrationParameters
) -> Calibration:
    """With the axis looked for, unless it is given: it moves by more than it is uncertain, or not at all."""
    if known.axis_origin == "given":
        return known
    found = find_axis(rows, angles, shifts=shifts)
    if found.doubt:
        return known if known.axis_origin == "found" else replace(known, doubt=found.doubt)
    moved = abs(found.axis - known.axis) > max(parameters.tolerance, found.uncertainty)
    axis = found.axis if moved else known.axis
    return replace(known, axis=axis, axis_origin="found", axis_uncertainty=found.uncertainty, doubt="")


def bright_rows(image: Tensor, count: int) -> Tensor:
    """The rows with the most mass, one from each of as many bands. A row's mass is the same at every angle, so one
    projection tells.

    Parameters
    ----------
    image
        (row, column), one projection in line integrals.
    count
        Number of bands, and of rows; there are no more than the image has.

    Returns
    -------
    Tensor
        (count,) int64, indices of rows, rising.
    """
    mass = image.mean(1)
    bands = torch.arange(len(mass)).tensor_split(min(count, len(mass)))
    return torch.stack([band[mass[band].argmax()] for band in bands])

"""When rotation axis and shifts of a tomogram are looked for, and from where.

While angles come, the search goes on from what is in use, and what changes little is left alone: people watch. At the
end it begins with the first calibration, as if all projections had come at once, so that what comes out depends on the
projections alone: not on when they came, nor on what has been withdrawn since.
"""

from __future__ import annotations

from dataclasses import replace

from pfitre_service.engine.accumulator import Accumulators
from pfitre_service.model import ScanGeometry
from pfitre_service.preprocess import PreprocessParameters
from pfitre_service.recon.calibration.calibration import Calibration, calibrate
from pfitre_service.recon.calibration.rotation_axis import FEWEST_ANGLES
from pfitre_service.recon.parameters import CalibrationParameters

_GROWTH = 1.5
"""Axis and shifts are looked for each time that so many times as many projections are in."""
_SAME = 1e-3
"""Columns by which the last search may differ from what is in use: a volume may move by a hundredth of its norm when
its axis moves by a hundredth of a column."""


class CalibrationSearch:
    """The calibrations of one tomogram, one after the other.

    Parameters
    ----------
    first
        What is known without looking at projections.
    parameters
        What is looked for.
    """

    def __init__(self, first: Calibration, parameters: CalibrationParameters) -> None:
        self._first = first
        self._parameters = parameters
        self._ended = False

    @property
    def slices(self) -> int:
        """How many of every frame it needs; 0 where nothing is looked for."""
        searches = self._parameters.drift or self._first.axis_origin != "given"
        return self._parameters.slices if searches else 0

    def resume(self) -> None:
        """The projections have changed since the last search."""
        self._ended = False

    def update(self, frames: Accumulators) -> Calibration | None:
        """Looks where enough has come since the last time. What is found is noted with `frames`, unless it differs so
        much that these should be added again with it.

        Parameters
        ----------
        frames
            That are in.

        Returns
        -------
        Calibration | None
            To add frames again with; None for none.
        """
        before = frames.calibration
        if not self.slices or frames.sampled < max(_GROWTH * before.angles, FEWEST_ANGLES):
            return None
        return self._compare(frames, calibrate(*frames.sample(), before, self._parameters), self._parameters.tolerance)

    def conclude(self, frames: Accumulators) -> Calibration | None:
        """The same for all projections there will be; looks once, until told to `resume`.

        Parameters
        ----------
        frames
            That are in.

        Returns
        -------
        Calibration | None
            To add frames again with; None for none.
        """
        if not self.slices or self._ended or not frames.sampled:
            return None
        self._ended = True
        return self._compare(frames, calibrate(*frames.sample(), self._first, self._parameters), _SAME)

    def _compare(self, frames: Accumulators, found: Calibration, tolerance: float) -> Calibration | None:
        active = frames.calibration
        if found.differs(active, tolerance):
            return found
        frames.calibration = replace(found, axis=active.axis, shifts=active.shifts)
        return None


def given_axis(said: float | None, parameters: CalibrationParameters) -> float | None:
    """The rotation axis by the settings, or else as the run or the caller said.

    Parameters
    ----------
    said
        Column; None where nobody did.
    parameters
        The settings.

    Returns
    -------
    float | None
        Column; None where neither did.
    """
    return said if isinstance(parameters.rotation_axis, str) else float(parameters.rotation_axis)


def first_calibration(geometry: ScanGeometry, given: float | None, parameters: CalibrationParameters) -> Calibration:
    """What a tomogram begins with: the geometry's axis, to be found unless it was given or is to be the middle.

    Parameters
    ----------
    geometry
        Of the line integrals.
    given
        Column of the axis in the frames; None where it was not given.
    parameters
        Whether it is looked for.

    Returns
    -------
    Calibration
        Without shifts.
    """
    searched = given is None and parameters.rotation_axis == "auto"
    return Calibration(geometry.axis, "middle" if searched else "given")


def of_detector(calibration: Calibration, preprocess: PreprocessParameters) -> Calibration:
    """A calibration in columns of the frames.

    Parameters
    ----------
    calibration
        In the solver's columns.
    preprocess
        Region and binning between the two.

    Returns
    -------
    Calibration
        Axis, uncertainty and shifts in columns of the frames.
    """
    return _changed(calibration, _origin(preprocess), preprocess.bin)


def of_solver(calibration: Calibration, preprocess: PreprocessParameters) -> Calibration:
    """A calibration in the solver's columns.

    Parameters
    ----------
    calibration
        In columns of the frames.
    preprocess
        Region and binning between the two.

    Returns
    -------
    Calibration
        Axis, uncertainty and shifts in the solver's columns.
    """
    return _changed(calibration, -_origin(preprocess) / preprocess.bin, 1 / preprocess.bin)


def _origin(preprocess: PreprocessParameters) -> float:
    """Where in the frame the solver's column 0 lies."""
    return (preprocess.columns or (0, 0))[0] + (preprocess.bin - 1) / 2


def _changed(calibration: Calibration, origin: float, width: float) -> Calibration:
    return replace(
        calibration,
        axis=origin + width * calibration.axis,
        axis_uncertainty=width * calibration.axis_uncertainty,
        shifts=tuple(width * shift for shift in calibration.shifts),
    )

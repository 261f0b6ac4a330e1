"""Calibrations in columns of the detector's frames, as people give and read them.

The solver counts in the columns that region of interest and bins have left: the middle of its column k lies at column
`first + bin * k + (bin - 1) / 2` of the frame.
"""

from __future__ import annotations

from dataclasses import replace

from pfitre_service.preprocess import PreprocessParameters
from pfitre_service.recon.calibration.calibration import Calibration


def of_detector(calibration: Calibration, preprocess: PreprocessParameters) -> Calibration:
    """The solver's `calibration` in columns of the frames."""
    return _changed(calibration, _origin(preprocess), preprocess.bin)


def of_solver(calibration: Calibration, preprocess: PreprocessParameters) -> Calibration:
    """The other way round."""
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

from __future__ import annotations

import pytest

from pfitre_service.engine.calibration_search import of_detector, of_solver
from pfitre_service.model import ScanGeometry
from pfitre_service.preprocess import PreprocessParameters, region_geometry
from pfitre_service.recon.calibration.calibration import Calibration


@pytest.mark.parametrize("change", [{}, {"columns": (10, 50)}, {"bin": 2}, {"columns": (11, 50), "bin": 3}])
def test_an_axis_is_told_in_the_columns_that_it_was_given_in(change):
    preprocess = PreprocessParameters(**change)
    geometry = region_geometry(ScanGeometry.from_detector(rows=6, columns=60, axis=33.25), preprocess)
    told = of_detector(Calibration(geometry.axis, "found", 0.5, (0.0, -1.0), 7, "none"), preprocess)
    assert told.axis == pytest.approx(33.25)
    assert told.axis_uncertainty == 0.5 * preprocess.bin
    assert told.shifts == (0.0, -1.0 * preprocess.bin)
    back = of_solver(told, preprocess)
    assert back.axis == pytest.approx(geometry.axis)
    assert (back.axis_uncertainty, back.shifts[1]) == (pytest.approx(0.5), pytest.approx(-1.0))
    assert (back.axis_origin, back.angles, back.doubt) == ("found", 7, "none")

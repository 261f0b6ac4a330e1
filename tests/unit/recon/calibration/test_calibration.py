from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pfitre_service.recon.calibration.calibration import Calibration, bright_rows, calibrate
from pfitre_service.recon.parameters import CalibrationParameters
from pfitre_service.twin.families import draw
from pfitre_service.twin.project import project

ANGLES = torch.arange(0.0, 180.0, 3.0, dtype=torch.float64)
PLACES = torch.arange(len(ANGLES))


@pytest.fixture(scope="module")
def rows():
    volume = draw("battery_particle", (32, 128, 128), np.random.default_rng(0))[10:22]
    return torch.from_numpy(project(volume, ANGLES.numpy(), axis=34.0))


def test_an_axis_that_is_given_is_not_looked_for(rows):
    given = Calibration(31.5)
    found = calibrate(rows, ANGLES, PLACES, given, CalibrationParameters(drift=False))
    assert (found.axis, found.axis_origin, found.angles) == (31.5, "given", len(ANGLES))


def test_an_axis_that_nobody_gave_is_found(rows):
    found = calibrate(rows, ANGLES, PLACES, Calibration(31.5, "middle"), CalibrationParameters())
    assert found.axis == pytest.approx(34.0, abs=0.3)
    assert (found.axis_origin, found.shifts, found.doubt) == ("found", (), "")


def test_an_axis_as_good_as_found_stays(rows):
    found = calibrate(rows, ANGLES, PLACES, Calibration(34.1, "middle"), CalibrationParameters())
    assert (found.axis, found.axis_origin) == (34.1, "found")


def test_in_doubt_the_axis_stays_and_the_doubt_is_told(rows):
    few = slice(0, 10)
    unknown = calibrate(rows[few], ANGLES[few], PLACES[few], Calibration(31.5, "middle"), CalibrationParameters())
    known = calibrate(rows[few], ANGLES[few], PLACES[few], Calibration(34.0, "found"), CalibrationParameters())
    assert (unknown.axis, unknown.axis_origin) == (31.5, "middle")
    assert "span too little" in unknown.doubt
    assert (known.axis, known.axis_origin, known.doubt) == (34.0, "found", "")


def test_shifts_belong_to_rows_of_the_store():
    calibration = Calibration(5.0, shifts=(0.0, 1.5))
    assert calibration.shifts_of(torch.tensor([1, 0, 7])).tolist() == [1.5, 0.0, 0.0]
    assert Calibration(5.0).shifts_of(torch.tensor([3])).tolist() == [0.0]


def test_what_differs_by_less_than_the_tolerance_is_the_same():
    here = Calibration(5.0, shifts=(0.0, 1.5))
    assert not here.differs(Calibration(5.1, shifts=(0.1, 1.5, 0.2)), 0.25)
    assert here.differs(Calibration(5.3, shifts=(0.0, 1.5)), 0.25)
    assert here.differs(Calibration(5.0), 0.25)
    assert Calibration(5.0).differs(here, 0.25)


def test_it_comes_back_from_a_catalogue_as_it_went_in():
    for calibration in (Calibration(5.25, "found", 0.125, (0.0, -1.5), 40), Calibration(3.0, "middle", doubt="few")):
        document = json.loads(json.dumps(calibration.document(), allow_nan=False))
        assert repr(Calibration.from_document(document)) == repr(calibration)  # NaN is not equal to itself


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"axis": "x"},
        Calibration(5.0).document() | {"axis": None},
        Calibration(5.0).document() | {"shifts": [1e999]},
    ],
)
def test_what_is_none_is_not_taken_for_one(document):
    assert Calibration.from_document(document) is None


def test_the_brightest_row_of_each_band_is_chosen():
    image = torch.ones(8, 4)
    image[[2, 5, 6]] = torch.tensor([[3.0], [2.0], [4.0]])
    assert bright_rows(image, 2).tolist() == [2, 6]
    assert bright_rows(image, 99).tolist() == list(range(8))


@pytest.mark.parametrize("change", [{"rotation_axis": float("nan")}, {"tolerance": 0.0}, {"slices": 0}])
def test_settings_that_cannot_be_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        CalibrationParameters(**change)

"""What the process variables say of a tomogram, and which slices may be chosen."""

from __future__ import annotations

import math

import pytest

from pfitre_service.epics.pva_values import Severity
from pfitre_service.epics.state import Known, Places
from pfitre_service.model import TomogramKey

KEY = TomogramKey("run-1")
ITERATING = {
    "status": "iterating",
    "revision": 7,
    "progress": {"time": 123.5, "angles_used": 26, "heldout_error": 0.125},
    "quality": {"sentence": "Angles all round."},
    "geometry": {"pixel_size_nm": 10.0},
    "parameters": {"preprocess": {"bin": 2}},
}


def known(**changes):
    return Known.from_metadata(KEY, ITERATING | changes)


def test_it_is_read_from_the_metadata():
    told = known(reason=None)
    assert (told.status, told.reason, told.revision, told.made) == ("iterating", "", 7, 123.5)
    assert (told.angles_used, told.heldout_error, told.sentence) == (26, 0.125, "Angles all round.")
    assert told.pixel_size_nm == 20.0, "of a voxel: two pixels of the detector"


def test_a_tomogram_that_has_just_begun_tells_little():
    told = Known.from_metadata(KEY, {"status": "receiving", "created": 1.0})
    assert (told.revision, told.angles_used, told.sentence, told.pixel_size_nm) == (None, 0, "", None)
    assert math.isnan(told.heldout_error)


def test_nothing_held_out_is_no_number():
    assert math.isnan(known(progress={"heldout_error": None}).heldout_error)


@pytest.mark.parametrize(
    ("changes", "severity", "message"),
    [
        ({}, Severity.NONE, ""),
        ({"warnings": ["axis doubtful"]}, Severity.MINOR, "axis doubtful"),
        ({"warnings": ["axis doubtful", "stripes", "few"]}, Severity.MINOR, "axis doubtful (and 2 more)"),
        ({"revision": None}, Severity.INVALID, "tomogram run-1 has no volume yet"),
        ({"status": "failed", "reason": "no projection"}, Severity.MAJOR, "no projection"),
        ({"status": "failed", "warnings": ["x"], "revision": None}, Severity.MAJOR, "the tomogram failed"),
    ],
)
def test_the_alarm_follows_from_status_volume_and_warnings(changes, severity, message):
    alarm = known(**changes).alarm
    assert (alarm.severity, alarm.message) == (severity, message)


def test_the_middle_is_shown_until_a_slice_is_chosen():
    places = Places((12, 32, 30))
    assert [places.index(axis) for axis in ("z", "y", "x")] == [6, 16, 15]
    assert places.choose("y", 0) is None
    assert places.choose("z", 11) is None
    assert [places.index(axis) for axis in ("z", "y", "x")] == [11, 0, 15]


@pytest.mark.parametrize("index", [-1, 12, 2**31 - 1])
def test_a_slice_that_is_not_there_is_refused_with_the_limits(index):
    places = Places((12, 32, 30))
    places.choose("z", 3)
    assert places.choose("z", index) == f"Z must be 0 to 11 (12 slices); got {index}, and 3 stays"
    assert places.index("z") == 3


def test_without_a_volume_there_is_nothing_to_choose():
    places = Places()
    assert places.choose("x", 0) == "there is no volume yet, so no slice to choose"
    assert places.size("x") is None


def test_a_smaller_volume_shows_its_middle_and_a_larger_one_the_choice_again():
    places = Places((12, 32, 32))
    places.choose("z", 10)
    places.shape = (4, 32, 32)
    assert places.index("z") == 2
    places.shape = (12, 32, 32)
    assert places.index("z") == 10

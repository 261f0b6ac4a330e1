"""The unit that a descriptor names counts, wherever the angle stands, unless the profile says another word."""

from __future__ import annotations

import math

import pytest

from pfitre_service.ingest import AddFrames, DocumentRules, Note, TomogramAssembler
from pfitre_service.ingest.angle_units import degrees_per


@pytest.mark.parametrize(
    ("unit", "degrees"),
    [
        ("deg", 1.0),
        ("Degrees", 1.0),
        ("°", 1.0),
        ("mdeg", 0.001),
        ("rad", 180 / math.pi),
        ("mrad", 0.18 / math.pi),
        ("urad", 0.00018 / math.pi),
        ("arcsec", 1 / 3600),
        ("turns", 360.0),
        ("mm", None),
        ("", None),
    ],
)
def test_units_of_angles(unit, degrees):
    assert degrees_per(unit) == (None if degrees is None else pytest.approx(degrees))


def run(units: str | None, angle: float, **rules: object) -> tuple[list[float], list[str]]:
    """Angles of the frames and the notes of a run with one image."""
    assembler = TomogramAssembler(DocumentRules(**rules))  # type: ignore[arg-type]
    theta = {"source": "PV", "dtype": "number", "shape": [], **({} if units is None else {"units": units})}
    keys = {"cam": {"source": "PV", "dtype": "array", "shape": [2, 3]}, "theta": theta}
    data = {"cam": [[1.0] * 3] * 2, "theta": angle}
    documents = [
        ("start", {"uid": "a", "time": 1.0, "motors": ["theta"]}),
        ("descriptor", {"uid": "d", "run_start": "a", "name": "primary", "data_keys": keys, "time": 1.0}),
        (
            "event",
            {
                "uid": "e",
                "descriptor": "d",
                "seq_num": 1,
                "time": 2.0,
                "data": data,
            },
        ),
    ]
    actions = [action for name, document in documents for action in assembler.handle(name, document)]
    frames = [frame for action in actions if isinstance(action, AddFrames) for frame in action.frames]
    return [frame.angle for frame in frames], [action.message for action in actions if isinstance(action, Note)]


@pytest.mark.parametrize(
    ("units", "angle"), [(None, 30.0), ("deg", 30.0), ("rad", math.pi / 6), ("mrad", 1000 * math.pi / 6), ("mdeg", 3e4)]
)
def test_the_descriptors_unit_counts_where_the_profile_says_nothing(units, angle):
    angles, notes = run(units, angle)
    assert angles == [pytest.approx(30.0)]
    assert notes == []


def test_the_profiles_word_counts_against_the_descriptor_and_this_is_said():
    angles, notes = run("mrad", 30.0, angle_unit="degrees")
    assert angles == [30.0]
    assert any("'mrad'" in note and "documents.angle_unit" in note for note in notes)


def test_a_unit_of_something_else_is_said_and_taken_for_degrees():
    angles, notes = run("furlong", 30.0, rotation="theta")
    assert angles == [30.0]
    assert any("'furlong'" in note and "taken for degrees" in note for note in notes)

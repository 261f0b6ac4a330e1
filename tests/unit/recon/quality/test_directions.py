"""What the angles cover."""

from __future__ import annotations

import numpy as np
import pytest

from pfitre_service.recon.quality.directions import described, holes, measured_ranges, missing_degrees


@pytest.mark.parametrize(
    ("angles", "ranges", "between"),
    [
        (np.arange(-60, 61, 2.0), [(-60, 60)], [(60, 120)]),
        (np.arange(0, 180, 1.0), [(0, 180)], []),
        (np.arange(100, 221, 2.0), [(-80, 40)], [(40, 100)]),
        (np.arange(0, 121, 3.0) + 360, [(0, 120)], [(120, 180)]),
        (
            np.concatenate((np.arange(-20, 21, 1.0), np.arange(70, 81, 1.0))),
            [(-20, 20), (70, 80)],
            [(20, 70), (80, 160)],
        ),
        ([30.0], [(30, 30)], [(30, 210)]),
        ([], [], []),
    ],
)
def test_measured_ranges_and_the_holes_between_them(angles, ranges, between):
    found = measured_ranges(angles)
    assert found == [pytest.approx(pair) for pair in ranges]
    assert holes(found) == [pytest.approx(pair) for pair in between]
    assert missing_degrees(found) == pytest.approx(180 if not ranges else sum(high - low for low, high in between))


def test_ranges_in_words():
    assert described([(-60.0, 60.0)]) == (
        "Angles -60 to 60: edges along the rays of the missing 60 degrees are inferred, not measured"
    )
    assert described([(-20.0, 20.0), (70.0, 80.0)]).startswith("Angles -20 to 20 and 70 to 80: ")
    assert described([(0.0, 180.0)]) == "Angles all round: every direction was measured"

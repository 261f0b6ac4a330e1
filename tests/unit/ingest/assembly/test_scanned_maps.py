"""Maps scanned point by point: in which order pixels came, and what a column is across the beam."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pfitre_service.errors import DocumentError, InputError, SettingsError
from pfitre_service.ingest.assembly.scanned_maps import PixelOrder, ScannedMap, column_width, pixel_order
from pfitre_service.ingest.rules import DocumentRules, MapRules

RULES = MapRules(elements=("Fe",), range_key="scan.scan_input")


def start_of(motor: Any, span: Any = (-2, 2, 40, -1, 1, 20), **more: Any) -> dict[str, Any]:
    return {"scan": {"scan_input": list(span), "fast_axis": {"motor_name": motor}}, "fly_type": "grid", **more}


# PyXRF's map_data2D_hxn: columns stay as they are, but where z flies and the angle is below 0 they are reversed.
@pytest.mark.parametrize("station", ["zpss", "dss"])
@pytest.mark.parametrize(
    ("axis", "angle", "falls"),
    [
        ("x", -60, False),
        ("x", -30, False),
        ("x", 0, False),
        ("x", 30, False),
        ("x", 60, False),
        ("z", -90, True),
        ("z", -60, True),
        ("z", -30, True),
        ("z", 30, False),
        ("z", 60, False),
        ("z", 90, False),
    ],
)
def test_columns_are_reversed_where_pyxrf_reverses_them(station, axis, angle, falls):
    start = start_of(station + axis)
    assert pixel_order(start, RULES, angle) == PixelOrder(columns_fall=falls)
    backwards = start_of(station + axis, (2, -2, 40, -1, 1, 20))
    assert pixel_order(backwards, RULES, angle) == PixelOrder(columns_fall=not falls)


@pytest.mark.parametrize(
    ("axis", "angle", "falls"), [("x", 120, True), ("x", -120, True), ("z", 120, False), ("z", -120, True)]
)
def test_beyond_90_degrees_the_stage_x_goes_the_other_way(axis, angle, falls):
    """u = x cos(t) + z sin(t), and the cosine is negative there."""
    assert pixel_order(start_of("zpss" + axis), RULES, angle).columns_fall is falls


def test_a_stage_that_does_not_turn_goes_the_same_way_at_every_angle():
    for angle in (-120, -10, 0, 80):
        assert not pixel_order(start_of("stage"), RULES, angle).columns_fall
        assert column_width(start_of("stage"), RULES, angle) == pytest.approx(0.1)


@pytest.mark.parametrize("angle", [-70, -46, -45, -20, 20, 45, 70])
def test_a_stretched_range_gives_columns_of_one_width_on_both_sides_of_45_degrees(angle):
    radians = math.radians(angle)
    motor, stretch = ("zpssx", math.cos(radians)) if abs(angle) < 45 else ("zpssz", abs(math.sin(radians)))
    for first, last in ((-2, 2), (2, -2), (5, 9)):
        span = (first / stretch, last / stretch, 40, -1, 1, 20)
        assert column_width(start_of(motor, span), RULES, angle) == pytest.approx(0.1)


def test_a_motor_that_counts_the_other_way_can_be_named():
    rules = MapRules(elements=("Fe",), range_key="scan.scan_input", reversed_motors=("zpssz",))
    assert pixel_order(start_of("zpssz"), rules, 60).columns_fall
    assert not pixel_order(start_of("zpssz"), rules, -60).columns_fall
    assert not pixel_order(start_of("zpssx"), rules, -30).columns_fall
    assert column_width(start_of("zpssz"), rules, 60) == column_width(start_of("zpssz"), RULES, 60)


@pytest.mark.parametrize(
    ("rows", "falls"), [((), False), ((-1, 1, 20), False), ((1, -1, 20), True), ((3, 1, 20), True), ((0, 0, 1), False)]
)
def test_rows_are_reversed_where_their_range_falls(rows, falls):
    assert pixel_order(start_of("zpssx", (-2, 2, 40, *rows)), RULES, 10).rows_fall is falls


@pytest.mark.parametrize(
    ("value", "snaked"),
    [("pyramid", True), ("grid", False), (None, False), (True, True), ([False, True], True), ([True, False], False)],
)
def test_pyramids_and_snakes_are_known(value, snaked):
    assert pixel_order(start_of("zpssx", fly_type=value), RULES, 0).snaked is snaked
    assert pixel_order({"fly_type": value}, MapRules(elements=("Fe",)), None).snaked is snaked


@pytest.mark.parametrize("snaked", [False, True])
@pytest.mark.parametrize("columns_fall", [False, True])
@pytest.mark.parametrize("rows_fall", [False, True])
def test_pixels_come_to_the_place_where_the_stage_was(snaked, columns_fall, rows_fall):
    """Each pixel's value says where it belongs: 10 v + u."""
    across, up = range(4), range(3)
    scanned = []
    for line, v in enumerate(reversed(up) if rows_fall else up):
        row = [10.0 * v + u for u in (reversed(across) if columns_fall else across)]
        scanned += row[::-1] if snaked and line % 2 else row
    order = PixelOrder(snaked=snaked, columns_fall=columns_fall, rows_fall=rows_fall)
    values = np.array(scanned)
    kept = values.copy()
    made = ScannedMap(parts=(values,), divisor=None, shape=(3, 4), scale=1.0, order=order).evaluate(lambda rows: values)
    np.testing.assert_array_equal(made[0], [[10 * v + u for u in across] for v in up])
    np.testing.assert_array_equal(values, kept)  # the document's own array


def test_a_map_is_resampled_about_its_middle_after_it_was_put_in_order():
    values = np.array([0.0, 4.0, 8.0, 12.0, 16.0])
    order = PixelOrder(columns_fall=True)
    made = ScannedMap(parts=(values,), divisor=None, shape=(1, 5), scale=2.0, order=order).evaluate(lambda rows: values)
    np.testing.assert_allclose(made[0, 0], [12, 10, 8, 6, 4])


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (start_of(None), "the fast motor"),
        (start_of("zpssx", (-2, 2)), "first, last and number of columns"),
        (start_of("zpssx", (2, 2, 40)), "first, last and number of columns"),
        (start_of("zpssx", (-2, 2, -40)), "first, last and number of columns"),
        (start_of("zpssx", (-2, 2, 40, 1)), "first and last position of rows"),
        (start_of("zpssx", (-2, 2, 40, math.nan, 1, 20)), "first and last position of rows"),
        (start_of("zpssz"), "along the beam"),
    ],
)
def test_what_cannot_be_placed_is_refused(start, message):
    with pytest.raises(DocumentError, match=message):
        pixel_order(start, RULES, 0)


def test_values_that_do_not_fill_the_map_are_refused():
    values = np.zeros(11)
    with pytest.raises(InputError, match="3 x 4 pixels, got 11"):
        ScannedMap(parts=(values,), divisor=None, shape=(3, 4), scale=1.0).evaluate(lambda rows: values)


def test_a_range_needs_the_angle_of_the_whole_map():
    with pytest.raises(SettingsError, match="range_key goes with angle_from = 'baseline' only"):
        DocumentRules(rotation="zpsth", maps=RULES)

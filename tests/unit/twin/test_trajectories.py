"""Which angles a live tomogram has measured so far."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pfitre_service.errors import InputError
from pfitre_service.twin.trajectories import FEWEST_ANGLES, TrajectoryParameters, draw_angles, wedge

PLAIN = TrajectoryParameters(
    full_chance=0,
    usual_chance=0,
    golden_chance=0,
    random_chance=0,
    two_ranges_chance=0,
    equal_slope_chance=0,
    interleaved_chance=0,
    partial_chance=0,
    lost_chance=0,
    repeated_chance=0,
)
"""Whole scans in even steps from one end to the other."""


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def gaps(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Width of each gap between neighbouring angles of the half turn, and its middle; degrees."""
    turned = np.unique(np.round(angles % 180, 9))
    width = np.diff(np.append(turned, turned[0] + 180))
    return width, (turned + width / 2) % 180


def widest_gap(angles: np.ndarray) -> tuple[float, float]:
    width, middle = gaps(angles)
    return float(width.max()), float(middle[width.argmax()])


@pytest.mark.parametrize("missing", [20.0, 60.0, 96.0, 150.0])
@pytest.mark.parametrize("orientation", [0.0, 37.5, 90.0, 171.0])
def test_a_wedge_leaves_exactly_the_stated_gap_where_it_is_stated(missing: float, orientation: float):
    angles = wedge(missing, orientation, count=60)
    width, middle = widest_gap(angles)
    assert angles.size == 60
    assert width == pytest.approx(missing, abs=1e-6)
    assert (middle - orientation + 90) % 180 - 90 == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(np.diff(angles), (180 - missing) / 59)


def test_a_tilt_series_stands_around_zero():
    np.testing.assert_allclose(wedge(100, count=5), [-40, -20, 0, 20, 40])


def test_nothing_missing_is_the_half_turn_without_its_end():
    np.testing.assert_allclose(wedge(0, count=6), [0, 30, 60, 90, 120, 150])
    np.testing.assert_allclose(wedge(0, 45, 6), [0, 30, 60, 90, 120, 150])


@pytest.mark.parametrize(("missing", "count"), [(-1, 10), (180, 10), (float("nan"), 10), (60, 1)])
def test_a_wedge_that_is_none_is_refused(missing: float, count: int):
    with pytest.raises(InputError, match="a wedge misses"):
        wedge(missing, count=count)


def test_the_seed_decides_the_angles():
    np.testing.assert_array_equal(draw_angles(rng(5), 128), draw_angles(rng(5), 128))
    assert draw_angles(rng(5), 128).tolist() != draw_angles(rng(6), 128).tolist()


@pytest.mark.parametrize("size", [16, 129, 1024])
def test_every_draw_is_a_scan(size: int):
    for seed in range(200):
        angles = draw_angles(rng(seed), size)
        assert angles.dtype == np.float64
        assert angles.ndim == 1
        assert np.isfinite(angles).all()
        assert FEWEST_ANGLES <= angles.size <= max(12, 0.9 * size + 1) * 1.1 + 2


def test_whole_scans_keep_to_the_stated_wedges_and_densities():
    missing, orientations = [], []
    for seed in range(1500):
        angles = draw_angles(rng(seed), 256, PLAIN)
        width, middle = widest_gap(angles)
        measured = np.ptp(angles)
        assert measured >= 30 - 1e-6
        assert angles.size >= 12
        assert angles.size == 12 or 0.12 * 256 - 1 <= angles.size * 180 / measured <= 0.9 * 256 + 7
        missing.append(180 - measured)
        orientations.append(middle)
        assert width >= 180 - measured - 1e-6
    counts = np.histogram(missing, [0, 26, 52, 78, 104, 130, 150])[0] / 1500
    assert counts[:5] == pytest.approx(np.full(5, (1 + 0.5 * 20 / 150) * 26 / 150), abs=0.04)
    assert 0 < counts[5] < 0.6 * 26 / 150
    # Half of the gaps lie within 10 degrees of 90, the others anywhere: those within the same 20 degrees add a ninth.
    wide = np.array(missing) > 40
    assert np.mean(np.abs(np.array(orientations)[wide] - 90) <= 10) == pytest.approx(0.5 + 0.5 / 9, abs=0.05)
    assert np.histogram(orientations, 6, (0, 180))[0].min() > 60


def test_the_half_turn_and_the_usual_wedges_come_more_often():
    extra = replace(PLAIN, full_chance=0.3, usual_chance=0.5)
    missing = np.array([180 - np.ptp(draw_angles(rng(seed), 2000, extra)) for seed in range(600)])
    assert np.mean(missing < 1.5) == pytest.approx(0.3 + 0.2 / 100, abs=0.06)
    assert np.mean((missing >= 60) & (missing <= 120)) == pytest.approx(0.5 + 0.2 * 0.42, abs=0.06)


def test_a_partial_scan_is_the_beginning_of_the_whole_one():
    partial = replace(PLAIN, partial_chance=1)
    shares = []
    for seed in range(200):
        whole, part = draw_angles(rng(seed), 256, PLAIN), draw_angles(rng(seed), 256, partial)
        np.testing.assert_array_equal(whole[: part.size], part)
        shares.append(part.size / whole.size)
    assert min(shares) < 0.2
    assert max(shares) > 0.9


def test_passes_interleave_the_same_angles():
    several = replace(PLAIN, interleaved_chance=1)
    for seed in range(20):
        one, passes = draw_angles(rng(seed), 256, PLAIN), draw_angles(rng(seed), 256, several)
        np.testing.assert_array_equal(np.sort(one), np.sort(passes))
        assert one.tolist() != passes.tolist()


def test_the_golden_ratio_fills_the_range_from_its_first_angles_on():
    golden = replace(PLAIN, golden_chance=1, most_missing=1e-6)
    angles = draw_angles(rng(1), 512, golden)
    assert np.ptp(angles[:13]) > 150
    assert gaps(angles[:13])[0].max() < 30


def test_two_ranges_share_out_what_is_missing():
    two = replace(PLAIN, usual_chance=1, two_ranges_chance=1, density=(2, 2))
    for seed in range(30):
        whole, parted = draw_angles(rng(seed), 256, replace(two, two_ranges_chance=0)), draw_angles(rng(seed), 256, two)
        width, _ = gaps(parted)
        step = np.median(width)
        missing = 180 - np.ptp(whole)
        assert np.count_nonzero(width > 8 * step) == 2
        assert np.sort(width)[-2:].sum() == pytest.approx(missing, abs=1.01 * step)


def test_equal_slope_steps_in_the_slope_and_not_in_the_angle():
    slope = replace(PLAIN, equal_slope_chance=1, full_chance=1, density=(0.9, 0.9))
    folded = np.deg2rad((np.sort(draw_angles(rng(3), 200, slope)) + 45) % 90 - 45)
    steps = np.diff(np.sort(np.tan(folded)))
    assert steps[steps > 1e-6] == pytest.approx(np.full(np.count_nonzero(steps > 1e-6), 2 / 90), rel=1e-6)


def test_lost_angles_are_gone_and_repeated_ones_come_twice():
    for seed in range(50):
        whole = draw_angles(rng(seed), 256, PLAIN)
        lost = draw_angles(rng(seed), 256, replace(PLAIN, lost_chance=1))
        assert set(lost) <= set(whole)
        assert 0.8 * whole.size <= lost.size
        repeated = draw_angles(rng(seed), 256, replace(PLAIN, repeated_chance=1))
        np.testing.assert_array_equal(np.unique(repeated), np.sort(whole))
        assert repeated.size <= 1.1 * whole.size
    assert lost.size < whole.size
    many = [draw_angles(rng(s), 2000, replace(PLAIN, repeated_chance=1)) for s in range(10)]
    assert any(np.unique(angles).size < angles.size for angles in many)


def test_nonsense_is_refused():
    with pytest.raises(InputError, match="add up to 1"):
        TrajectoryParameters(golden_chance=0.9, random_chance=0.3)
    with pytest.raises(InputError, match="most_missing between 0 and 180"):
        TrajectoryParameters(most_missing=180)
    with pytest.raises(InputError, match="1 pixel wide"):
        draw_angles(rng(0), 0)

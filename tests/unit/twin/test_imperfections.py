"""What a beamline makes of perfect line integrals."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from pfitre_service.errors import InputError
from pfitre_service.twin.imperfections import (
    ImperfectionParameters,
    Imperfections,
    draw_imperfections,
    gains,
    measure,
    shift_columns,
    shifts,
)

NONE = Imperfections.none()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def blob() -> np.ndarray:
    """(20, 3, 64) the shadow of a round thing away from the edges, up to about 4."""
    column = np.exp(-(((np.arange(64) - 30) / 6) ** 2))
    return (np.ones((20, 3, 1)) * 4 * column).astype(np.float32)


def middle(projections: np.ndarray) -> np.ndarray:
    """Centre of mass along the columns."""
    return (projections @ np.arange(projections.shape[-1])) / projections.sum(axis=-1)


def test_a_perfect_instrument_changes_nothing(blob: np.ndarray):
    result = measure(blob, NONE, rng())
    np.testing.assert_array_equal(result, blob)
    assert result is not blob
    assert Imperfections() == NONE


def test_the_seed_decides_the_imperfections_and_the_noise(blob: np.ndarray):
    assert draw_imperfections(rng(3)) == draw_imperfections(rng(3))
    assert draw_imperfections(rng(3)) != draw_imperfections(rng(4))
    noisy = Imperfections(dose=100, jitter=0.3, drift=0.1, gain_jitter=0.02, stripe_share=0.2, stripe_gain=0.1)
    np.testing.assert_array_equal(measure(blob, noisy, rng(1)), measure(blob, noisy, rng(1)))
    assert (measure(blob, noisy, rng(1)) != measure(blob, noisy, rng(2))).any()


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_every_drawn_imperfection_gives_finite_projections_in_the_unit_of_the_input(blob: np.ndarray, unit: float):
    projections = blob * np.float32(unit)
    before = projections.copy()
    seen: set[str] = set()
    for seed in range(200):
        imperfections = draw_imperfections(rng(seed))
        seen |= {field.name for field in fields(NONE) if getattr(imperfections, field.name) != field.default}
        result = measure(projections, imperfections, rng(seed))
        assert result.dtype == np.float32
        assert result.shape == projections.shape
        assert np.isfinite(result).all()
        assert 0.7 < result[:, :, 7:-7].mean() / projections[:, :, 7:-7].mean() < 1.4
    assert seen == {field.name for field in fields(NONE)}
    np.testing.assert_array_equal(projections, before)


@pytest.mark.parametrize("dose", [20, 150, 1000, 50_000])
def test_emission_noise_has_the_variance_of_its_counts(dose: float):
    level = np.array([1.0, 0.5, 0.1], np.float32)
    flat = 7 * np.ones((400, 1, 30), np.float32) * level[:, None, None].transpose(1, 0, 2)
    result = measure(flat, Imperfections(dose=dose), rng()).astype(np.float64)
    np.testing.assert_allclose(result.mean(axis=(0, 2)), 7 * level, rtol=5 / np.sqrt(12_000 * dose * 0.1))
    np.testing.assert_allclose(result.var(axis=(0, 2)), 49 * level / dose, rtol=0.06)


@pytest.mark.parametrize("attenuation", [0.3, 2.0])
def test_transmission_noise_grows_with_what_is_absorbed(attenuation: float):
    level = np.array([1.0, 0.25, 0.0], np.float32)
    flat = 7 * np.ones((400, 1, 30), np.float32) * level[:, None, None].transpose(1, 0, 2)
    imperfections = Imperfections(signal="transmission", dose=5_000, attenuation=attenuation)
    result = measure(flat, imperfections, rng()).astype(np.float64)
    theory = np.exp(attenuation * level) / 5_000 * (7 / attenuation) ** 2
    np.testing.assert_allclose(result.var(axis=(0, 2)), theory, rtol=0.06)
    np.testing.assert_allclose(result.mean(axis=(0, 2)), 7 * level, atol=0.02)


def test_the_electronics_add_their_noise_in_counts():
    empty = np.zeros((100, 4, 40), np.float32)
    empty[0, 0, 0] = 5.0
    result = measure(empty, Imperfections(dose=200, read_noise=3), rng())
    assert result[1:].std() == pytest.approx(3 * 5 / 200, rel=0.03)


def test_a_beam_that_is_all_absorbed_stays_finite():
    thick = np.ones((20, 4, 40), np.float32)
    result = measure(thick, Imperfections(signal="transmission", dose=100, attenuation=12, read_noise=2), rng())
    assert result.max() == pytest.approx(np.log(200) / 12)


@pytest.mark.parametrize("columns", [-3.0, -1.75, -0.5, 0.25, 1.0, 2.6])
def test_an_axis_that_is_off_moves_the_centre_of_mass_by_as_much(blob: np.ndarray, columns: float):
    result = measure(blob, Imperfections(axis_shift=columns), rng())
    np.testing.assert_allclose(middle(result) - middle(blob), columns, atol=1e-3)
    np.testing.assert_allclose(result.sum(axis=-1), blob.sum(axis=-1), rtol=1e-4)


def test_a_shift_follows_a_smooth_curve_closely(blob: np.ndarray):
    moved = shift_columns(blob, np.full(20, 0.5, np.float32))
    expected = 4 * np.exp(-(((np.arange(64) - 30.5) / 6) ** 2))
    assert np.abs(moved - expected).max() < 0.01


def test_what_comes_in_from_outside_is_zero():
    ones = np.ones((2, 1, 10), np.float32)
    np.testing.assert_allclose(
        shift_columns(ones, np.array([2, -3], np.float32))[:, 0], [[0] * 2 + [1] * 8, [1] * 7 + [0] * 3]
    )
    assert not shift_columns(ones, np.array([12, -40], np.float32)).any()


def test_jitter_moves_each_angle_by_itself_and_outliers_by_much():
    jitter = shifts(Imperfections(jitter=0.4, axis_shift=1), 20_000, rng())
    assert jitter.mean() == pytest.approx(1, abs=0.02)
    assert jitter.std() == pytest.approx(0.4, rel=0.03)
    far = np.abs(shifts(Imperfections(outlier_share=0.04, outlier_reach=3), 100, rng()))
    assert np.count_nonzero(far) == 4
    assert far[far > 0].min() >= 1
    assert far.max() <= 3


def test_each_angle_moves_by_its_own_shift(blob: np.ndarray):
    jittery = Imperfections(jitter=0.5, outlier_share=0.1, outlier_reach=3)
    moved = middle(measure(blob, jittery, rng(2))) - middle(blob)
    np.testing.assert_allclose(moved, np.tile(shifts(jittery, 20, rng(2))[:, None], 3), atol=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_drift_changes_the_sums_by_as_much_as_stated_and_slowly(blob: np.ndarray, seed: int):
    sums = measure(blob, Imperfections(drift=0.08), rng(seed)).sum(axis=(1, 2)) / blob.sum(axis=(1, 2))
    assert np.ptp(sums) == pytest.approx(0.08, rel=1e-3)
    assert sums.mean() == pytest.approx(1, abs=1e-4)
    assert np.abs(np.diff(sums)).max() < 0.08 * 0.6


def test_gain_jitter_stays_within_its_bound():
    gain = gains(Imperfections(gain_jitter=0.03), 5_000, rng())
    assert np.abs(gain - 1).max() <= 0.03 + 1e-6
    assert gain.std() == pytest.approx(0.03 / np.sqrt(3), rel=0.03)


def test_lost_columns_are_zero_or_hold_the_last_value():
    ramp = np.tile(np.arange(1, 21, dtype=np.float32), (2, 3, 1))
    lost = Imperfections(lost_left=0.1, lost_right=0.15)
    np.testing.assert_array_equal(measure(ramp, lost, rng())[1, 2], [0, 0, *range(3, 18), 0, 0, 0])
    held = measure(ramp, replace(lost, lost_fill="hold"), rng())
    np.testing.assert_array_equal(held[1, 2], [3, 3, *range(3, 18), 17, 17, 17])


def test_stripes_are_the_same_at_every_angle(blob: np.ndarray):
    striped = Imperfections(stripe_share=0.25, stripe_gain=0.05, stripe_offset=0.02)
    difference = measure(blob, striped, rng()) - blob
    np.testing.assert_allclose(difference, np.tile(difference[:1], (20, 1, 1)), atol=1e-5)
    struck = np.any(difference[0] != 0, axis=0)
    assert 6 <= np.count_nonzero(struck) <= 28
    assert (difference[0, 0] != difference[0, 1]).any()
    offsets = (
        measure(np.full((1, 200, 200), 3, np.float32), Imperfections(stripe_share=1, stripe_offset=0.02), rng()) - 3
    )
    assert offsets.std() == pytest.approx(0.06, rel=0.03)


def test_an_empty_sample_stays_empty():
    empty = np.zeros((10, 2, 32), np.float32)
    for seed in range(50):
        assert not measure(empty, draw_imperfections(rng(seed)), rng(seed)).any()
    assert measure(empty[:0], draw_imperfections(rng(0)), rng()).shape == (0, 2, 32)


def test_draws_keep_to_their_parameters():
    draws = [draw_imperfections(rng(seed)) for seed in range(2_000)]

    def share(condition: list[bool]) -> float:
        return float(np.mean(condition))

    assert share([np.isinf(i.dose) for i in draws]) == pytest.approx(0.2, abs=0.03)
    assert share([i.jitter > 0 for i in draws]) == pytest.approx(0.3, abs=0.03)
    assert share([i.outlier_share > 0 for i in draws]) == pytest.approx(0.1, abs=0.03)
    assert share([i.drift > 0 for i in draws]) == pytest.approx(0.3, abs=0.03)
    assert share([i.lost_left + i.lost_right > 0 for i in draws]) == pytest.approx(0.1, abs=0.03)
    assert share([i.stripe_share > 0 for i in draws]) == pytest.approx(0.2, abs=0.03)
    assert share([i.axis_shift != 0 for i in draws]) == pytest.approx(0.35, abs=0.04)
    assert max(abs(i.axis_shift) for i in draws) <= 2
    assert max(i.jitter for i in draws) <= 0.5
    assert max(max(i.lost_left, i.lost_right) for i in draws) <= 0.1
    assert max(i.drift for i in draws) <= 0.1
    for signal, least, most in (("transmission", 100, 1e6), ("emission", 5, 1e4)):
        doses = np.array([i.dose for i in draws if i.signal == signal and np.isfinite(i.dose)])
        assert least <= doses.min()
        assert doses.max() <= most
        assert np.median(np.log(doses)) == pytest.approx(np.log(least * most) / 2, abs=0.4)


def test_an_effect_that_is_turned_off_leaves_the_others_as_they_were():
    for seed in range(50):
        drawn = draw_imperfections(rng(seed))
        still = draw_imperfections(rng(seed), ImperfectionParameters(jitter_chance=0))
        assert still == replace(drawn, jitter=0.0)


def test_nonsense_is_refused(blob: np.ndarray):
    with pytest.raises(InputError, match="dose and attenuation"):
        Imperfections(dose=0)
    with pytest.raises(InputError, match="lost_left"):
        Imperfections(lost_left=0.6, lost_right=0.5)
    with pytest.raises(InputError, match="outlier_share"):
        Imperfections(stripe_share=1.5)
    with pytest.raises(InputError, match="angle, row, column"):
        measure(blob[0], NONE, rng())

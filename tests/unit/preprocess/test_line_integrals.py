"""From detector counts to line integrals."""

from __future__ import annotations

import numpy as np
import pytest

from pfitre_service.errors import InputError, SettingsError
from pfitre_service.preprocess import PreprocessParameters, References, to_line_integrals
from pfitre_service.preprocess.line_integrals import NO_DARKS, NO_FLATS, REFERENCES_UNUSED

PARAMETERS = PreprocessParameters()
SHAPE = (4, 6, 40)
"""(angle, row, column)."""


def truth() -> np.ndarray:
    """Line integrals of a smooth sample with air at both edges, one height for each angle."""
    column = np.linspace(-1, 1, SHAPE[2])
    bump = np.maximum(0, 1 - (column / 0.7) ** 2)
    return np.stack([(1 + 0.2 * angle) * np.tile(bump, (SHAPE[1], 1)) for angle in range(SHAPE[0])])


def beam() -> np.ndarray:
    column = np.linspace(-1, 1, SHAPE[2])
    return 8000 * (1 - 0.3 * column**2) * np.linspace(1, 1.2, SHAPE[1])[:, None]


def counts(dark: float = 100.0) -> np.ndarray:
    return beam() * np.exp(-truth()) + dark


def references(dark: float = 100.0, n: int = 5) -> References:
    return References.from_frames(np.stack([beam() + dark] * n), np.full((n, *SHAPE[1:]), dark))


def test_counts_flats_and_darks_give_the_line_integrals():
    result = to_line_integrals(counts(), references(), PARAMETERS, "transmission")
    np.testing.assert_allclose(result.values, truth(), atol=2e-5)
    assert result.values.dtype == np.float32
    assert (result.repaired, result.clamped, result.warnings) == (0, 0, ())
    assert not result.unusable.any()
    assert result.reasons == ("",) * 4


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32, np.float64, ">u2"])
def test_no_dtype_overflows_where_a_frame_is_darker_than_the_dark_field(dtype: object):
    images = counts().round().astype(dtype)
    images[0, 2, 5] = 40  # 60 below the dark field: 65476 if it were subtracted in uint16
    result = to_line_integrals(images, references(), PARAMETERS, "transmission")
    assert result.values[0, 2, 5] == pytest.approx(-np.log(PARAMETERS.minimum_transmission))
    assert result.clamped == 1
    untouched = np.ones(SHAPE, bool)
    untouched[0, 2, 5] = False
    np.testing.assert_allclose(result.values[untouched], truth()[untouched], atol=1e-3)


def test_the_input_is_left_as_it_was():
    images = counts()
    images[1, 1, 1] = np.nan
    before = images.copy()
    to_line_integrals(images, references(), PARAMETERS, "transmission")
    np.testing.assert_array_equal(images, before)
    line_integrals = truth().astype(np.float32)
    line_integrals[0, 0, 0] = np.inf
    to_line_integrals(line_integrals, None, PARAMETERS, "line_integral")
    assert np.isinf(line_integrals[0, 0, 0])


def test_a_frame_comes_out_the_same_in_whatever_batch_it_came():
    for known in (references(), None):
        whole = to_line_integrals(counts(), known, PARAMETERS, "transmission").values
        apart = [to_line_integrals(counts()[i : i + 1], known, PARAMETERS, "transmission").values for i in range(4)]
        np.testing.assert_array_equal(whole, np.concatenate(apart))


def test_zero_flats_are_repaired_from_the_same_row():
    flats = np.stack([beam() + 100] * 3)
    flats[:, 3, 20:22] = 100  # flat - dark = 0
    result = to_line_integrals(
        counts(), References.from_frames(flats, np.full((3, *SHAPE[1:]), 100.0)), PARAMETERS, "transmission"
    )
    assert result.repaired == 2 * SHAPE[0]
    np.testing.assert_allclose(result.values, truth(), atol=0.02)


def test_pixels_that_are_not_finite_are_repaired_and_counted():
    images = counts()
    images[0, 0, 10], images[1, 2, 0], images[2, 5, -1] = np.nan, np.inf, -np.inf
    result = to_line_integrals(images, references(), PARAMETERS, "transmission")
    assert result.repaired == 3
    assert result.clamped == 0
    np.testing.assert_allclose(result.values, truth(), atol=0.02)


def test_absurdly_large_counts_are_repaired_not_passed_on_as_infinite():
    flats, images = np.full((3, 5, 9), 1e-3), np.full((1, 5, 9), 1e-3)
    images[0, 2, 4] = 3e38
    result = to_line_integrals(images, References.from_frames(flats, None), PARAMETERS, "transmission")
    assert result.repaired == 1
    np.testing.assert_allclose(result.values, 0, atol=1e-6)


def test_a_frame_of_nan_is_unusable_and_says_why_while_its_neighbours_are_not():
    images = counts()
    images[2] = np.nan
    result = to_line_integrals(images, references(), PARAMETERS, "transmission")
    assert result.unusable.tolist() == [False, False, True, False]
    assert "100% of the pixels are dead, masked, saturated or not finite" in result.reasons[2]
    assert not result.values[2].any()
    assert result.repaired == 0


def test_a_frame_without_beam_is_unusable():
    images = counts()
    images[1] = 100
    result = to_line_integrals(images, references(), PARAMETERS, "transmission")
    assert result.unusable.tolist() == [False, True, False, False]
    assert "no beam" in result.reasons[1]


def test_a_frame_is_unusable_beyond_the_stated_share_of_bad_pixels_and_not_before():
    images = counts()
    images[0].flat[: int(0.25 * 240)] = np.nan
    images[1].flat[: int(0.25 * 240) + 1] = np.nan
    result = to_line_integrals(images, references(), PARAMETERS, "transmission")
    assert result.unusable.tolist() == [False, True, False, False]
    assert result.repaired == 60


def test_without_flats_the_air_at_the_edges_is_taken_and_the_warning_says_so():
    level = np.array([9000, 8000, 10000, 9500])[:, None, None]  # the beam drifts
    result = to_line_integrals(level * np.exp(-truth()), None, PARAMETERS, "transmission")
    np.testing.assert_allclose(result.values, truth(), atol=1e-3)
    assert result.warnings == (NO_FLATS, NO_DARKS)


def test_without_flats_air_at_one_side_is_enough():
    images = 9000 * np.exp(-truth())
    images[:, :, :10] = 900
    result = to_line_integrals(images, None, PARAMETERS, "transmission")
    np.testing.assert_allclose(result.values[:, :, 10:], truth()[:, :, 10:], atol=1e-3)


def test_without_flats_dark_edges_mean_no_beam():
    images = 9000 * np.exp(-truth())
    images[0, :, :3] = images[0, :, -3:] = 0
    images[1] = 0
    result = to_line_integrals(images, None, PARAMETERS, "transmission")
    assert result.unusable.tolist() == [True, True, False, False]


def test_without_darks_the_offset_is_zero_and_the_warning_says_so():
    flats = np.stack([beam()] * 3)
    result = to_line_integrals(counts(dark=0), References.from_frames(flats, None), PARAMETERS, "transmission")
    np.testing.assert_allclose(result.values, truth(), atol=2e-5)
    assert result.warnings == (NO_DARKS,)


def test_line_integrals_pass_through_unchanged():
    values = (truth() - 0.1).astype(np.float32)  # noise may make them negative
    result = to_line_integrals(values, None, PARAMETERS, "line_integral")
    np.testing.assert_array_equal(result.values, values)
    assert result.warnings == ()


def test_line_integrals_that_are_not_finite_are_repaired():
    values = truth()
    values[0, 1, 7], values[3, 0, 0], values[1, 1, 1] = np.nan, -np.inf, 1e300  # the last is beyond float32
    result = to_line_integrals(values, None, PARAMETERS, "line_integral")
    assert result.repaired == 3
    np.testing.assert_allclose(result.values, truth(), atol=0.1)


def test_references_of_line_integrals_are_left_aside_with_a_warning():
    small = References.from_frames(np.ones((1, 2, 2)), None)
    result = to_line_integrals(truth(), small, PARAMETERS, "line_integral")
    assert result.warnings == (REFERENCES_UNUSED,)


def test_an_empty_batch_gives_an_empty_batch():
    result = to_line_integrals(np.empty((0, 6, 40), np.uint16), references(), PARAMETERS, "transmission")
    assert result.values.shape == (0, 6, 40)
    assert result.unusable.shape == (0,)


def test_images_that_do_not_fit_are_refused_by_name():
    with pytest.raises(InputError, match=r"\(6, 39\) do not fit flats and darks of \(6, 40\)"):
        to_line_integrals(counts()[:, :, 1:], references(), PARAMETERS, "transmission")
    with pytest.raises(InputError, match="shape \\(angles, rows, columns\\)"):
        to_line_integrals(counts()[0], references(), PARAMETERS, "transmission")
    with pytest.raises(InputError, match="complex128"):
        to_line_integrals(counts() * 1j, references(), PARAMETERS, "transmission")


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, float("nan")])
def test_thresholds_outside_zero_to_one_are_refused(value: float):
    with pytest.raises(SettingsError, match="minimum_transmission"):
        PreprocessParameters(minimum_transmission=value)

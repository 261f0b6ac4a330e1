"""Bad pixels take what their neighbours say."""

from __future__ import annotations

import numpy as np

from pfitre_service.preprocess.repair import repair_image


def ramp(rows: int = 5, columns: int = 12) -> np.ndarray:
    """Linear in rows and columns, so that linear interpolation is exact."""
    return (10 * np.arange(rows)[:, None] + np.arange(columns)).astype(np.float32)


def repaired(bad: np.ndarray) -> np.ndarray:
    image = ramp()
    image[bad] = np.nan
    repair_image(image, bad)
    return image


def test_gaps_are_bridged_linearly_along_the_row():
    bad = np.zeros((5, 12), bool)
    bad[1, 3], bad[1, 5:9], bad[4, 10] = True, True, True
    np.testing.assert_allclose(repaired(bad), ramp(), rtol=1e-6)


def test_the_ends_of_a_row_take_their_nearest_good_pixel():
    bad = np.zeros((5, 12), bool)
    bad[2, :2], bad[2, -3:] = True, True
    assert repaired(bad)[2].tolist() == [22, 22, 22, 23, 24, 25, 26, 27, 28, 28, 28, 28]


def test_a_lost_row_takes_the_rows_above_and_below():
    bad = np.zeros((5, 12), bool)
    bad[1:3] = True
    bad[3, 4] = True
    np.testing.assert_allclose(repaired(bad), ramp(), rtol=1e-6)


def test_lost_rows_at_the_top_and_bottom_take_the_nearest_row():
    bad = np.zeros((5, 12), bool)
    bad[0] = bad[4] = True
    image = repaired(bad)
    np.testing.assert_array_equal(image[0], ramp()[1])
    np.testing.assert_array_equal(image[4], ramp()[3])


def test_an_image_without_a_good_pixel_becomes_zero():
    assert not repaired(np.ones((5, 12), bool)).any()


def test_good_pixels_are_never_touched():
    rng = np.random.default_rng(3)
    for share in (0.0, 0.2, 0.9):
        bad = rng.random((5, 12)) < share
        image = rng.random((5, 12)).astype(np.float32)
        before = image.copy()
        repair_image(image, bad)
        np.testing.assert_array_equal(image[~bad], before[~bad])
        assert before.min() <= image.min()
        assert image.max() <= before.max()

"""Flats and darks, reduced."""

from __future__ import annotations

import numpy as np
import pytest

from pfitre_service.errors import InputError
from pfitre_service.preprocess import References


def test_one_bad_flat_among_three_leaves_no_trace():
    flats = np.full((3, 100, 9), 5000, np.uint16)
    flats[1] = 65535
    assert (References.from_frames(flats).flat == 5000).all()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_the_reduction_is_numpys_median_for_any_number_of_frames(n: int):
    stack = np.random.default_rng(0).normal(1000, 30, (n, 70, 11)).astype(np.float32)
    np.testing.assert_allclose(References.from_frames(darks=stack).dark, np.median(stack, axis=0), rtol=1e-6)


def test_values_that_are_not_finite_are_left_out_of_the_reduction():
    flats = np.full((4, 5, 9), 100.0)
    flats[0, 0, 0], flats[1, 0, 0], flats[2, 0, 0], flats[3, 0, 0] = np.nan, np.inf, 90, 110
    flats[:, 4, 8] = np.nan
    reduced = References.from_frames(flats)
    assert reduced.flat[0, 0] == 100
    assert not reduced.valid[4, 8]
    assert reduced.valid.sum() == 44


def test_dead_pixels_are_those_that_are_not_positive_or_far_below_their_neighbours():
    flats, darks = np.full((3, 20, 20), 1100), np.full((3, 20, 20), 100)
    flats[:, 3, 3] = 100  # no signal
    flats[:, 4, 10] = 60  # darker with beam than without
    flats[:, 10, 10] = 200  # a tenth of its neighbours
    flats[:, 12, 12] = 600  # half of them: weak, but alive
    darks[:, 15, 15], flats[:, 15, 15] = 65535, 65535  # stuck
    dead = np.argwhere(~References.from_frames(flats, darks).valid)
    assert dead.tolist() == [[3, 3], [4, 10], [10, 10], [15, 15]]


def test_a_part_of_the_detector_outside_the_beam_is_invalid():
    flats = np.full((3, 20, 40), 1000.0)
    flats[:, :, 30:] = 2
    valid = References.from_frames(flats).valid
    assert valid[:, :30].all()
    assert not valid[:, 30:].any()


def test_a_flat_field_without_beam_has_no_valid_pixel():
    assert not References.from_frames(np.zeros((3, 4, 4), np.uint16), np.zeros((3, 4, 4), np.uint16)).valid.any()


def test_no_frames_are_no_references():
    nothing = References.from_frames(np.empty((0, 4, 5)), None)
    assert (nothing.flat, nothing.dark, nothing.shape) == (None, None, None)


def test_flats_and_darks_of_different_shapes_are_refused():
    with pytest.raises(InputError, match=r"flats of \(4, 5\) and darks of \(4, 6\)"):
        References.from_frames(np.ones((2, 4, 5)), np.ones((2, 4, 6)))
    with pytest.raises(InputError, match=r"flats must be real numbers of shape \(n, rows, columns\)"):
        References.from_frames(np.ones((4, 5)))

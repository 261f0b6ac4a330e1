"""The phantom families: what each of them promises, whatever it draws."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from pfitre_service.errors import InputError
from pfitre_service.twin.families import HELD_BACK_FAMILIES, TRAINING_FAMILIES, confine, draw

SHAPE = (6, 48, 48)
ALL = pytest.mark.parametrize("name", [*TRAINING_FAMILIES, *HELD_BACK_FAMILIES])


@ALL
@pytest.mark.parametrize("seed", range(4))
def test_a_draw_is_an_object_in_air_whose_densest_part_is_near_one(name: str, seed: int):
    volume = draw(name, SHAPE, np.random.default_rng(seed))
    assert volume.shape == SHAPE
    assert volume.dtype == np.float32
    assert np.isfinite(volume).all()
    assert volume.min() == 0
    assert 0.59 < volume.max() <= 1.0001
    filled = volume[len(volume) // 2] > 0
    assert 0.005 < filled.mean() < 0.8
    assert np.unique(volume[volume > 0].round(2)).size > 2


@ALL
def test_nothing_but_air_lies_outside_the_field_of_view(name: str):
    place = (np.arange(48) - 23.5) / 48
    outside = np.hypot(place[:, None], place) > 0.5
    for seed in range(3):
        assert not draw(name, SHAPE, np.random.default_rng(seed))[:, outside].any()


@ALL
def test_the_generator_decides_everything(name: str):
    first, again, other = (draw(name, SHAPE, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@ALL
def test_neighbouring_slices_belong_to_one_body(name: str):
    likeness = []
    for seed in range(4):
        volume = draw(name, SHAPE, np.random.default_rng(seed)).reshape(SHAPE[0], -1)
        likeness += [np.corrcoef(one, following)[0, 1] for one, following in pairwise(volume)]
    assert np.mean(likeness) > 0.5


@ALL
@pytest.mark.parametrize("shape", [(1, 16, 16), (2, 17, 17), (3, 33, 33), (16, 16, 16), (5, 75, 75)])
def test_odd_sizes_small_ones_and_single_slices_work(name: str, shape: tuple[int, int, int]):
    volume = draw(name, shape, np.random.default_rng(7))
    assert volume.shape == shape
    assert np.isfinite(volume).all()
    assert volume.max() > 0.5


@pytest.mark.parametrize("name", TRAINING_FAMILIES)
def test_draws_of_one_family_differ_in_extent_and_in_tone(name: str):
    volumes = [draw(name, (1, 48, 48), np.random.default_rng(seed)) for seed in range(10)]
    assert np.std([(v > 0).mean() for v in volumes]) > 0.03
    assert np.std([v[v > 0].mean() for v in volumes]) > 0.03


@ALL
@pytest.mark.parametrize("shape", [(4, 32, 40), (4, 15, 15), (0, 32, 32)])
def test_slices_that_are_small_or_not_square_are_refused(name: str, shape: tuple[int, int, int]):
    with pytest.raises(InputError, match="square slices of at least 16 x 16"):
        draw(name, shape, np.random.default_rng(0))


def test_an_unknown_name_is_refused_with_the_choices():
    with pytest.raises(InputError, match=r"'foams'; choose one of .*foam, .*weave"):
        draw("foams", SHAPE, np.random.default_rng(0))


def test_no_family_is_both_trained_on_and_held_back():
    assert not TRAINING_FAMILIES.keys() & HELD_BACK_FAMILIES.keys()


def test_confining_cuts_a_full_volume_to_outlines_of_many_extents():
    full = np.ones((2, 64, 64), np.float32)
    shares = [confine(full, np.random.default_rng(seed)).mean() for seed in range(30)]
    circle = np.pi * 0.48**2
    assert max(shares) < 1.01 * circle
    assert max(shares) > 0.9 * circle
    assert 0.02 < min(shares) < 0.3 * circle

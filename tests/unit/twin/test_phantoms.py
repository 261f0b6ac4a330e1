"""The phantoms: seeded, the same at every resolution, and what they claim to be."""

from __future__ import annotations

import numpy as np
import pytest

from pfitre_service.errors import InputError
from pfitre_service.twin.chip import DIELECTRIC, METAL, SUBSTRATE, VIA, layered_chip
from pfitre_service.twin.particle import RADIUS, battery_particle
from pfitre_service.twin.phantoms import PHANTOMS
from pfitre_service.twin.project import bin_volume, project

ALL = pytest.mark.parametrize("name", PHANTOMS)


@ALL
@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 33, 40), (40, 24, 24)])
def test_any_size_from_16_up_gives_attenuations_from_zero_to_about_one(name: str, shape: tuple[int, int, int]):
    volume = PHANTOMS[name](shape, seed=2)
    assert volume.shape == shape
    assert volume.dtype == np.float32
    assert volume.min() >= 0
    assert 0.4 < volume.max() < 1.2


@ALL
def test_the_seed_decides_everything(name: str):
    first, again, other = (PHANTOMS[name]((20, 32, 32), seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 0.01


@ALL
def test_resolution_does_not_change_the_sample(name: str):
    coarse, fine = PHANTOMS[name]((32, 64, 64), seed=3), bin_volume(PHANTOMS[name]((64, 128, 128), seed=3))
    assert np.abs(coarse - fine).mean() < 0.02 * coarse.mean()


@ALL
def test_the_slices_outside_the_inner_circle_are_air(name: str):
    """Nothing leaves the field of view when the sample turns."""
    volume = PHANTOMS[name]((32, 64, 64), seed=4)
    place = np.arange(64) - 31.5
    outside = place[:, None] ** 2 + place[None, :] ** 2 > 32**2
    assert not volume[:, outside].any()


@ALL
def test_sizes_below_16_are_refused(name: str):
    with pytest.raises(InputError, match="at least 16 voxels"):
        PHANTOMS[name]((16, 15, 16))


def test_a_chip_blocks_the_beam_along_its_plane_and_not_across():
    across, along = project(layered_chip((64, 128, 128), seed=0), [0.0, 90.0])
    assert along.max() > 3 * across.max()


def test_a_chip_is_made_of_its_materials_and_has_lines_both_ways():
    volume = layered_chip((128, 256, 256), seed=0)
    for value in (SUBSTRATE, DIELECTRIC, METAL, VIA):
        assert np.count_nonzero(np.isclose(volume, value, atol=1e-4)) > 500
    metal = volume > 0.9
    # Summed along x, a layer of lines along x leaves whole rows of air between lines; and likewise along z.
    full_x = metal.sum(axis=2).max(axis=0) > 100
    full_z = metal.sum(axis=0).max(axis=1) > 60
    assert full_x.any()
    assert full_z.any()
    assert (full_x & ~full_z).any()


def test_a_particle_has_a_rough_radius_and_holes():
    volume = battery_particle((96, 96, 96), seed=0)
    body = np.count_nonzero(volume > 0.02)
    ball = 4 / 3 * np.pi * (RADIUS * 96) ** 3
    assert 0.5 * ball < body < 1.5 * ball
    holes = np.count_nonzero((volume > 0.02) & (volume < 0.2)) / body
    assert 0.01 < holes < 0.3

"""The projector of the twin follows the geometry of docs/design.md exactly."""

from __future__ import annotations

import numpy as np
import pytest

from pfitre_service.errors import InputError
from pfitre_service.twin.project import FineVolume, bin_volume, project

ANGLES = [-90.0, -72.3, -45.0, -10.0, 0.0, 0.001, 30.0, 45.0, 90.0, 137.0, 180.0, 400.0]


def noise(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, np.float32)


def disc(size: int, oversampling: int, x0: float, y0: float, radius: float) -> np.ndarray:
    """One slice (2 rows of voxels high) with a disc; places in detector pixels from the slice's centre."""
    place = (np.arange(size * oversampling) - (size * oversampling - 1) / 2) / oversampling
    inside = (place[None, :] - x0) ** 2 + (place[:, None] - y0) ** 2 < radius**2
    return np.repeat(inside[None].astype(np.float32), oversampling, axis=0)


@pytest.mark.parametrize("columns", [33, 40])
@pytest.mark.parametrize("shift", [0.0, 2.25])
def test_a_point_lands_where_the_geometry_says(columns: int, shift: float):
    volume = np.zeros((2, 64, 64), np.float32)
    x, y = 12, 43  # fine voxels; y differs from x so that a wrong sign or a swap shows
    volume[:, y, x] = 4
    axis = (columns - 1) / 2 + shift
    for angle, image in zip(ANGLES, project(volume, ANGLES, columns=columns, axis=axis), strict=True):
        t = np.deg2rad(angle)
        expected = axis + (x - 31.5) / 2 * np.cos(t) + (y - 31.5) / 2 * np.sin(t)
        centroid = image[0] @ np.arange(columns) / image[0].sum()
        assert image.sum() == pytest.approx(1, rel=1e-5)  # 4 per pixel over a quarter of a pixel
        # The point may lie anywhere in the two columns that hold it, and the centroid is within half of one.
        assert abs(centroid - expected) <= 0.5
        assert np.count_nonzero(image[0]) <= 2


def test_a_small_body_moves_on_its_sinusoid_to_a_hundredth_of_a_column():
    volume = disc(64, 4, 15.0, -7.5, 6.0)
    angles = np.arange(0, 360, 7.0)
    images = project(volume, angles, oversampling=4)
    centroid = images[:, 0] @ np.arange(64) / images[:, 0].sum(axis=1)
    t = np.deg2rad(angles)
    np.testing.assert_allclose(centroid, 31.5 + 15.0 * np.cos(t) - 7.5 * np.sin(t), atol=0.01)


def test_a_disc_off_centre_casts_its_chord_lengths():
    radius, x0, y0 = 14.0, 5.3, -8.1
    angles = [0.0, 17.0, 45.0, 90.0, 123.0]
    images = project(disc(64, 8, x0, y0, radius), angles, oversampling=8)[:, 0]
    edges = np.arange(65) - 0.5 - 31.5
    for angle, image in zip(angles, images, strict=True):
        t = np.deg2rad(angle)
        u = np.clip((edges - x0 * np.cos(t) - y0 * np.sin(t)) / radius, -1, 1)
        area = radius**2 * (np.arcsin(u) + u * np.sqrt(1 - u**2))  # integral of the chord 2 sqrt(r^2 - u^2)
        np.testing.assert_allclose(image, np.diff(area), atol=0.25)
        assert np.abs(image - np.diff(area)).mean() < 0.05


@pytest.mark.parametrize("angle", ANGLES)
def test_nothing_is_lost_as_long_as_the_shadow_falls_on_the_detector(angle: float):
    volume = noise((4, 40, 48))
    image = project(volume, [angle], columns=60, axis=27.4)[0]
    np.testing.assert_allclose(image.sum(axis=1), volume.reshape(2, 2, -1).mean(axis=1).sum(axis=1) / 4, rtol=1e-5)


def test_what_falls_beside_the_detector_is_cut_off_and_nothing_else_changes():
    volume = noise((2, 64, 64))
    whole = project(volume, ANGLES, columns=60, axis=29.5)
    cut = project(volume, ANGLES, columns=20, axis=29.5 - 25)
    np.testing.assert_allclose(cut, whole[:, :, 25:45], rtol=1e-4)


def test_half_a_turn_mirrors_the_projection():
    volume = noise((2, 50, 50))
    for angle in ANGLES:
        there, back = project(volume, [angle, angle + 180])
        np.testing.assert_allclose(there, back[:, ::-1], atol=1e-4)


def test_projecting_is_linear():
    a, b = noise((2, 32, 32), 1), noise((2, 32, 32), 2)
    np.testing.assert_allclose(project(2 * a - b, ANGLES), 2 * project(a, ANGLES) - project(b, ANGLES), atol=1e-4)


def test_slices_do_not_mix():
    volume = np.zeros((6, 32, 32), np.float32)
    volume[2:4] = 1
    images = project(volume, [20.0])
    assert not images[0, [0, 2]].any()
    assert images[0, 1].any()


@pytest.mark.parametrize(("size", "shift"), [(48, 0.0), (47, 0.0), (48, -3.75)])
def test_it_agrees_with_astra_to_rounding(size: int, shift: float):
    astra = pytest.importorskip("astra")
    volume = noise((2, 2 * size, 2 * size))
    volume[1] = volume[0]
    half, columns = size / 2, 80
    # ASTRA's y axis points up and its first row is the top one: its angle is -t.
    volume_geometry = astra.create_vol_geom(2 * size, 2 * size, -half, half, -half, half)
    projection_geometry = astra.create_proj_geom("parallel", 1.0, columns, -np.deg2rad(ANGLES))
    # Its detector is centred: a rotation axis beside the middle is a shift of all columns.
    projection_geometry = astra.geom_postalignment(projection_geometry, -shift)
    projector = astra.create_projector("strip", projection_geometry, volume_geometry)
    try:
        identifier, expected = astra.create_sino(volume[0], projector)
        astra.data2d.delete(identifier)
    finally:
        astra.projector.delete(projector)
    ours = project(volume, ANGLES, columns=columns, axis=(columns - 1) / 2 + shift)[:, 0]
    np.testing.assert_allclose(ours, expected, atol=2e-3 * float(expected.max()))
    assert np.abs(ours - expected).mean() < 1e-4 * float(expected.max())


def test_binning_keeps_the_mean():
    volume = noise((4, 8, 12))
    binned = bin_volume(volume)
    assert binned.shape == (2, 4, 6)
    np.testing.assert_allclose(binned[1, 2, 3], volume[2:4, 4:6, 6:8].mean(), rtol=1e-6)


def test_an_empty_volume_casts_no_shadow():
    assert project(np.zeros((2, 32, 32), np.float32), [3.0]).shape == (1, 1, 16)
    assert not project(np.zeros((2, 32, 32), np.float32), [3.0]).any()


def test_volumes_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="multiple of the oversampling 2; got \\(3, 4, 4\\)"):
        FineVolume.from_volume(np.zeros((3, 4, 4), np.float32))
    with pytest.raises(InputError, match="at least 2 times finer"):
        FineVolume.from_volume(np.zeros((4, 4, 4), np.float32), oversampling=1)

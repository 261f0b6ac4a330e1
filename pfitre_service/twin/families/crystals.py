"""Polycrystals, foams, and separate crystals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pfitre_service.twin.families.bodies import ball, crowd, crowd_size, hull, paint, radii
from pfitre_service.twin.families.cells import voronoi
from pfitre_service.twin.families.grid import Floats, Grid, greys, log_uniform, rotation


def grains(grid: Grid, rng: np.random.Generator) -> Floats:
    """A polycrystal: one grey a grain, thin boundaries darker or brighter or none, twins in some grains.

    Parameters
    ----------
    grid
        Of the volume.
    rng
        Whose state decides.

    Returns
    -------
    Floats
        (z, y, x), 0 to about 1.
    """
    size = log_uniform(rng, 0.04, 0.3)
    cells = voronoi(grid, rng, size)
    values = greys(rng, cells.count)
    volume = cells.of_each(grid, values)
    if rng.random() < 0.35:
        volume = _twinned(grid, rng, volume, cells.own, cells.count, size)
    if rng.random() < 0.65:
        half = max(size * log_uniform(rng, 0.01, 0.08), 0.5 * grid.voxel)
        volume += grid.soft(half - cells.wall) * (np.float32(rng.choice([0.0, 0.05, 1.0, rng.random()])) - volume)
    return volume


def _twinned(
    grid: Grid,
    rng: np.random.Generator,
    volume: Floats,
    own: NDArray[np.intp],
    count: int,
    size: float,
) -> Floats:
    """Parallel stripes in some of the grains, each in its own direction."""
    normals = rng.normal(size=(count, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    strength = (rng.uniform(-0.5, 0.5, count) * (rng.random(count) < 0.5)).astype(np.float32)
    pitch = max(size * rng.uniform(0.15, 0.5), 4 * grid.voxel)
    n = normals / np.float32(pitch)
    place = grid.z * n[:, 0][own] + grid.y * n[:, 1][own] + grid.x * n[:, 2][own]
    stripe = grid.soft((np.float32(0.25) - np.abs(place % 1 - np.float32(0.5))) * np.float32(pitch))
    return volume * (1 + strength[own] * stripe)


def foam(grid: Grid, rng: np.random.Generator) -> Floats:
    """Mostly empty: the walls of cells, or hollow shells that overlap, thin or thick, at times filled with a little.

    Parameters
    ----------
    grid
        Of the volume.
    rng
        Whose state decides.

    Returns
    -------
    Floats
        (z, y, x), 0 to about 1.
    """
    if rng.random() < 0.35:
        return _shells(grid, rng)
    size = log_uniform(rng, 0.05, 0.3)
    cells = voronoi(grid, rng, size)
    half = max(size * log_uniform(rng, 0.02, 0.2), 0.6 * grid.voxel)
    inside = rng.uniform(0, 0.3) * (rng.random() < 0.3)
    contents = greys(rng, cells.count) * np.float32(inside)
    wall = grid.soft(half - cells.wall)
    value = np.float32(rng.uniform(0.5, 1))
    volume = cells.of_each(grid, contents)
    volume += wall * (value - volume)
    # A few cells are full: closed pores that were never opened, or grains of something else.
    full = (rng.random(cells.count) < rng.choice([0.0, 0.0, 0.1])).astype(np.float32)
    return np.maximum(volume, cells.of_each(grid, full) * np.float32(rng.uniform(0.3, 1)))


def _shells(grid: Grid, rng: np.random.Generator) -> Floats:
    """Hollow balls pressed into one another: a voxel is wall where it is near a ball's surface and inside no other."""
    large = log_uniform(rng, 0.06, 0.25)
    count = crowd_size(grid, int(0.7 / large**2) + 5, large / 2)
    sizes = np.maximum(radii(rng, min(count, 500), large / 5, large, rng.uniform(1, 3)), 2 * grid.voxel)
    thickness = rng.uniform(0.08, 0.35)
    inner, outer = grid.zeros(), grid.zeros()
    for centre, size in zip(crowd(grid, rng, sizes), sizes, strict=True):
        box, distance = ball(grid, centre, size)
        wall = max(thickness * size, 1.2 * grid.voxel)
        np.maximum(outer[box], grid.soft(distance), out=outer[box])
        np.maximum(inner[box], grid.soft(distance - np.float32(wall)), out=inner[box])
    ground = np.float32(rng.uniform(0.1, 1) * (rng.random() < 0.25))
    shell = np.float32(rng.uniform(0.5, 1))
    return ground * (1 - outer) + shell * (outer - inner)


def polyhedra(grid: Grid, rng: np.random.Generator) -> Floats:
    """Convex crystals and boxes, far apart or on one another, of one habit or each of its own.

    Parameters
    ----------
    grid
        Of the volume.
    rng
        Whose state decides.

    Returns
    -------
    Floats
        (z, y, x), 0 to about 1.
    """
    large = log_uniform(rng, 0.04, 0.22)
    count = crowd_size(grid, int(rng.uniform(0.3, 1) * 1.5 / large**2) + 4, large / 2)
    sizes = np.maximum(radii(rng, count, large / 6, large, rng.uniform(0.5, 2.5)), 2 * grid.voxel)
    values = np.maximum(greys(rng, count), np.float32(0.15))
    volume = np.full(grid.shape, rng.uniform(0, 0.4) * (rng.random() < 0.4), np.float32)
    boxes, alike = rng.uniform(0, 1), rng.random() < 0.3
    common = rotation(rng)
    coated = rng.random() < 0.2
    for centre, size, value in zip(crowd(grid, rng, sizes), sizes, values, strict=True):
        turn = common if alike else rotation(rng)
        if rng.random() < boxes:
            normals, heights = np.vstack([turn, -turn]), np.tile(size * rng.uniform(0.3, 1, 3), 2)
        else:
            normals = rng.normal(size=(rng.integers(8, 15), 3))
            normals = np.vstack([turn[:2], -turn[:2], normals / np.linalg.norm(normals, axis=1, keepdims=True)])
            heights = size * rng.uniform(0.5, 0.9, len(normals))
        box, distance = hull(grid, centre, normals, heights, 1.75 * size)
        paint(volume, box, grid.soft(distance), value)
        if coated:
            paint(volume, box, grid.soft(distance - np.float32(0.25 * size)), 0.5 * value)
    return volume

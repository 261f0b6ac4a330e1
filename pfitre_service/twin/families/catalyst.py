"""A catalyst body, held back from training: coated spheres packed in a support with pores of several sizes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pfitre_service.twin.families.grid import FIELD_OF_VIEW, Floats, Grid

_TRIES, _MOST = 900, 260


def catalyst(grid: Grid, rng: np.random.Generator) -> Floats:
    """Spheres that do not overlap, each a core in a shell with pores of its own, bound in a body with a crust.

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
    body, depth = _support(grid, rng)
    binder = np.float32(rng.uniform(0.08, 0.3))
    volume = np.full(grid.shape, binder, np.float32)
    core, shell = rng.uniform(0.25, 0.6), rng.uniform(0.75, 1)
    if rng.random() < 0.3:
        core, shell = shell, core
    thickness = rng.uniform(0.08, 0.3)
    for z, y, x, radius in _packing(grid, rng, FIELD_OF_VIEW):
        box, dz, dy, dx = grid.near(np.array([z, y, x]), radius)
        inside = np.float32(radius) - np.sqrt(dz * dz + dy * dy + dx * dx)
        value = np.float32(shell * rng.uniform(0.85, 1)) * np.ones_like(inside)
        deep = grid.soft(inside - np.float32(max(thickness * radius, 1.2 * grid.voxel)))
        value += deep * (np.float32(core * rng.uniform(0.7, 1.2)) - value)
        region = volume[box]
        region += grid.soft(inside) * (value - region)
    crust = grid.soft(np.float32(rng.uniform(0.008, 0.03)) - depth)
    volume += crust * (np.float32(rng.uniform(0.2, 0.9)) - volume)
    _pierce(volume, grid, rng)
    return volume * body


def _support(grid: Grid, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """The share inside the body and the distance below its surface, (z, y, x): a pellet with a superelliptic cut."""
    angle, exponent = rng.uniform(0, np.pi), np.float32(rng.uniform(2, 6))
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    a, b = rng.uniform(0.36, 0.46), rng.uniform(0.2, 0.46)
    if exponent > 3:
        # Corners reach further than the sides.
        a, b = 0.8 * a, 0.8 * b
    u, v = (grid.x * c + grid.y * s) / np.float32(a), (grid.y * c - grid.x * s) / np.float32(b)
    rough = np.float32(0.02) * np.sin(9 * u + 7 * v + 12 * grid.z) * np.cos(11 * v - 5 * u)
    radius = (np.abs(u) ** exponent + np.abs(v) ** exponent) ** (1 / exponent)
    depth = ((1 - radius + rough) * np.float32(min(a, b))).astype(np.float32, copy=False)
    return grid.soft(depth), depth


def _packing(grid: Grid, rng: np.random.Generator, reach: float) -> NDArray[np.float64]:
    """(n, 4) z, y, x, radius of balls that do not overlap, large ones first."""
    largest = np.exp(rng.uniform(np.log(0.04), np.log(0.13)))
    sizes = np.sort(largest * rng.uniform(0.25, 1, _TRIES))[::-1]
    placed = np.zeros((_MOST, 4))
    n = 0
    for size in sizes:
        place = rng.uniform(-1, 1, 3) * [grid.half_depth + size, reach, reach]
        free = np.linalg.norm(placed[:n, :3] - place, axis=1) > 0.97 * (placed[:n, 3] + size)
        if free.all() and n < _MOST:
            placed[n] = [*place, size]
            n += 1
    return placed[:n]


def _pierce(volume: Floats, grid: Grid, rng: np.random.Generator) -> None:
    """Pores of three sizes, anywhere, in place."""
    for size, count in ((0.03, 12), (0.014, 50), (0.006, 120)):
        for _ in range(rng.poisson(count * rng.uniform(0.2, 1))):
            radius = max(size * rng.uniform(0.6, 1.4), 0.8 * grid.voxel)
            place = rng.uniform(-1, 1, 3) * [grid.half_depth + radius, 0.45, 0.45]
            box, dz, dy, dx = grid.near(place, radius)
            volume[box] *= 1 - grid.soft(np.float32(radius) - np.sqrt(dz * dz + dy * dy + dx * dx))

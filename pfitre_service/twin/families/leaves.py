"""Bodies of all sizes over one another (the statistics of natural images), and soft nested blobs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pfitre_service.twin.families.bodies import Vector, axes, ball, crowd, crowd_size, ellipsoid, hull, paint, radii
from pfitre_service.twin.families.fields import wander
from pfitre_service.twin.families.grid import Box, Floats, Grid, greys, log_uniform

_CROWDING = 1.5
"""How many times over the largest blobs would cover the slice, at most."""


def dead_leaves(grid: Grid, rng: np.random.Generator) -> Floats:
    """Balls, ellipsoids and leaning polygonal columns with a power law of sizes, each hiding what it covers.

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
    small = log_uniform(rng, max(0.008, grid.voxel), 0.05)
    large = small * log_uniform(rng, 3, 12)
    count = int(rng.uniform(60, 220))
    sizes = radii(rng, crowd_size(grid, count, small * 2), small, large, rng.uniform(1, 3))
    values = greys(rng, sizes.size)
    volume = np.full(grid.shape, greys(rng, 1)[0], np.float32)
    kinds = rng.dirichlet([1, 1, 1])
    textured = rng.random() < 0.3
    ripple = np.float32(rng.uniform(0.02, 0.1)) * wander(grid, rng, log_uniform(rng, 4, 12)) if textured else None
    for centre, size, value in zip(crowd(grid, rng, sizes), sizes, values, strict=True):
        kind = rng.choice(3, p=kinds)
        if kind == 0:
            box, distance = ball(grid, centre, size)
        elif kind == 1:
            box, distance = ellipsoid(grid, centre, axes(rng, size, 5))
        else:
            box, distance = _column(grid, rng, centre, size)
        shade = value if ripple is None else np.maximum(value + ripple[box], 0)
        paint(volume, box, grid.soft(distance), shade)
    return volume


def _column(grid: Grid, rng: np.random.Generator, centre: Vector, size: float) -> tuple[Box, Floats]:
    """A polygon of 3 to 7 sides drawn out along z, its sides leaning, with a flat top and bottom."""
    sides = int(rng.integers(3, 8))
    turn = 2 * np.pi * (np.arange(sides) + rng.uniform(-0.3, 0.3, sides) + rng.random()) / sides
    lean = rng.normal(0, 0.3, sides)
    normals = np.column_stack([lean, np.sin(turn), np.cos(turn)]) / np.hypot(1, lean)[:, None]
    normals = np.vstack([normals, [[1, 0, 0], [-1, 0, 0]]])
    heights = np.append(size * rng.uniform(0.4, 0.8, sides), [size, size])
    return hull(grid, centre, normals, heights, 1.6 * size)


def blobs(grid: Grid, rng: np.random.Generator) -> Floats:
    """Soft ellipsoids of varied contrast and sharpness, some with others inside them, over a faint ground.

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
    volume = np.full(grid.shape, rng.uniform(0, 0.4) * (rng.random() < 0.6), np.float32)
    if rng.random() < 0.5:
        volume += np.float32(rng.uniform(0, 0.15)) * np.abs(wander(grid, rng, log_uniform(rng, 2, 10)))
    large = log_uniform(rng, 0.06, 0.3)
    count = int(_CROWDING * rng.uniform(0.3, 1) / large**2)
    sizes = radii(rng, crowd_size(grid, count, large / 2), large / 6, large, rng.uniform(0.5, 2.5))
    sizes = np.maximum(np.sort(sizes)[::-1], 1.5 * grid.voxel)
    values = greys(rng, sizes.size)
    softest = rng.uniform(0.1, 1)
    adds = rng.random() < 0.35
    for centre, size, value in zip(crowd(grid, rng, sizes), sizes, values, strict=True):
        matrix = axes(rng, size, 4)
        softness = rng.uniform(0, softest)
        _soften(volume, grid, centre, matrix, size * softness, value * (0.4 if adds else 1), adds)
        shell = 1.0
        # Nested ones share the centre, more or less, and shrink.
        for _ in range(rng.integers(0, 3)):
            shell *= rng.uniform(0.4, 0.85)
            inner = centre + rng.normal(0, 0.1 * size * (1 - shell), 3)
            _soften(volume, grid, inner, matrix / shell, size * shell * softness, rng.uniform(0, 1), False)
    return volume / max(1.0, float(volume.max()))


def _soften(
    volume: Floats,
    grid: Grid,
    centre: Vector,
    matrix: NDArray[np.float64],
    blur: float,
    value: float,
    adds: bool,
) -> None:
    """Paint (or add) an ellipsoid whose edge takes `blur` slice widths from 0 to 1, at least a voxel."""
    box, distance = ellipsoid(grid, centre, matrix)
    share = np.clip(distance / np.float32(max(blur, grid.voxel)), 0, 1)
    share = share * share * (3 - 2 * share)
    if adds:
        volume[box] += share * np.float32(value)
    else:
        paint(volume, box, share, value)

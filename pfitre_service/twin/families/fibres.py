"""Fibres: rods in all directions, in one plane, in bundles, straight or bent, full or hollow."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from pfitre_service.twin.families.bodies import capsule, paint
from pfitre_service.twin.families.grid import Floats, Grid, greys, log_uniform

_PIECE = 0.12
"""Length of the straight pieces that bent fibres are made of, slice widths."""


_MOST = 450


def fibres(grid: Grid, rng: np.random.Generator) -> Floats:
    """Many rods in a ground of air or of matrix; rods along z show as discs, those in the plane as lines.

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
    radius = max(log_uniform(rng, 0.006, 0.05), 0.9 * grid.voxel)
    directions = _enough(grid, rng, _directions(rng, _MOST), radius)
    count = len(directions)
    volume = np.full(grid.shape, rng.uniform(0.05, 0.5) * (rng.random() < 0.45), np.float32)
    values = np.maximum(greys(rng, count), np.float32(0.2))
    bent = rng.uniform(0, 0.35) * (rng.random() < 0.6)
    spread, hollow = rng.uniform(0, 0.6), rng.random() * (rng.random() < 0.4)
    core = float(rng.choice([0.0, rng.uniform(0, 1)]))
    for direction, value in zip(directions, values, strict=True):
        size = max(radius * np.exp(rng.uniform(-spread, spread)), 0.7 * grid.voxel)
        pieces = _pieces(grid, rng, direction, bent, size)
        for start, end in pieces:
            box, distance = capsule(grid, start, end, size)
            paint(volume, box, grid.soft(distance), float(value))
        if rng.random() < hollow:
            for start, end in pieces:
                box, distance = capsule(grid, start, end, 0.55 * size)
                paint(volume, box, grid.soft(distance), core)
    return volume


def _enough(
    grid: Grid, rng: np.random.Generator, directions: NDArray[np.float64], radius: float
) -> NDArray[np.float64]:
    """As many of the fibres as cover a random share of each slice: steep ones show little of themselves."""
    rise = np.maximum(np.abs(directions[:, 0]), 1e-3)
    length = np.minimum(1, (2 * grid.half_depth + 2 * radius) / rise)
    seen = np.pi * radius**2 * length / (2 * grid.half_depth + 2 * radius)
    return directions[: max(6, int(np.searchsorted(np.cumsum(seen), log_uniform(rng, 0.12, 0.9))))]


def _directions(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """(n, 3) unit vectors z, y, x: any, near z, in the plane, or in one to three bundles."""
    kind = rng.random()
    vectors = rng.normal(size=(n, 3))
    if kind < 0.2:
        vectors[:, 0] *= rng.uniform(3, 10)
    elif kind < 0.5:
        vectors[:, 0] *= rng.uniform(0, 0.3)
    elif kind < 0.8:
        bundles = rng.normal(size=(rng.integers(1, 4), 3)) * [rng.uniform(0, 1.5), 1, 1]
        bundles /= np.linalg.norm(bundles, axis=1, keepdims=True)
        vectors = bundles[rng.integers(len(bundles), size=n)] + rng.uniform(0, 0.25) * vectors
    unit: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _pieces(
    grid: Grid, rng: np.random.Generator, direction: NDArray[np.float64], bent: float, radius: float
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The straight pieces of one fibre that lie in the volume or near it."""
    middle = np.append(rng.uniform(-1, 1) * (grid.half_depth + radius), rng.uniform(-0.5, 0.5, 2))
    half = 0.75 if rng.random() < 0.7 else rng.uniform(0.05, 0.4)
    # Steep fibres leave a thin stack soon.
    half = min(half, (2 * grid.half_depth + 2 * radius) / max(abs(direction[0]), 1e-6) + radius)
    places = np.arange(-half, half + _PIECE, _PIECE if bent or half > 0.3 else 2 * half)
    side = np.cross(direction, rng.normal(size=3))
    side /= max(float(np.linalg.norm(side)), 1e-9)
    wave = bent * 0.2 * np.sin(places * rng.uniform(2, 7) + rng.uniform(0, 6))
    line = middle + places[:, None] * direction + wave[:, None] * side
    room = np.array([grid.half_depth, 0.5, 0.5]) + radius
    pairs = itertools.pairwise(line)
    return [(a, b) for a, b in pairs if (np.maximum(a, b) > -room).all() and (np.minimum(a, b) < room).all()]

"""A biological cell, held back from training: membrane, nucleus, vesicles, and mitochondria with their cristae."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from pfitre_service.twin.families.grid import Floats, Grid


def cell(grid: Grid, rng: np.random.Generator) -> Floats:
    """One cell that fills most of the field of view, its nucleus off centre, its other bodies in the cytoplasm.

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
    depth, radius = _body(grid, rng)
    membrane = max(0.006, 1.1 * grid.voxel)
    volume = np.float32(rng.uniform(0.2, 0.35)) + np.float32(0.04) * _grain(grid, rng, 0.012)
    nucleus = _nucleus(grid, rng, volume, radius, membrane)
    for _ in range(int(rng.integers(30, 80))):
        _mitochondrion(grid, rng, volume, nucleus, membrane)
    for _ in range(int(rng.integers(40, 160))):
        _vesicle(grid, rng, volume, nucleus, membrane)
    skin = grid.soft(np.float32(membrane) - depth)
    volume += skin * (np.float32(rng.uniform(0.6, 0.9)) - volume)
    return np.maximum(volume, 0) * grid.soft(depth)


def _body(grid: Grid, rng: np.random.Generator) -> tuple[Floats, float]:
    """Distance below the cell's surface, (z, y, x), and its mean radius."""
    radius = rng.uniform(0.3, 0.38)
    angle, flat = rng.uniform(0, np.pi), rng.uniform(0.6, 1)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = grid.x * c + grid.y * s, (grid.y * c - grid.x * s) / np.float32(flat)
    turn = np.arctan2(v, u)
    edge = np.full_like(turn, 1) + np.float32(0) * grid.z
    for wave in range(2, 7):
        edge += np.float32(rng.normal(0, 0.1) / wave) * np.cos(wave * turn + np.float32(rng.uniform(0, 6)) + 3 * grid.z)
    edge = np.minimum(edge, np.float32(0.475 / radius))
    return (edge * np.float32(radius) - np.hypot(u, v)) * np.float32(flat), radius


def _grain(grid: Grid, rng: np.random.Generator, size: float) -> Floats:
    """Smoothed noise of deviation 1."""
    noise = gaussian_filter(rng.standard_normal(grid.shape, np.float32), max(size / grid.voxel, 0.8), truncate=2.5)
    return noise / max(float(noise.std()), 1e-6)


def _nucleus(grid: Grid, rng: np.random.Generator, volume: Floats, radius: float, membrane: float) -> Floats:
    """Paint the nucleus, with its envelope, chromatin and nucleolus; the share (z, y, x) that it takes."""
    a = radius * rng.uniform(0.35, 0.55)
    b = a * rng.uniform(0.65, 1)
    y, x = rng.uniform(-0.25, 0.25, 2) * radius
    angle = rng.uniform(0, np.pi)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    dx, dy = grid.x - np.float32(x), grid.y - np.float32(y)
    u, v = (dx * c + dy * s) / np.float32(a), (dy * c - dx * s) / np.float32(b)
    depth = (1 - np.sqrt(u * u + v * v + (grid.z / np.float32(a)) ** 2)) * np.float32(b)
    share = grid.soft(depth)
    chromatin = np.tanh(2 * (_grain(grid, rng, 0.014) - np.float32(rng.uniform(0, 0.6))))
    filling = np.float32(rng.uniform(0.35, 0.5)) + np.float32(rng.uniform(0.08, 0.15)) * chromatin
    spot = grid.soft(np.float32(0.3 * b) - np.sqrt((u * a - 0.2 * a) ** 2 + (v * b) ** 2 + grid.z**2))
    filling += spot * (np.float32(0.9) - filling)
    filling += grid.soft(np.float32(membrane) - depth) * (np.float32(rng.uniform(0.6, 0.9)) - filling)
    volume += share * (filling - volume)
    return share


def _mitochondrion(grid: Grid, rng: np.random.Generator, volume: Floats, nucleus: Floats, membrane: float) -> None:
    """A long ellipsoid near the plane of the slice, with a skin and thin sheets across its inside."""
    long, thick = rng.uniform(0.03, 0.075), rng.uniform(0.014, 0.026)
    place = rng.uniform(-1, 1, 3) * [grid.half_depth + 0.5 * thick, 0.4, 0.4]
    angle, lean = rng.uniform(0, np.pi), np.float32(rng.uniform(-0.4, 0.4))
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    box, dz, dy, dx = grid.near(place, np.array([thick, long, long]))
    along, across = dx * c + dy * s, dy * c - dx * s + lean * dz
    r = np.sqrt((along / np.float32(long)) ** 2 + (across**2 + dz * dz) / np.float32(thick**2))
    depth = (1 - r) * np.float32(thick)
    sheets = np.float32(0.5) + np.float32(0.5) * np.cos(along * np.float32(2 * np.pi / max(0.011, 3.5 * grid.voxel)))
    filling = np.float32(rng.uniform(0.35, 0.5)) + np.float32(0.3) * sheets * (np.abs(across) < 0.8 * thick)
    filling += grid.soft(np.float32(membrane) - depth) * (np.float32(0.85) - filling)
    region = volume[box]
    region += grid.soft(depth) * (1 - nucleus[box]) * (filling - region)


def _vesicle(grid: Grid, rng: np.random.Generator, volume: Floats, nucleus: Floats, membrane: float) -> None:
    """A ball: a ring around nearly nothing, or full (a granule, a droplet of fat)."""
    radius = max(0.006 * np.exp(rng.exponential(0.5)), 1.5 * grid.voxel)
    place = rng.uniform(-1, 1, 3) * [grid.half_depth + radius, 0.42, 0.42]
    box, dz, dy, dx = grid.near(place, radius)
    depth = np.float32(radius) - np.sqrt(dz * dz + dy * dy + dx * dx)
    full = rng.random() < 0.3
    filling = np.full_like(depth, rng.uniform(0.7, 1) if full else rng.uniform(0.05, 0.25))
    if not full:
        filling += grid.soft(np.float32(membrane) - depth) * (np.float32(0.7) - filling)
    region = volume[box]
    region += grid.soft(depth) * (1 - nucleus[box]) * (filling - region)

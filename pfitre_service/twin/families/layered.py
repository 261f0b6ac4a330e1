"""Layers: stacked, bent, concentric or wound up, with cracks across them and gaps between them."""

from __future__ import annotations

import numpy as np

from pfitre_service.twin.families.fields import bend
from pfitre_service.twin.families.grid import Floats, Grid, greys, leaning, log_uniform

_FINE = 4096


def layered(grid: Grid, rng: np.random.Generator) -> Floats:
    """A coordinate across the layers looked up in a random stack of them, then damaged.

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
    u, v = leaning(grid, rng, 0.8)
    across, along = _coordinates(grid, rng, u, v)
    volume = _stack(grid, rng, across)
    for _ in range(rng.integers(0, 4) * (rng.random() < 0.7)):
        volume = volume * (1 - _gap(grid, rng, across, along))
    for _ in range(rng.integers(0, 6) * (rng.random() < 0.6)):
        volume = volume * (1 - _crack(grid, rng, along, across))
    return np.broadcast_to(volume, grid.shape)


def _coordinates(grid: Grid, rng: np.random.Generator, u: Floats, v: Floats) -> tuple[Floats, Floats]:
    """The coordinates across and along the layers, both near -0.5 to 0.5."""
    kind = rng.random()
    if kind < 0.35:
        return u + (bend(grid, rng, 0.1) if rng.random() < 0.3 else np.float32(0)), v
    if kind < 0.6:
        return u + bend(grid, rng, 0.35), v
    squash = np.float32(rng.uniform(0.5, 1))
    a, b = (np.float32(rng.uniform(-0.25, 0.25) * (rng.random() < 0.5)) for _ in "uv")
    u, v = u - a, (v - b) / squash
    r: Floats = np.hypot(u, v)
    turn = (np.arctan2(v, u) / np.float32(2 * np.pi)).astype(np.float32, copy=False)
    if kind < 0.85:
        if rng.random() < 0.6:
            r = r + bend(grid, rng, 0.15)
        return r - np.float32(0.5), turn
    pitch = np.float32(log_uniform(rng, 0.05, 0.2))
    # One turn of the spiral is one period of the stack.
    wound: Floats = (r / pitch + turn) % 1 * pitch - np.float32(0.5)
    return wound, turn


def _stack(grid: Grid, rng: np.random.Generator, across: Floats) -> Floats:
    """Grey values of layers of log-uniform thickness, one layer after another or the same few again and again."""
    finest = max(log_uniform(rng, 0.006, 0.08), 1.5 * grid.voxel)
    thickness = finest * np.exp(rng.uniform(0, np.log(rng.uniform(1.2, 8)), int(2.5 / finest) + 2))
    values = greys(rng, thickness.size)
    if rng.random() < 0.4:
        few = int(rng.integers(2, 5))
        order = np.arange(values.size) % few
        thickness, values = thickness[order], values[order]
    if rng.random() < 0.4:
        # Alternate with a second material, so that neighbours always differ.
        values[::2] = rng.choice([0.0, rng.random()])
    edges = np.cumsum(thickness)
    place = (np.arange(_FINE) + 0.5) / _FINE * 2.4
    table = values[np.minimum(np.searchsorted(edges, place), values.size - 1)].astype(np.float64)
    box = max(1, round(grid.voxel / 2.4 * _FINE))
    smooth = np.convolve(np.pad(table, box, "edge"), np.ones(box) / box, "same")[box:-box].astype(np.float32)
    index = ((across + np.float32(1.2)) * np.float32(_FINE / 2.4)).astype(np.int32)
    return smooth[np.clip(index, 0, _FINE - 1)]


def _gap(grid: Grid, rng: np.random.Generator, across: Floats, along: Floats) -> Floats:
    """A delamination: a lens of air that follows the layers."""
    half_length, place = rng.uniform(0.08, 0.6), rng.uniform(-0.4, 0.4)
    half = np.float32(max(log_uniform(rng, 0.004, 0.03), grid.voxel))
    lens = 1 - ((along - np.float32(place)) / np.float32(half_length)) ** 2
    distance = half * np.sqrt(np.maximum(lens, 0)) - np.abs(across - np.float32(rng.uniform(-0.4, 0.4)))
    return grid.soft(distance) * (lens > 0)


def _crack(grid: Grid, rng: np.random.Generator, along: Floats, across: Floats) -> Floats:
    """A sheet of air through the layers, wavy, that ends somewhere and closes towards its end."""
    tilt, place = rng.uniform(-0.6, 0.6), rng.uniform(-0.45, 0.45)
    wave = rng.uniform(0, 0.02) * np.sin(across * np.float32(rng.uniform(10, 60)))
    end, sign = rng.uniform(-0.4, 0.5), rng.choice([-1, 1])
    half = max(log_uniform(rng, 0.003, 0.02), 0.8 * grid.voxel)
    opening = np.clip((np.float32(end) - sign * across) * 8, 0, 1) * np.float32(half)
    distance = opening - np.abs(along - np.float32(place) + np.float32(tilt) * across + wave.astype(np.float32))
    return grid.soft(distance) * (opening > 0)

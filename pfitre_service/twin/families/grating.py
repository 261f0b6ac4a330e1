"""Test patterns: bars, spokes, checkers, nested squares, dots, alone or several on one chart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pfitre_service.twin.families.fields import bend
from pfitre_service.twin.families.grid import Floats, Grid, greys, leaning, log_uniform


def grating(grid: Grid, rng: np.random.Generator) -> Floats:
    """One pattern over the whole slice, or a chart of up to four, in a frame at a random angle.

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
    u, v = leaning(grid, rng)
    if rng.random() < 0.2:
        u = u + bend(grid, rng, 0.1)
    value, ground = np.sort(greys(rng, 2))[::-1]
    value = max(value, np.float32(0.3) + ground / 2)
    volume = _pattern(grid, rng, u, v)
    if rng.random() < 0.6:
        a, b = (np.float32(rng.uniform(-0.2, 0.2)) for _ in "uv")
        right, low = grid.soft(u - a), grid.soft(v - b)
        volume = volume + right * (np.float32(rng.uniform(0.4, 1)) * _pattern(grid, rng, u, v) - volume)
        if rng.random() < 0.6:
            volume = volume + low * (np.float32(rng.uniform(0.4, 1)) * _pattern(grid, rng, v, u) - volume)
    return np.broadcast_to(ground + (value - ground) * volume, grid.shape)


def _pattern(grid: Grid, rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    kinds: list[Callable[[Grid, np.random.Generator, Floats, Floats], Floats]]
    kinds = [_bars, _bars, _chirp, _spokes, _checkers, _nested, _dots]
    return kinds[rng.integers(len(kinds))](grid, rng, u, v)


def _pitch(grid: Grid, rng: np.random.Generator) -> float:
    return max(log_uniform(rng, 0.02, 0.3), 3 * grid.voxel)


def _stripes(grid: Grid, place: Floats, pitch: float | Floats, duty: float) -> Floats:
    """Bars across `place`, given in periods; duty: share of the period that is bar; pitch in slice widths."""
    inside: Floats = (np.float32(duty / 2) - np.abs((place % 1) - np.float32(0.5))) * pitch
    return grid.soft(inside)


def _bars(grid: Grid, rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    pitch = _pitch(grid, rng)
    bars = _stripes(grid, u / np.float32(pitch), pitch, rng.uniform(0.25, 0.75))
    if rng.random() < 0.4:
        length = pitch * log_uniform(rng, 2, 8)
        # Every second row may be set off, as bricks are.
        bars = bars * _stripes(grid, v / np.float32(length), length, rng.uniform(0.6, 0.95))
    return bars


def _chirp(grid: Grid, rng: np.random.Generator, u: Floats, _v: Floats) -> Floats:
    """Bars whose pitch grows evenly from one side to the other."""
    fine = max(log_uniform(rng, 0.015, 0.06), 3 * grid.voxel)
    growth = rng.uniform(0.05, 0.3)
    pitch = np.maximum(np.float32(fine) + np.float32(growth) * (u + np.float32(0.5)), np.float32(fine))
    place = np.log(pitch / np.float32(fine)) / np.float32(growth)
    return _stripes(grid, place, pitch, rng.uniform(0.35, 0.65))


def _spokes(grid: Grid, rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    """A star of spokes, with rings cut out of it at times."""
    n = int(log_uniform(rng, 5, 49))
    a, b = (np.float32(rng.uniform(-0.2, 0.2)) for _ in "uv")
    r: Floats = np.hypot(u - a, v - b)
    turn: Floats = (np.arctan2(v - b, u - a) / np.float32(2 * np.pi)).astype(np.float32, copy=False)
    star = _stripes(grid, turn * n, r * np.float32(2 * np.pi / n), rng.uniform(0.35, 0.65))
    if rng.random() < 0.6:
        ring = rng.uniform(0.06, 0.15)
        star = star * _stripes(grid, r / np.float32(ring), ring, rng.uniform(0.8, 0.95))
    return star


def _checkers(grid: Grid, rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    a, b = _pitch(grid, rng), _pitch(grid, rng)
    first = _stripes(grid, u / np.float32(a), a, 0.5)
    second = _stripes(grid, v / np.float32(b), b, 0.5)
    return first + second - 2 * first * second


def _nested(grid: Grid, rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    """Squares (or circles, or diamonds) within one another, in one nest or tiled."""
    pitch = max(log_uniform(rng, 0.02, 0.12), 3 * grid.voxel)
    if rng.random() < 0.4:
        tile = np.float32(pitch * rng.integers(4, 8))
        u, v = _from_nearest(u, tile), _from_nearest(v, tile)
    norm: Callable[[Floats, Floats], Floats] = (_larger, _larger, np.hypot, _sum)[rng.integers(4)]
    r = norm(u, v)
    return _stripes(grid, r / np.float32(pitch), pitch, rng.uniform(0.3, 0.7))


def _from_nearest(place: Floats, pitch: np.float32) -> Floats:
    """Place measured from the nearest multiple of the pitch."""
    return (place - pitch * np.round(place / pitch)).astype(np.float32, copy=False)


def _larger(u: Floats, v: Floats) -> Floats:
    return np.maximum(np.abs(u), np.abs(v))


def _sum(u: Floats, v: Floats) -> Floats:
    return (np.abs(u) + np.abs(v)) * np.float32(np.sqrt(0.5))


def _dots(grid: Grid, rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    """A lattice of dots or squares, rows set off against one another at times."""
    pitch = np.float32(max(log_uniform(rng, 0.03, 0.2), 5 * grid.voxel))
    row: Floats = np.round(v / pitch)
    u = u + pitch * np.float32(0.5 * (rng.random() < 0.5)) * (row % 2)
    du, dv = _from_nearest(u, pitch), _from_nearest(v, pitch)
    norm: Callable[[Floats, Floats], Floats] = np.hypot if rng.random() < 0.6 else _larger
    radius = pitch * np.float32(rng.uniform(0.2, 0.42))
    dots = grid.soft(radius - norm(du, dv))
    return dots if rng.random() < 0.7 else 1 - dots

"""Where an object ends: outlines of many kinds inside the field of view."""

from __future__ import annotations

import numpy as np

from pfitre_service.twin.families.grid import FIELD_OF_VIEW, Floats, Grid, log_uniform


def confine(volume: Floats, rng: np.random.Generator) -> Floats:
    """Cuts a volume to a random outline inside the field of view; outside it is 0.

    Parameters
    ----------
    volume
        (z, y, x), slices square.
    rng
        Of the outline.

    Returns
    -------
    Floats
        (z, y, x).
    """
    return volume * outline(Grid.from_shape(volume.shape), rng)


def outline(grid: Grid, rng: np.random.Generator) -> Floats:
    """A random outline: a disc, an ellipse, a slab, or a lobed blob.

    Parameters
    ----------
    grid
        Of the volume.
    rng
        Of the outline.

    Returns
    -------
    Floats
        (z, y, x), the share of each voxel inside.
    """
    reach = FIELD_OF_VIEW * (1.0 if rng.random() < 0.4 else rng.uniform(0.55, 1))
    room = FIELD_OF_VIEW - reach
    away, towards = room * np.sqrt(rng.random()) * (rng.random() < 0.6), rng.uniform(0, 2 * np.pi)
    angle = rng.uniform(0, 2 * np.pi)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x, y = grid.x - np.float32(away * np.cos(towards)), grid.y - np.float32(away * np.sin(towards))
    u, v = x * c + y * s, y * c - x * s
    kind = rng.random()
    if kind < 0.2:
        distance = np.float32(reach) - np.hypot(u, v)
    elif kind < 0.4:
        distance = _ellipse(u, v, reach, reach * rng.uniform(0.3, 1))
    elif kind < 0.75:
        distance = _slab(u, v, reach, rng)
    else:
        distance = _lobed(u, v, reach, rng)
    taper = np.float32(rng.uniform(-0.4, 0.4))
    distance = distance - np.abs(taper) * np.float32(grid.half_depth) + taper * grid.z
    if rng.random() < 0.15:
        blur = np.float32(log_uniform(rng, 2 * grid.voxel, max(0.08, 3 * grid.voxel)))
        return np.clip(distance / blur, 0, 1)
    return grid.soft(distance)


def _ellipse(u: Floats, v: Floats, a: float, b: float) -> Floats:
    r = np.hypot(u / np.float32(a), v / np.float32(b))
    slope = np.hypot(u / np.float32(a * a), v / np.float32(b * b)) / np.maximum(r, np.float32(1e-6))
    return (1 - r) / np.maximum(slope, np.float32(1e-6))


def _slab(u: Floats, v: Floats, reach: float, rng: np.random.Generator) -> Floats:
    """A box, flat more often than not, with its corners (rounded at times) on the circle of radius `reach`."""
    half_height = reach * log_uniform(rng, 0.16, 0.72)
    half_length = np.sqrt(reach**2 - half_height**2)
    corner = half_height * rng.uniform(0, 0.9) * (rng.random() < 0.5)
    du, dv = np.abs(u) - np.float32(half_length - corner), np.abs(v) - np.float32(half_height - corner)
    outside = np.hypot(np.maximum(du, 0), np.maximum(dv, 0))
    return np.float32(corner) - outside - np.minimum(np.maximum(du, dv), 0)


def _lobed(u: Floats, v: Floats, reach: float, rng: np.random.Generator) -> Floats:
    """A star-shaped blob: its radius is a random smooth function of direction, at most `reach`."""
    waves = np.arange(1, rng.integers(3, 9))
    size = rng.uniform(0.05, 0.35) * rng.normal(size=waves.size) / np.sqrt(waves)
    phase = rng.uniform(0, 2 * np.pi, waves.size)
    turn = np.linspace(-np.pi, np.pi, 361)
    radius = np.exp(np.sum(size[:, None] * np.cos(waves[:, None] * turn + phase[:, None]), axis=0))
    radius *= reach / radius.max()
    steepest = float(np.max(np.hypot(1, np.gradient(radius, turn) / radius)))
    edge = np.interp(np.arctan2(v, u), turn, radius).astype(np.float32)
    return (edge - np.hypot(u, v)) / np.float32(np.sqrt(steepest))

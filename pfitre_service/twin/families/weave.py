"""A woven composite, held back from training: yarns of filaments over and under one another in a matrix."""

from __future__ import annotations

import numpy as np

from pfitre_service.twin.families.grid import FIELD_OF_VIEW, Floats, Grid


def weave(grid: Grid, rng: np.random.Generator) -> Floats:
    """A laminate cut across its plies: weft yarns along z as ellipses, warp yarns winding between them.

    u runs along the plies and v across them; the frame is turned at random in the (y, x) plane.

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
    angle = rng.uniform(0, 2 * np.pi)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = grid.x * c + grid.y * s, grid.y * c - grid.x * s
    pitch = rng.uniform(0.1, 0.24)
    ply = pitch * rng.uniform(0.32, 0.55)
    matrix, yarn, filament = rng.uniform(0.12, 0.3), rng.uniform(0.4, 0.6), rng.uniform(0.8, 1)
    spacing = max(rng.uniform(0.014, 0.024), 3.5 * grid.voxel)
    # Each ply is set off against the one below it: its number decides by how much.
    level: Floats = np.round(v / np.float32(ply))
    shift = np.modf(np.abs(np.sin(level * np.float32(rng.uniform(1, 90)))) * 7)[0].astype(np.float32)
    u = u + np.float32(pitch) * shift
    height: Floats = v - np.float32(ply) * level
    volume = np.full(grid.shape, matrix, np.float32)
    for inside, fill in (
        _weft(grid, u, height, pitch, ply, spacing),
        _warp(grid, rng, u, height, pitch, ply, spacing),
    ):
        share = grid.soft(inside)
        volume += share * (np.float32(yarn) + np.float32(filament - yarn) * fill - volume)
    _voids(volume, grid, rng)
    return volume * _coupon(grid, rng, c, s)


def _weft(grid: Grid, u: Floats, height: Floats, pitch: float, ply: float, spacing: float) -> tuple[Floats, Floats]:
    """Yarns along z, one every pitch, alternately low and high: distance inside, and filaments as dots."""
    number = np.round(u / np.float32(pitch))
    du = u - np.float32(pitch) * number
    dv = height - np.float32(0.2 * ply) * (1 - 2 * (number % 2))
    a, b = np.float32(0.36 * pitch), np.float32(0.2 * ply)
    inside = (1 - np.hypot(du / a, dv / b)) * b
    row = np.round(dv / np.float32(0.866 * spacing))
    x = du + np.float32(spacing / 2) * (row % 2)
    x = x - np.float32(spacing) * np.round(x / np.float32(spacing))
    dots = grid.soft(np.float32(0.36 * spacing) - np.hypot(x, dv - np.float32(0.866 * spacing) * row))
    return inside, dots


def _warp(
    grid: Grid, rng: np.random.Generator, u: Floats, height: Floats, pitch: float, ply: float, spacing: float
) -> tuple[Floats, Floats]:
    """Yarns along u that pass over one weft and under the next, neighbours along z the other way round."""
    z = grid.z + np.float32(rng.uniform(0, pitch))
    number = np.round(z / np.float32(pitch))
    dz = (z - np.float32(pitch) * number) / np.float32(0.46 * pitch)
    wave = np.cos(u * np.float32(np.pi / pitch)) * (2 * (number % 2) - 1)
    dv = height - np.float32(0.22 * ply) * wave
    half = np.float32(0.15 * ply)
    inside = (np.sqrt(np.maximum(1 - dz * dz, 0)) * 2 - 1) * half - np.abs(dv)
    lines = np.abs((dv / np.float32(0.7 * spacing)) % 1 - np.float32(0.5)) * np.float32(0.7 * spacing)
    return inside, grid.soft(np.float32(0.24 * spacing) - lines)


def _voids(volume: Floats, grid: Grid, rng: np.random.Generator) -> None:
    """A few bubbles that the resin left, in place."""
    for _ in range(int(rng.integers(3, 14))):
        radius = np.exp(rng.uniform(np.log(0.006), np.log(0.03)))
        place = rng.uniform(-1, 1, 3) * [grid.half_depth + radius, 0.42, 0.42]
        box, dz, dy, dx = grid.near(place, radius)
        volume[box] *= 1 - grid.soft(np.float32(radius) - np.sqrt(dz * dz + dy * dy + dx * dx))


def _coupon(grid: Grid, rng: np.random.Generator, c: np.float32, s: np.float32) -> Floats:
    """The share inside a rectangular piece of the laminate, cut along its plies or a few degrees off."""
    off = np.float32(rng.normal(0, 0.05))
    u, v = grid.x * c + grid.y * s, grid.y * c - grid.x * s
    half_height = rng.uniform(0.08, 0.3)
    half_length = np.sqrt((FIELD_OF_VIEW - 0.02) ** 2 - half_height**2)
    inside = np.minimum(half_length - np.abs(u - off * v), half_height - np.abs(v + off * u))
    return np.broadcast_to(grid.soft(inside.astype(np.float32)), grid.shape)

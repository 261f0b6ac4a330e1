"""Integrated circuits: layers of lines, plates and vias, cut across the layers or along them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pfitre_service.twin.boxes import coverage
from pfitre_service.twin.families.fields import bend
from pfitre_service.twin.families.grid import Floats, Grid, log_uniform

Span = tuple[float, float]
_MARGIN = 1.45
"""Width of the drawing over that of the slice: a turned slice's corners stay inside it."""
_MOST_BOXES = 700


def circuit(grid: Grid, rng: np.random.Generator) -> Floats:
    """Manhattan wiring in several layers, drawn in its own frame and turned into the slice's.

    Cut across the layers, they are stacked in the slice; in plan view they are stacked along z.

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
    depth, _height, width = grid.shape
    plan = rng.random() < 0.45
    size = int(np.ceil(width * _MARGIN))
    drawing = np.full((depth, size, size), rng.choice([0.0, rng.uniform(0.02, 0.3)]), np.float32)
    metals = rng.uniform(0.45, 1, 3)
    scale = log_uniform(rng, 0.35, 1.3)
    for count, (stack, across, along, value) in enumerate(_layout(grid, rng, scale, metals, plan)):
        if count == _MOST_BOXES:
            break
        spans = (stack, across, along) if plan else (across, stack, along)
        _box(drawing, spans, width, value)
    return _turned(grid, rng, drawing)


def _layout(
    grid: Grid, rng: np.random.Generator, scale: float, metals: NDArray[np.float64], plan: bool
) -> Iterator[tuple[Span, Span, Span, float]]:
    """Boxes (stacked, across, along, value), layer by layer with the vias between them."""
    half = 0.5 * _MARGIN
    low, high = (-grid.half_depth, grid.half_depth) if plan else (-half, half)
    deep = half if plan else grid.half_depth + 0.1
    level = low - rng.uniform(0, 0.04 * scale)
    turned = bool(rng.integers(2))
    while level < high:
        metal = max(scale * rng.uniform(0.012, 0.05), 1.5 * grid.voxel)
        via = max(scale * rng.uniform(0.01, 0.05), 1.5 * grid.voxel)
        pitch = max(scale * log_uniform(rng, 0.025, 0.12), 4 * grid.voxel)
        value = float(rng.choice(metals))
        for a, b in _layer(grid, rng, pitch, deep, half, turned):
            yield (level, level + metal), a, b, value
        joint, other = pitch * rng.uniform(0.25, 0.5), float(rng.choice(metals))
        sites = (int(2 * deep / pitch), int(2 * half / pitch))
        for _ in range(int(min(sites[0] * sites[1] * rng.uniform(0.05, 0.3), 120))):
            p, q = -deep + pitch * (rng.integers(sites[0]) + 0.5), -half + pitch * (rng.integers(sites[1]) + 0.5)
            yield (
                (level + metal, level + metal + via),
                (p - joint / 2, p + joint / 2),
                (q - joint / 2, q + joint / 2),
                other,
            )
        level += metal + via
        turned = not turned if rng.random() < 0.85 else turned


def _layer(
    grid: Grid, rng: np.random.Generator, pitch: float, deep: float, half: float, turned: bool
) -> Iterator[tuple[Span, Span]]:
    """The boxes of one layer in its plane: a plate, or lines one way with breaks and missing ones."""
    if rng.random() < 0.12:
        a, b = rng.uniform(-0.4, 0.4, 2)
        yield (-deep, deep), (float(a - rng.uniform(0.05, 0.4)), float(b + rng.uniform(0.05, 0.4)))
        return
    width = max(pitch * rng.uniform(0.3, 0.7), 1.5 * grid.voxel)
    missing, breaks = rng.uniform(0, 0.4), rng.uniform(0, 3)
    across, along = (half, deep) if turned else (deep, half)
    for centre in np.arange(-across + pitch / 2, across, pitch):
        if rng.random() < missing:
            continue
        wide = width * (1 if rng.random() < 0.85 else rng.uniform(1, 2.5))
        side = (float(centre - wide / 2), float(centre + wide / 2))
        for piece in _broken(rng, along, breaks, pitch):
            yield (piece, side) if turned else (side, piece)


def _broken(rng: np.random.Generator, half: float, breaks: float, pitch: float) -> Iterator[Span]:
    """A line from -half to half, cut at some places."""
    cuts = np.sort(rng.uniform(-half, half, rng.poisson(breaks * min(1.0, half))))
    gaps = pitch * rng.uniform(0.4, 2.5, cuts.size)
    for start, end in zip([-half, *(cuts + gaps)], [*cuts, half], strict=True):
        if end > start:
            yield float(start), float(end)


def _box(drawing: Floats, spans: tuple[Span, Span, Span], width: int, value: float) -> None:
    """Put one box in place of what was there; each voxel takes the share that the box covers."""
    shares, where = [], []
    for length, (low, high) in zip(drawing.shape, spans, strict=True):
        first = max(0, int(low * width + length / 2))
        last = min(length, int(high * width + length / 2) + 1)
        if last <= first:
            return
        # Of the axis only the part that the box touches is worked out.
        middle = (first + last - length) / 2 / width
        shares.append(coverage(last - first, low - middle, high - middle, width))
        where.append(slice(first, last))
    region = drawing[tuple(where)]
    region += (shares[0][:, None, None] * shares[1][:, None] * shares[2]) * (np.float32(value) - region)


def _turned(grid: Grid, rng: np.random.Generator, drawing: Floats) -> Floats:
    """The drawing (z, v, u) seen in the slice's frame, at a random angle, its layers bent a little at times."""
    width, size = grid.shape[2], drawing.shape[2]
    angle = rng.uniform(0, 2 * np.pi)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = (grid.x * c + grid.y * s)[0], (grid.y * c - grid.x * s)[0]
    if rng.random() < 0.4:
        flat = Grid.from_shape((1, width, width))
        v = v + bend(flat, rng, 0.06)[0]
    u, v = (np.clip(w * width + (size - 1) / 2, 0, size - 1.001).astype(np.float32) for w in (u, v))
    iu, iv = u.astype(np.int32), v.astype(np.int32)
    fu, fv = u - iu, v - iv
    corner, flat_drawing = iv * size + iu, drawing.reshape(grid.shape[0], -1)
    top = flat_drawing[:, corner] * (1 - fu) + flat_drawing[:, corner + 1] * fu
    bottom = flat_drawing[:, corner + size] * (1 - fu) + flat_drawing[:, corner + size + 1] * fu
    turned: Floats = top * (1 - fv) + bottom * fv
    return turned

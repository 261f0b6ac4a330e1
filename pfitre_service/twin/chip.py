"""A layered chip: the sample whose angles are limited by its own shape."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.twin.boxes import coverage, rectangles

SUBSTRATE, DIELECTRIC, METAL, VIA = 0.12, 0.04, 1.0, 0.8
HALF_WIDTH = 0.44
"""Half of the slab's extent along x, as a share of the slice's width: the rest is air."""
_SUBSTRATE_THICKNESS, _METAL_THICKNESS, _VIA_THICKNESS = 0.06, 0.03, 0.028
_AIR_ROWS = 0.06
"""Share of the height left empty above and below."""


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A piece of metal in the plane of a layer; in units of the slice's width, from the middle of the volume."""

    z0: float
    """Lower end along z."""
    z1: float
    """Upper end along z."""
    x0: float
    """Lower end along x."""
    x1: float
    """Upper end along x."""


def layered_chip(shape: tuple[int, int, int], *, seed: int = 0, layers: int = 4) -> NDArray[np.float32]:
    """A thin slab in the (z, x) plane on a substrate, with metal layers stacked along y.

    The lines of one layer run along z, those of the next along x, and vias join crossings. A beam along y (angle 0)
    meets the slab's thickness alone; towards 90 degrees it would have to pass its whole width, which is why such
    samples miss those angles. The same seed gives the same chip at every resolution with the same proportions, each
    voxel holding the mean over its volume.

    Parameters
    ----------
    shape
        (z, y, x), 16 voxels or more along each axis.
    seed
        Of lines and vias.
    layers
        Metal layers, 1 or more.

    Returns
    -------
    NDArray[np.float32]
        (z, y, x), relative attenuations from 0 (air) to 1 (metal).

    Raises
    ------
    InputError
        There are fewer voxels or layers.
    """
    if min(shape) < 16 or layers < 1:
        raise InputError(f"a chip needs at least 16 voxels along each axis and 1 layer; got {shape}, {layers} layers")
    rng = np.random.default_rng(seed)
    depth, _height, width = shape
    half_z = (0.5 - _AIR_ROWS) * depth / width
    metal = [_lines(rng, half_z, along_z=layer % 2 == 0) for layer in range(layers)]
    vias = [_vias(rng, below, above) for below, above in itertools.pairwise(metal)]

    volume = np.zeros(shape, np.float32)
    slab = [Rectangle(-half_z, half_z, -HALF_WIDTH, HALF_WIDTH)]
    stack = layers * _METAL_THICKNESS + (layers - 1) * _VIA_THICKNESS
    level = -(_SUBSTRATE_THICKNESS + stack) / 2
    _lay(volume, slab, SUBSTRATE, level, _SUBSTRATE_THICKNESS)
    level += _SUBSTRATE_THICKNESS
    _lay(volume, slab, DIELECTRIC, level, stack)
    nothing: list[Rectangle] = []
    # Metal takes the dielectric's place: what is added is the difference.
    for lines, joints in itertools.zip_longest(metal, vias, fillvalue=nothing):
        _lay(volume, lines, METAL - DIELECTRIC, level, _METAL_THICKNESS)
        level += _METAL_THICKNESS
        _lay(volume, joints, VIA - DIELECTRIC, level, _VIA_THICKNESS)
        level += _VIA_THICKNESS
    return volume


def _lay(volume: NDArray[np.float32], pattern: list[Rectangle], value: float, bottom: float, thickness: float) -> None:
    """Add one layer in place: rectangles in (z, x), from `bottom` on for `thickness` along y, in slice widths."""
    depth, height, width = volume.shape
    if not pattern:
        return
    plane = rectangles(
        np.stack([coverage(depth, r.z0, r.z1, width) for r in pattern]),
        np.stack([coverage(width, r.x0, r.x1, width) for r in pattern]),
    )
    y = coverage(height, bottom, bottom + thickness, width)
    for index in np.flatnonzero(y):
        volume[:, index] += np.float32(value) * y[index] * plane


def _lines(rng: np.random.Generator, half_z: float, *, along_z: bool) -> list[Rectangle]:
    """Parallel lines of one layer, some left out and some cut into pieces."""
    across, along = (HALF_WIDTH, half_z) if along_z else (half_z, HALF_WIDTH)
    pitch = rng.uniform(0.05, 0.08)
    thickness = pitch * rng.uniform(0.4, 0.6)
    lines = []
    for centre in np.arange(-across + pitch / 2, across - pitch / 2 + 1e-9, pitch):
        pieces = _pieces(rng, along)
        if rng.random() < 0.1:
            continue
        low, high = float(centre - thickness / 2), float(centre + thickness / 2)
        lines += [Rectangle(a, b, low, high) if along_z else Rectangle(low, high, a, b) for a, b in pieces]
    return lines


def _pieces(rng: np.random.Generator, half: float) -> list[tuple[float, float]]:
    """One line of length 2 * half, cut at up to two places."""
    cuts = np.sort(rng.uniform(-0.8 * half, 0.8 * half, rng.integers(0, 3)))
    gap = 0.02
    starts, ends = [-half, *(cuts + gap / 2)], [*(cuts - gap / 2), half]
    return [(float(a), float(b)) for a, b in zip(starts, ends, strict=True) if b > a]


def _vias(rng: np.random.Generator, below: list[Rectangle], above: list[Rectangle]) -> list[Rectangle]:
    """Joints at some of the places where a line of one layer crosses a line of the next."""
    shared = (
        Rectangle(max(p.z0, q.z0), min(p.z1, q.z1), max(p.x0, q.x0), min(p.x1, q.x1)) for p in below for q in above
    )
    crossings = [r for r in shared if r.z1 > r.z0 and r.x1 > r.x0]
    return [r for r in crossings if rng.random() < 0.4]

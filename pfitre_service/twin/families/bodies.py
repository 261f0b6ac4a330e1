"""Bodies painted one by one into a volume, each within its own box of voxels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pfitre_service.twin.families.grid import Box, Floats, Grid, rotation

Vector = NDArray[np.float64]


def paint(volume: Floats, box: Box, share: Floats, value: float | Floats) -> None:
    """Covers what is there, in place.

    Parameters
    ----------
    volume
        (z, y, x), changed in place.
    box
        The part of it that is painted.
    share
        Of the box's shape: 1 replaces a voxel by `value`, 0 leaves it.
    value
        One grey value, or one for each voxel of the box.
    """
    region = volume[box]
    region += share * (value - region)


def crowd(grid: Grid, rng: np.random.Generator, radii: Vector, reach: float = 0.5) -> Vector:
    """Places for bodies: anywhere in the slice, and along z where they touch it.

    Parameters
    ----------
    grid
        Of the volume.
    rng
        Of the places.
    radii
        (n,), slice widths.
    reach
        Of the places along y and x from the middle, slice widths.

    Returns
    -------
    Vector
        (n, 3) places z, y, x, slice widths from the middle.
    """
    z = rng.uniform(-1, 1, radii.size) * (grid.half_depth + 0.9 * radii)
    return np.column_stack([z, rng.uniform(-reach, reach, (radii.size, 2))])


def crowd_size(grid: Grid, count: int, radius: float) -> int:
    """How many bodies to draw so that about `count` cut each slice, however many slices.

    Parameters
    ----------
    grid
        Of the volume.
    count
        Bodies in a slice.
    radius
        Of a typical body, slice widths.

    Returns
    -------
    int
        Bodies in the volume.
    """
    return int(count * min(6.0, 1 + grid.half_depth / max(radius, 2 * grid.voxel)))


def radii(rng: np.random.Generator, n: int, low: float, high: float, power: float) -> Vector:
    """Radii with a density falling as radius**-power (1 is log-uniform).

    Parameters
    ----------
    rng
        Of the radii.
    n
        How many.
    low, high
        Least and largest radius.
    power
        Of the density.

    Returns
    -------
    Vector
        (n,), unit of `low`.
    """
    share = rng.random(n)
    if abs(power - 1) < 1e-3:
        return low * (high / low) ** share
    e = 1 - power
    return (low**e + share * (high**e - low**e)) ** (1 / e)


def axes(rng: np.random.Generator, radius: float, elongation: float) -> NDArray[np.float64]:
    """An ellipsoid of random shape and direction.

    Parameters
    ----------
    rng
        Of shape and direction.
    radius
        Mean radius, slice widths.
    elongation
        Largest ratio of two semi-axes.

    Returns
    -------
    NDArray[np.float64]
        (3, 3), maps the ellipsoid to the unit ball.
    """
    semi = radius * np.exp(rng.uniform(-0.5, 0.5, 3) * np.log(elongation))
    return rotation(rng) / semi[:, None]


def ellipsoid(grid: Grid, centre: Vector, matrix: NDArray[np.float64]) -> tuple[Box, Floats]:
    """Where an ellipsoid lies.

    Parameters
    ----------
    grid
        Of the volume.
    centre
        (3,) z, y, x, slice widths from the middle.
    matrix
        (3, 3), maps the ellipsoid to the unit ball.

    Returns
    -------
    tuple[Box, Floats]
        The box of voxels around it, and the signed distance to its surface there (exact for balls), slice widths,
        positive inside.
    """
    quadratic = matrix.T @ matrix
    reach = np.sqrt(np.diag(np.linalg.inv(quadratic)))
    box, dz, dy, dx = grid.near(centre, reach)
    a = quadratic.astype(np.float32)
    r2 = (
        (a[0, 0] * dz + 2 * a[0, 1] * dy) * dz
        + a[1, 1] * dy * dy
        + (a[2, 2] * dx + 2 * a[0, 2] * dz + 2 * a[1, 2] * dy) * dx
    )
    smallest = 1 / np.sqrt(np.linalg.eigvalsh(quadratic)[-1])
    return box, (1 - np.sqrt(np.maximum(r2, 0))) * np.float32(smallest)


def ball(grid: Grid, centre: Vector, radius: float) -> tuple[Box, Floats]:
    """Where a ball lies.

    Parameters
    ----------
    grid
        Of the volume.
    centre
        (3,) z, y, x, slice widths from the middle.
    radius
        Slice widths.

    Returns
    -------
    tuple[Box, Floats]
        The box of voxels around it, and the signed distance to its surface there, slice widths, positive inside.
    """
    box, dz, dy, dx = grid.near(centre, radius)
    return box, np.float32(radius) - np.sqrt(dz * dz + dy * dy + dx * dx)


def capsule(grid: Grid, start: Vector, end: Vector, radius: float) -> tuple[Box, Floats]:
    """Where a rod with round ends lies.

    Parameters
    ----------
    grid
        Of the volume.
    start, end
        (3,) z, y, x, slice widths from the middle.
    radius
        Slice widths.

    Returns
    -------
    tuple[Box, Floats]
        The box of voxels around it, and the signed distance to its surface there, slice widths, positive inside.
    """
    middle, axis = (start + end) / 2, end - start
    box, dz, dy, dx = grid.near(middle, np.abs(axis) / 2 + radius)
    length2 = max(float(axis @ axis), 1e-12)
    a = (axis / length2).astype(np.float32)
    along = np.clip(dz * a[0] + dy * a[1] + dx * a[2], -0.5, 0.5)
    t = axis.astype(np.float32)
    r2 = (dz - along * t[0]) ** 2 + (dy - along * t[1]) ** 2 + (dx - along * t[2]) ** 2
    return box, np.float32(radius) - np.sqrt(r2)


def hull(
    grid: Grid, centre: Vector, normals: NDArray[np.float64], heights: Vector, reach: Vector | float
) -> tuple[Box, Floats]:
    """Where a convex body bounded by planes lies.

    Parameters
    ----------
    grid
        Of the volume.
    centre
        (3,) z, y, x, slice widths from the middle.
    normals
        (n, 3) unit vectors z, y, x.
    heights
        (n,), distances of the planes from the centre, slice widths.
    reach
        Of the body from its centre, (3,) or one for all, slice widths.

    Returns
    -------
    tuple[Box, Floats]
        The box of voxels around it, and the signed distance to its planes there, slice widths, positive inside.
    """
    box, dz, dy, dx = grid.near(centre, reach)
    inside: Floats | None = None
    for (nz, ny, nx), height in zip(normals.astype(np.float32), heights.astype(np.float32), strict=True):
        depth = height - (nz * dz + (ny * dy + nx * dx))
        inside = depth if inside is None else np.minimum(inside, depth)
    if inside is None:
        raise ValueError("a convex body needs at least one plane")
    return box, inside

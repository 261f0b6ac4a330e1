"""Bodies painted one by one into a volume, each within its own box of voxels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pfitre_service.twin.families.grid import Box, Floats, Grid, rotation

Vector = NDArray[np.float64]


def paint(volume: Floats, box: Box, share: Floats, value: float | Floats) -> None:
    """Cover what is there, in place: share 1 replaces it by `value`, 0 leaves it."""
    region = volume[box]
    region += share * (value - region)


def crowd(grid: Grid, rng: np.random.Generator, radii: Vector, reach: float = 0.5) -> Vector:
    """(n, 3) places z, y, x for bodies of these radii: anywhere in the slice, and along z where they touch it."""
    z = rng.uniform(-1, 1, radii.size) * (grid.half_depth + 0.9 * radii)
    return np.column_stack([z, rng.uniform(-reach, reach, (radii.size, 2))])


def crowd_size(grid: Grid, count: int, radius: float) -> int:
    """How many bodies of a typical radius to draw so that about `count` cut each slice, however many slices."""
    return int(count * min(6.0, 1 + grid.half_depth / max(radius, 2 * grid.voxel)))


def radii(rng: np.random.Generator, n: int, low: float, high: float, power: float) -> Vector:
    """(n,) radii between low and high with a density falling as radius**-power (1 is log-uniform)."""
    share = rng.random(n)
    if abs(power - 1) < 1e-3:
        return low * (high / low) ** share
    e = 1 - power
    return (low**e + share * (high**e - low**e)) ** (1 / e)


def axes(rng: np.random.Generator, radius: float, elongation: float) -> NDArray[np.float64]:
    """(3, 3) matrix that maps an ellipsoid of a mean radius, of random shape and direction, to the unit ball."""
    semi = radius * np.exp(rng.uniform(-0.5, 0.5, 3) * np.log(elongation))
    return rotation(rng) / semi[:, None]


def ellipsoid(grid: Grid, centre: Vector, matrix: NDArray[np.float64]) -> tuple[Box, Floats]:
    """The box of an ellipsoid and the signed distance to its surface there (exact for balls), positive inside."""
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
    """The box of a ball and the signed distance to its surface there, positive inside."""
    box, dz, dy, dx = grid.near(centre, radius)
    return box, np.float32(radius) - np.sqrt(dz * dz + dy * dy + dx * dx)


def capsule(grid: Grid, start: Vector, end: Vector, radius: float) -> tuple[Box, Floats]:
    """The box of a rod with round ends and the signed distance to its surface there, positive inside."""
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
    """The box of a convex body bounded by planes and the signed distance to them there, positive inside.

    normals: (n, 3) unit vectors z, y, x; heights: (n,) distances of the planes from the centre.
    """
    box, dz, dy, dx = grid.near(centre, reach)
    inside: Floats | None = None
    for (nz, ny, nx), height in zip(normals.astype(np.float32), heights.astype(np.float32), strict=True):
        depth = height - (nz * dz + (ny * dy + nx * dx))
        inside = depth if inside is None else np.minimum(inside, depth)
    if inside is None:
        raise ValueError("a convex body needs at least one plane")
    return box, inside

"""Places in a volume: coordinates in slice widths from the middle, and soft edges one voxel wide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError

Floats = NDArray[np.float32]
Box = tuple[slice, slice, slice]
FIELD_OF_VIEW = 0.48
"""Radius of the circle that objects stay inside, in slice widths."""
_SMALLEST = 16


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The voxel centres of a (z, y, x) volume of cubic voxels; lengths in slice widths, from the middle."""

    shape: tuple[int, int, int]
    """(z, y, x) voxels."""
    z: Floats
    """(z, 1, 1)"""
    y: Floats
    """(1, y, 1)"""
    x: Floats
    """(1, 1, x)"""

    @classmethod
    def from_shape(cls, shape: tuple[int, int, int]) -> Grid:
        """The grid of a shape.

        Parameters
        ----------
        shape
            (z, y, x): square slices, 16 wide or more.

        Returns
        -------
        Grid
            Its voxel centres.

        Raises
        ------
        InputError
            The slices are not square, are smaller, or there is none.
        """
        depth, height, width = shape
        if height != width or width < _SMALLEST or depth < 1:
            raise InputError(
                f"phantoms need one or more square slices of at least {_SMALLEST} x {_SMALLEST}; got {shape} (z, y, x)"
            )
        z, x = (((np.arange(n) - (n - 1) / 2) / width).astype(np.float32) for n in (depth, width))
        return cls(shape, z[:, None, None], x[None, :, None], x[None, None, :])

    @property
    def voxel(self) -> float:
        """Side of a voxel, slice widths."""
        return 1 / self.shape[2]

    @property
    def half_depth(self) -> float:
        """Half of the volume's extent along z, slice widths."""
        return self.shape[0] / self.shape[2] / 2

    def zeros(self) -> Floats:
        """(z, y, x), an empty volume."""
        return np.zeros(self.shape, np.float32)

    def soft(self, distance: Floats) -> Floats:
        """1 well inside a surface, 0 outside, linear over one voxel.

        Parameters
        ----------
        distance
            Any shape, slice widths, positive inside.

        Returns
        -------
        Floats
            Shape of `distance`, 0 to 1.
        """
        share: Floats = np.clip(distance * np.float32(1 / self.voxel) + np.float32(0.5), 0, 1)
        return share

    def near(
        self, centre: NDArray[np.float64], reach: NDArray[np.float64] | float
    ) -> tuple[Box, Floats, Floats, Floats]:
        """The voxels near a place.

        Parameters
        ----------
        centre
            (3,) z, y, x, slice widths from the middle.
        reach
            (3,) or one for all, slice widths.

        Returns
        -------
        tuple[Box, Floats, Floats, Floats]
            The box, which may be empty, and the offsets dz, dy, dx from the place there, which broadcast to its shape.
        """
        first = (np.asarray(centre) - reach) / self.voxel + (np.array(self.shape) - 1) / 2 - 1
        last = (np.asarray(centre) + reach) / self.voxel + (np.array(self.shape) - 1) / 2 + 2
        a, b = (np.clip(edge, 0, self.shape).astype(int) for edge in (first, last))
        box = (slice(a[0], b[0]), slice(a[1], b[1]), slice(a[2], b[2]))
        return (
            box,
            self.z[box[0]] - np.float32(centre[0]),
            self.y[:, box[1]] - np.float32(centre[1]),
            self.x[:, :, box[2]] - np.float32(centre[2]),
        )


def plane(grid: Grid, angle: float, drift: tuple[float, float] = (0.0, 0.0)) -> tuple[Floats, Floats]:
    """Coordinates of a frame turned in the (y, x) plane.

    Parameters
    ----------
    grid
        Of the volume.
    angle
        Radians.
    drift
        By how much the frame moves along u and v for every unit of z, so that columns lean.

    Returns
    -------
    tuple[Floats, Floats]
        u and v, each (z, y, x) or (1, y, x), slice widths.
    """
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = grid.x * c + grid.y * s, grid.y * c - grid.x * s
    if drift == (0.0, 0.0):
        return u, v
    return u + np.float32(drift[0]) * grid.z, v + np.float32(drift[1]) * grid.z


def leaning(grid: Grid, rng: np.random.Generator, most: float = 0.5) -> tuple[Floats, Floats]:
    """A frame at a random angle whose columns lean (upright in a third of the draws).

    Parameters
    ----------
    grid
        Of the volume.
    rng
        Of angle and lean.
    most
        Largest drift along u and v for every unit of z.

    Returns
    -------
    tuple[Floats, Floats]
        u and v, each (z, y, x) or (1, y, x), slice widths.
    """
    angle = rng.uniform(0, 2 * np.pi)
    lean = rng.uniform(-most, most, 2) * (rng.random() < 2 / 3)
    return plane(grid, angle, (float(lean[0]), float(lean[1])))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A value whose logarithm is evenly spread; `low` where coarse voxels have pushed it above `high`.

    Parameters
    ----------
    rng
        Of the value.
    low, high
        Its limits.

    Returns
    -------
    float
        Between the two.
    """
    return float(np.exp(rng.uniform(np.log(low), np.log(max(low, high)))))


def rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """A rotation, evenly over all.

    Parameters
    ----------
    rng
        Of the rotation.

    Returns
    -------
    NDArray[np.float64]
        (3, 3).
    """
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.diag(r))


def greys(rng: np.random.Generator, n: int) -> Floats:
    """Grey values: binary, a few levels, a narrow band, or any value.

    Parameters
    ----------
    rng
        Of the values.
    n
        How many.

    Returns
    -------
    Floats
        (n,), 0 to 1.
    """
    kind = rng.random()
    if kind < 0.15:
        levels = np.array([rng.choice([0.0, rng.uniform(0, 0.5)]), 1.0])
    elif kind < 0.6:
        levels = rng.uniform(0.05, 1, rng.integers(2, 7))
    elif kind < 0.75:
        levels = rng.uniform(0.6, 1, 32)
    else:
        levels = rng.uniform(0, 1, 64)
    return rng.choice(levels, n).astype(np.float32)

"""Exact coverage of voxels by boxes, the brick that the chip is built of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def coverage(length: int, low: float, high: float, scale: float) -> NDArray[np.float32]:
    """Share of each pixel that an interval covers. It is in units of `scale` pixels and measured from the middle of the
    axis, so that the same numbers give the same body at any resolution.

    Parameters
    ----------
    length
        Number of pixels.
    low, high
        Ends of the interval.
    scale
        Pixels for one unit.

    Returns
    -------
    NDArray[np.float32]
        (length,), 0 to 1.
    """
    edges = np.arange(length + 1) - length / 2
    inside = np.clip(edges, low * scale, high * scale)
    covered: NDArray[np.float32] = np.diff(inside).astype(np.float32)
    return covered


def rectangles(z: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Union of rectangles in a plane.

    Parameters
    ----------
    z
        (n, length_z), coverage of each rectangle along z.
    x
        (n, length_x), coverage of each rectangle along x.

    Returns
    -------
    NDArray[np.float32]
        (length_z, length_x), 0 to 1.
    """
    union: NDArray[np.float32] = np.minimum(z.T @ x, np.float32(1))
    return union

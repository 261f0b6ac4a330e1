"""Voronoi cells in space: which cell a voxel belongs to, and how far its nearest wall is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pfitre_service.twin.families.fields import bend
from pfitre_service.twin.families.grid import Floats, Grid, log_uniform, plane

_CANDIDATES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Voronoi cells sampled on a grid; arrays are (z, y, x)."""

    count: int
    """Number of cells."""
    own: NDArray[np.intp]
    """The number of the cell that a voxel lies in."""
    next: NDArray[np.intp]
    """The number of the cell behind the nearest wall."""
    wall: Floats
    """Distance to that wall, slice widths."""

    def of_each(self, grid: Grid, values: Floats) -> Floats:
        """A value for each cell, with edges one voxel wide.

        Parameters
        ----------
        grid
            Of the volume.
        values
            (count,), one for each cell.

        Returns
        -------
        Floats
            (z, y, x).
        """
        share = grid.soft(self.wall)
        return share * values[self.own] + (1 - share) * values[self.next]


def voronoi(grid: Grid, rng: np.random.Generator, size: float) -> Cells:
    """Voronoi cells, at times stretched, wavy, or near to a lattice.

    Parameters
    ----------
    grid
        Of the volume.
    rng
        Whose state decides.
    size
        Of a cell, slice widths; four voxels at least.

    Returns
    -------
    Cells
        On the grid.
    """
    size = max(size, 4 * grid.voxel)
    stretch = log_uniform(rng, 1.2, 4) if rng.random() < 0.3 else 1.0
    u, v = plane(grid, rng.uniform(0, 2 * np.pi))
    v = v * np.float32(stretch)
    if rng.random() < 0.4:
        u, v = u + bend(grid, rng, 0.5 * size), v + bend(grid, rng, 0.5 * size)
    places = [np.broadcast_to(w, grid.shape) for w in (grid.z, v, u)]
    seeds = _seeds(rng, size, [(float(w.min()), float(w.max())) for w in (grid.z, v, u)])
    return _nearest(places, seeds, grid, size)


def _seeds(rng: np.random.Generator, size: float, ranges: list[tuple[float, float]]) -> Floats:
    """(n, 3) places: a lattice whose points are shaken, little or so much that it is gone."""
    lattice = np.meshgrid(*(np.arange(low - size, high + 2 * size, size) for low, high in ranges), indexing="ij")
    places = np.stack([w.ravel() for w in lattice], axis=1)
    return (places + size * rng.uniform(0.25, 1) * rng.uniform(-1, 1, places.shape)).astype(np.float32)


def _nearest(places: list[Floats], seeds: Floats, grid: Grid, size: float) -> Cells:
    """Candidates from a search on every few voxels, then exact distances to them at every voxel."""
    step = int(np.clip(size / grid.voxel / 5, 2, 6))
    # Middles of the blocks of voxels that share their candidates.
    index = [np.minimum(np.arange(step // 2, n + step - 1, step), n - 1) for n in grid.shape]
    coarse = np.stack([w[np.ix_(*index)] for w in places], axis=-1)
    nearest = cKDTree(seeds, balanced_tree=False, compact_nodes=False).query(coarse, _CANDIDATES)[1]
    found: NDArray[np.intp] = np.asarray(nearest, np.intp)
    block = np.ix_(*(np.minimum(np.arange(n) // step, i.size - 1) for n, i in zip(grid.shape, index, strict=True)))
    own: NDArray[np.intp] = found[..., 0][block]
    following = own
    first: Floats = np.full(grid.shape, np.inf, np.float32)
    second: Floats = first
    for candidate in range(_CANDIDATES):
        cell = found[..., candidate][block]
        # Gathering each coordinate for the block and not for the voxel keeps the large gathers at one per axis.
        square = np.zeros(grid.shape, np.float32)
        for axis, place in enumerate(places):
            square += (place - seeds[found[..., candidate], axis][block]) ** 2
        if candidate == 0:
            first = square
            continue
        ahead, between = square < first, square < second
        following = np.where(ahead, own, np.where(between, cell, following))
        second = np.where(ahead, first, np.where(between, square, second))
        own, first = np.where(ahead, cell, own), np.where(ahead, square, first)
    wall = np.float32(0.5) * (np.sqrt(second) - np.sqrt(first))
    return Cells(len(seeds), own, following, wall)

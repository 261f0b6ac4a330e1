"""Projections of a volume, exact for its voxels.

The shadow that a square voxel of width h casts on the detector at angle t is a trapezoid, the convolution of two boxes
of widths h|cos t| and h|sin t|. A detector column collects the part of the shadow that falls on it, so

    y[c] = h^2 * sum over voxels i of  v_i * (F(c + 1/2 - s_i) - F(c - 1/2 - s_i))
    s_i  = axis + x_i cos t + y_i sin t

where F is the integral of the trapezoid and x_i, y_i are measured from the slice's centre (docs/design.md, "Geometry").
The voxels are finer than the detector's columns by `oversampling`, hence finer than the solver's: what is reconstructed
was not simulated on the grid it is reconstructed on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from pfitre_service.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class FineVolume:
    """A sample on voxels `oversampling` times finer than the detector's pixels, ready to be projected."""

    values: NDArray[np.float32]
    """(y * x, row): attenuation per detector pixel, averaged over the height of a detector row; only the voxels that
    are not empty in every row."""
    x: NDArray[np.float64]
    """(y * x,), column of each voxel from the slice's centre, in detector pixels."""
    y: NDArray[np.float64]
    """(y * x,), the same for its row."""
    oversampling: int
    """Voxels along the side of a detector pixel."""
    columns: int
    """Width of the detector."""
    axis: float
    """Column of the rotation axis."""

    @classmethod
    def from_volume(
        cls,
        volume: NDArray[np.float32],
        *,
        oversampling: int = 2,
        columns: int | None = None,
        axis: float | None = None,
    ) -> FineVolume:
        """Prepares a volume; each detector row is `oversampling` voxels high.

        Parameters
        ----------
        volume
            (z, y, x) float32, attenuations per detector pixel.
        oversampling
            Voxels along the side of a detector pixel, 2 or more: then a voxel's shadow touches two columns at most,
            which is what makes the sum above cheap.
        columns
            Width of the detector; None for as wide as the volume.
        axis
            Column of the rotation axis; None for the detector's middle.

        Returns
        -------
        FineVolume
            Ready to be projected.

        Raises
        ------
        InputError
            The volume does not divide into whole detector pixels, or `oversampling` is below 2.
        """
        if oversampling < 2:
            raise InputError(f"voxels must be at least 2 times finer than detector pixels; got {oversampling}")
        if volume.ndim != 3 or any(length % oversampling for length in volume.shape):
            raise InputError(
                f"a volume must be (z, y, x), each a multiple of the oversampling {oversampling}; got {volume.shape}"
            )
        rows = volume.shape[0] // oversampling
        fine_y, fine_x = volume.shape[1:]
        binned = volume.reshape(rows, oversampling, fine_y * fine_x).mean(axis=1, dtype=np.float32)
        filled = np.flatnonzero(binned.any(axis=0))
        width = fine_x // oversampling if columns is None else columns
        return cls(
            values=np.ascontiguousarray(binned[:, filled].T),
            x=(filled % fine_x - (fine_x - 1) / 2) / oversampling,
            y=(filled // fine_x - (fine_y - 1) / 2) / oversampling,
            oversampling=oversampling,
            columns=width,
            axis=(width - 1) / 2 if axis is None else axis,
        )

    def project(self, angle: float) -> NDArray[np.float32]:
        """Line integrals at one angle.

        Parameters
        ----------
        angle
            Degrees.

        Returns
        -------
        NDArray[np.float32]
            (row, column).
        """
        radians = np.deg2rad(angle)
        position = self.axis + self.x * np.cos(radians) + self.y * np.sin(radians)
        # The border between columns that is nearest to the voxel: its shadow is cut there, if anywhere.
        border = np.round(position + 0.5)
        left = _shadow_before(border - 0.5 - position, angle, 1 / self.oversampling)
        # Two spare columns catch what falls beside the detector.
        right_column = np.clip(border.astype(np.int64), -1, self.columns + 1) + 1
        weights = np.stack([left, 1 - left], axis=1).astype(np.float32).ravel()
        cells = np.clip(np.stack([right_column - 1, right_column], axis=1), 0, self.columns + 1).ravel()
        matrix = sparse.csc_array(
            (weights, cells, np.arange(0, cells.size + 1, 2)), shape=(self.columns + 2, position.size)
        )
        shadow: NDArray[np.float32] = matrix @ self.values
        return np.ascontiguousarray(shadow[1:-1].T) / np.float32(self.oversampling**2)


def project(
    volume: NDArray[np.float32],
    angles: ArrayLike,
    *,
    oversampling: int = 2,
    columns: int | None = None,
    axis: float | None = None,
) -> NDArray[np.float32]:
    """Line integrals of a volume at several angles.

    Parameters
    ----------
    volume
        (z, y, x) float32, attenuations per detector pixel.
    angles
        (angle,) degrees.
    oversampling
        Voxels along the side of a detector pixel, 2 or more.
    columns
        Width of the detector; None for as wide as the volume.
    axis
        Column of the rotation axis; None for the detector's middle.

    Returns
    -------
    NDArray[np.float32]
        (angle, row, column).
    """
    fine = FineVolume.from_volume(volume, oversampling=oversampling, columns=columns, axis=axis)
    wanted = np.atleast_1d(np.asarray(angles, np.float64))
    rows = volume.shape[0] // oversampling
    projections = np.empty((wanted.size, rows, fine.columns), np.float32)
    for index, angle in enumerate(wanted):
        projections[index] = fine.project(float(angle))
    return projections


def bin_volume(volume: NDArray[np.float32], oversampling: int = 2) -> NDArray[np.float32]:
    """The volume on voxels as large as detector pixels, by means.

    Parameters
    ----------
    volume
        (z, y, x) float32.
    oversampling
        Voxels along the side of a detector pixel.

    Returns
    -------
    NDArray[np.float32]
        (z, y, x), each `oversampling` times shorter.
    """
    z, y, x = (length // oversampling for length in volume.shape)
    blocks = volume.reshape(z, oversampling, y, oversampling, x, oversampling)
    binned: NDArray[np.float32] = blocks.mean(axis=(1, 3, 5), dtype=np.float32)
    return binned


def _shadow_before(distance: NDArray[np.float64], angle: float, width: float) -> NDArray[np.float64]:
    """F: share of a voxel's shadow that lies before `distance` from the shadow's middle; 0 to 1.

    The trapezoid has a flat top of half-width `flat` and reaches to `foot`. By symmetry F(-d) = 1 - F(d), so only the
    part beyond d is computed: nothing past the foot, the slope's triangle, and the top's rectangle.
    """
    radians = np.deg2rad(angle)
    a, b = abs(np.cos(radians)) * width / 2, abs(np.sin(radians)) * width / 2
    flat, foot = abs(a - b), a + b
    d = np.abs(distance)
    height = 1 / (flat + foot)
    on_slope = np.clip(foot - np.maximum(d, flat), 0, None)
    # A slope of no width (beam along an edge of the voxel) holds no shadow, and on_slope is zero there.
    beyond = height * (on_slope**2 / (2 * max(foot - flat, np.finfo(float).tiny)) + np.clip(flat - d, 0, None))
    before: NDArray[np.float64] = np.where(distance > 0, 1 - beyond, beyond)
    return before

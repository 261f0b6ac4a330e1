"""Parallel-beam projector and its exact adjoint, in torch.

    (A x)_t(c) = sum over pixels p  x_p a_t(c - s_p)          s_p = axis + shift_t + x_p cos t + y_p sin t
    (A^T y)_p  = sum over angles t and columns c  y_t(c) a_t(c - s_p)

with the footprint a_t of `footprint.py`. The detector is periodic and longer than the data; beyond the data's
columns a measured projection is zero, as outside the sample there is nothing. Both ways go through a table
with `UPSAMPLING` points per column: back-projection reads it by linear interpolation, projection adds to it.

Angles here are radians; everything is batched over slices and runs where its tensors lie.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from pfitre_service.errors import InputError
from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.footprint import (
    UPSAMPLING,
    column_frequencies,
    detector_length,
    footprint_spectrum,
    interpolation_correction,
    slice_coordinates,
    table_positions,
    upsampled,
)


class Projector:
    """A and A^T for one geometry, an angle at a time: nothing that grows with the number of angles is kept.

    Parameters
    ----------
    geometry
        Detector, rotation axis and width of the slices.
    device
        Where it computes.
    """

    def __init__(self, geometry: ScanGeometry, device: torch.device) -> None:
        self.geometry = geometry
        self.device = device
        self.length = detector_length(geometry.columns, geometry.size, geometry.axis)
        self.frequencies = column_frequencies(self.length, device)
        self.correction = interpolation_correction(self.frequencies)
        self._x, self._y = slice_coordinates(geometry.size, device)

    def backproject(self, rows: Tensor, angle: float, shift: float = 0.0) -> Tensor:
        """A_t^T y for one angle.

        Parameters
        ----------
        rows
            (slices, columns) float32, one detector row per slice.
        angle
            Radians.
        shift
            Columns by which the projection lies right of where the geometry expects it.

        Returns
        -------
        Tensor
            (slices, size, size) float32.
        """
        spectrum = torch.fft.rfft(rows, n=self.length, dim=-1) * self._response(angle)
        table = upsampled(spectrum, self.length).T.contiguous()  # (entries, slices): one gather serves all slices
        left, right, weight = self._pixel_positions(angle, shift)
        values = torch.lerp(table[left], table[right], weight[:, None])
        return values.T.reshape(-1, self.geometry.size, self.geometry.size)

    def project(self, x: Tensor, angle: float, shift: float = 0.0) -> Tensor:
        """A_t x for one angle, on the periodic detector.

        Parameters
        ----------
        x
            (slices, size, size) float32.
        angle
            Radians.
        shift
            Columns by which the projection lies right of where the geometry expects it.

        Returns
        -------
        Tensor
            (slices, length) float32; the data's columns come first.
        """
        left, right, weight = self._pixel_positions(angle, shift)
        values = x.reshape(x.shape[0], -1).T
        table = torch.zeros(self.length * UPSAMPLING, x.shape[0], dtype=x.dtype, device=x.device)
        table.index_add_(0, left, values * (1 - weight)[:, None])
        table.index_add_(0, right, values * weight[:, None])
        spectrum = torch.fft.rfft(table.T, dim=-1)[:, : self.length // 2 + 1]
        return torch.fft.irfft(spectrum * self._response(angle), n=self.length, dim=-1)

    def _response(self, angle: float) -> Tensor:
        return (footprint_spectrum(angle, self.frequencies) * self.correction).to(torch.float32)

    def _pixel_positions(self, angle: float, shift: float) -> tuple[Tensor, Tensor, Tensor]:
        columns = self.geometry.axis + shift + self._x * math.cos(angle) + self._y * math.sin(angle)
        left, right, weight = table_positions(columns.reshape(-1), self.length)
        return left, right, weight


def angle_rows(
    projections: Tensor, angles: Tensor, shifts: Tensor | None = None
) -> Iterator[tuple[Tensor, float, float]]:
    """One angle after the other.

    Parameters
    ----------
    projections
        (angle, slices, columns).
    angles
        (angle,) degrees.
    shifts
        (angle,) columns; None for zero.

    Yields
    ------
    tuple[Tensor, float, float]
        Rows (slices, columns), the angle in radians, the shift in columns.
    """
    for index, (rows, angle) in enumerate(zip(projections, angles.tolist(), strict=True)):
        yield rows, math.radians(angle), 0.0 if shifts is None else float(shifts[index])


def check_measurement(
    shape: tuple[int, int],
    projections: Tensor,
    angles: Tensor,
    weights: Tensor | None = None,
    shifts: Tensor | None = None,
) -> None:
    """Refuses what would spoil every slice.

    Parameters
    ----------
    shape
        (slices, columns) that each angle must bring.
    projections
        (angle, slices, columns).
    angles
        (angle,) degrees.
    weights
        (angle,), not negative; None for one.
    shifts
        (angle,) columns; None for zero.

    Raises
    ------
    InputError
        Shapes do not fit, values are not finite, or a weight is negative.
    """
    if angles.ndim != 1:
        raise InputError(f"angles must be one list of degrees, (angle,); got the shape {tuple(angles.shape)}")
    expected = (len(angles), *shape)
    if tuple(projections.shape) != expected:
        raise InputError(
            f"projections must be (angle, row, column) = {expected} for {len(angles)} angles; "
            f"got {tuple(projections.shape)}"
        )
    for name, values in (("weights", weights), ("shifts", shifts)):
        if values is not None and tuple(values.shape) != (len(angles),):
            raise InputError(f"{name} must be one per angle, ({len(angles)},); got {tuple(values.shape)}")
        if values is not None and not bool(torch.isfinite(values).all()):
            raise InputError(f"{name} must be finite numbers; got {values.tolist()}")
    if weights is not None and bool((weights < 0).any()):
        raise InputError(f"weights must be zero or positive, as A^T W A must be; got {weights.tolist()}")
    if not bool(torch.isfinite(angles).all()):
        raise InputError(f"angles must be finite degrees; got {angles.tolist()}")
    if not bool(torch.isfinite(projections).all()):
        raise InputError(
            "projections hold NaN or infinite values, which would spoil every slice: "
            "repair them first (pfitre_service.preprocess does) or leave the angle out"
        )

"""The accumulators of a streaming tomogram: three additive things stand for all measured rays.

    b = sum_t w_t A_t^T y_t                (slices, size, size)
    K = sum_t w_t ring_t                   one point-spread function for all slices
    c = sum_t w_t ||y_t||^2                (slices,)

For parallel beam A_t^T A_t is a convolution with ring_t(d) = h_t(d_x cos t + d_y sin t), where h_t is the
autocorrelation of the footprint. So K serves every slice and every rotation axis, a projection is added and forgotten,
and removing one subtracts it. A^T W A x is the product of two spectra.
"""

from __future__ import annotations

import copy
import math
from typing import Self

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from pfitre_service.errors import InputError
from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.footprint import (
    RING_UPSAMPLING,
    footprint_spectrum,
    interpolation_correction,
    table_positions,
    upsampled,
)
from pfitre_service.recon.operators.fourier import convolve
from pfitre_service.recon.operators.projector import Projector, angle_rows, check_measurement


class NormalEquations:
    """Accumulators b, K, c of one slab of slices, with the normal operator that K gives.

    Parameters
    ----------
    geometry
        Detector, rotation axis and width of the slices.
    slices
        How many detector rows the slab holds; None for all of the geometry.
    device
        Where they are kept and computed.
    """

    def __init__(
        self, geometry: ScanGeometry, *, slices: int | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.geometry = geometry
        self.device = torch.device(device)
        self.slices = geometry.rows if slices is None else slices
        self.angles = 0
        """How many projections are in."""
        self.weight = 0.0
        self.b = torch.zeros(self.slices, geometry.size, geometry.size, device=self.device)
        self.energy = torch.zeros(self.slices, dtype=torch.float64, device=self.device)
        self._projector = Projector(geometry, self.device)
        self._ring_correction = interpolation_correction(self._projector.frequencies, RING_UPSAMPLING)
        self._embedding = int(next_fast_len(2 * geometry.size - 1, real=True))
        reach = geometry.size - 1
        self._psf = torch.zeros(2 * reach + 1, 2 * reach + 1, dtype=torch.float64, device=self.device)
        self._spectrum: Tensor | None = None

    def add(
        self,
        projections: Tensor,
        angles: Tensor,
        *,
        weights: Tensor | None = None,
        shifts: Tensor | None = None,
    ) -> None:
        """Adds measured angles.

        Parameters
        ----------
        projections
            (angle, slices, columns) float32 line integrals.
        angles
            (angle,) degrees.
        weights
            (angle,), not negative; None for one.
        shifts
            (angle,) columns by which a projection lies right of where the geometry expects it; None for zero.

        Raises
        ------
        InputError
            Shapes do not fit, or values are not finite.
        """
        self._accumulate(projections, angles, weights, shifts, sign=1)

    def remove(
        self,
        projections: Tensor,
        angles: Tensor,
        *,
        weights: Tensor | None = None,
        shifts: Tensor | None = None,
    ) -> None:
        """Takes out what `add` put in.

        Parameters
        ----------
        projections, angles, weights, shifts
            The same as were added.

        Raises
        ------
        InputError
            Shapes do not fit, or values are not finite.
        """
        self._accumulate(projections, angles, weights, shifts, sign=-1)

    def empty(self) -> Self:
        """Accumulators of the same slices, with nothing measured."""
        return type(self)(self.geometry, slices=self.slices, device=self.device)

    def merge(self, other: Self) -> None:
        """Adds all measurements of other accumulators.

        Parameters
        ----------
        other
            Of the same geometry and as many slices.

        Raises
        ------
        InputError
            The geometries or the slices differ.
        """
        if other.geometry != self.geometry or other.slices != self.slices:
            raise InputError(
                f"only accumulators of one geometry can be merged: {self.geometry} with {self.slices} slices, "
                f"{other.geometry} with {other.slices}"
            )
        self.b += other.b.to(self.device)
        self.energy += other.energy.to(self.device)
        self._psf += other._psf.to(self.device)
        self.weight += other.weight
        self.angles += other.angles
        self._spectrum = None

    def of_slices(self, chosen: Tensor) -> Self:
        """The same angles for some of the slices alone, in accumulators of their own.

        Parameters
        ----------
        chosen
            (slices,) int64 indices.

        Returns
        -------
        Self
            As many slices as were chosen.
        """
        part = copy.copy(self)
        part.slices = len(chosen)
        part.b, part.energy, part._psf = self.b[chosen], self.energy[chosen], self._psf.clone()
        return part

    @property
    def psf(self) -> Tensor:
        """K: (2 size - 1, 2 size - 1) float64, zero displacement in the middle, axes (y, x)."""
        return self._psf

    @property
    def spectrum(self) -> Tensor:
        """Real spectrum of K on the padded grid, (embedding, embedding // 2 + 1) float64; slightly negative in places
        where the operator on the slice itself is not."""
        if self._spectrum is None:
            reach = self.geometry.size - 1
            grid = self._psf.new_zeros(self._embedding, self._embedding)
            grid[: 2 * reach + 1, : 2 * reach + 1] = self._psf
            self._spectrum = torch.fft.rfft2(grid.roll((-reach, -reach), (0, 1))).real
        return self._spectrum

    def normal(self, x: Tensor) -> Tensor:
        """K * x = A^T W A x.

        Parameters
        ----------
        x
            (slices, size, size) float32.

        Returns
        -------
        Tensor
            (slices, size, size) float32.
        """
        return convolve(x, self.spectrum.to(x.dtype), self._embedding)

    def _accumulate(
        self, projections: Tensor, angles: Tensor, weights: Tensor | None, shifts: Tensor | None, *, sign: int
    ) -> None:
        values = projections.to(self.device, torch.float32)
        factors = torch.ones(len(angles)) if weights is None else weights
        check_measurement((self.slices, self.geometry.columns), values, angles, factors, shifts)
        for (rows, angle, shift), factor in zip(angle_rows(values, angles, shifts), factors.tolist(), strict=True):
            weight = sign * factor
            self.b.add_(self._projector.backproject(rows, angle, shift), alpha=weight)
            self.energy.add_(rows.double().square().sum(dim=1), alpha=weight)
            self._count(angle, weight, sign)

    def _count(self, angle: float, weight: float, sign: int) -> None:
        """One projection more, or less, of that weight. `angle` in radians."""
        self._psf.add_(self._ring(angle), alpha=weight)
        self._spectrum = None
        self.weight += weight
        self.angles += sign

    def _ring(self, angle: float) -> Tensor:
        """A_t^T A_t as a point-spread function, (2 size - 1, 2 size - 1) float64. `angle` in radians."""
        projector = self._projector
        power = footprint_spectrum(angle, projector.frequencies).square() * self._ring_correction
        table = upsampled(power.to(torch.complex128), projector.length, RING_UPSAMPLING)
        reach = self.geometry.size - 1
        offset = torch.arange(-reach, reach + 1, dtype=torch.float64, device=self.device)
        # A ring is symmetric, h(-d) = h(d): half of it is read, the other half is its mirror.
        distance = offset[None, :] * math.cos(angle) + offset[: reach + 1, None] * math.sin(angle)
        left, right, weight = table_positions(distance, projector.length, RING_UPSAMPLING)
        half = torch.lerp(table[left], table[right], weight.double())
        return torch.cat((half, half[:-1].flip((0, 1))))

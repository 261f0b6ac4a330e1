"""Filtered back-projection, as an accumulator: the instant preview, and the plain answer to compare with.

    f = pi / n  sum_t  B_t (ramp * y_t)          over n angles

The ramp is Kak & Slaney 1988, eq. 61 (band-limited, sampled in space so that the mean is right), under a Hann
window. The sum is additive, so a live scan adds its angles as they come; `volume` can scale it by the least-squares
gain against the measured rays, because a missing wedge leaves plain back-projection too dark.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.data_term import DataTerm, inner
from pfitre_service.recon.operators.footprint import column_frequencies
from pfitre_service.recon.operators.projector import Projector, angle_rows, check_measurement


class FilteredBackprojection:
    """Sum of filtered, back-projected angles of one slab: (slices, size, size) float32.

    Parameters
    ----------
    geometry
        Detector, rotation axis and width of the slices.
    slices
        How many detector rows the slab holds; None for all of the geometry.
    device
        Where it computes.
    """

    def __init__(
        self, geometry: ScanGeometry, *, slices: int | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self.angles = 0
        slices = geometry.rows if slices is None else slices
        self.total = torch.zeros(slices, geometry.size, geometry.size, device=self.device)
        self._projector = Projector(geometry, self.device)
        self._filter = _windowed_ramp(self._projector.length, self.device)

    def add(self, projections: Tensor, angles: Tensor, *, shifts: Tensor | None = None) -> None:
        """Adds measured angles.

        Parameters
        ----------
        projections
            (angle, slices, columns) float32 line integrals.
        angles
            (angle,) degrees.
        shifts
            (angle,) columns by which a projection lies right of where the geometry expects it; None for zero.

        Raises
        ------
        InputError
            Shapes do not fit, or values are not finite.
        """
        self._accumulate(projections, angles, shifts, sign=1)

    def remove(self, projections: Tensor, angles: Tensor, *, shifts: Tensor | None = None) -> None:
        """Takes out what `add` put in.

        Parameters
        ----------
        projections, angles, shifts
            The same as were added.

        Raises
        ------
        InputError
            Shapes do not fit, or values are not finite.
        """
        self._accumulate(projections, angles, shifts, sign=-1)

    def volume(self, data: DataTerm | None = None) -> Tensor:
        """The reconstruction, right in absolute terms where angles fill 180 degrees.

        Parameters
        ----------
        data
            The measured rays: it is scaled to fit them best, which also serves limited and uneven angles. None for no
            scaling.

        Returns
        -------
        Tensor
            (slices, size, size) float32.
        """
        image = self.total * (math.pi / max(self.angles, 1))
        if data is None:
            return image
        fit, norm = inner(image, data.b).sum(), inner(image, data.normal(image)).sum()
        return image * float(fit / norm) if float(norm) > 0.0 and float(fit) > 0.0 else image

    def _accumulate(self, projections: Tensor, angles: Tensor, shifts: Tensor | None, *, sign: int) -> None:
        values = projections.to(self.device, torch.float32)
        check_measurement((self.total.shape[0], self._projector.geometry.columns), values, angles, shifts=shifts)
        length = self._projector.length
        for rows, angle, shift in angle_rows(values, angles, shifts):
            spectrum = torch.fft.rfft(rows, n=length, dim=-1) * self._filter
            filtered = torch.fft.irfft(spectrum, n=length, dim=-1)
            self.total.add_(self._projector.backproject(filtered, angle, shift), alpha=sign)
            self.angles += sign


def _windowed_ramp(length: int, device: torch.device) -> Tensor:
    """Transfer function of the ramp for a real FFT over `length` columns: (length // 2 + 1,) float32."""
    offset = torch.arange(length, dtype=torch.float64, device=device)
    offset = torch.minimum(offset, length - offset)
    odd = offset.remainder(2) == 1
    kernel = torch.where(odd, -1 / (math.pi * offset.clamp_min(1)) ** 2, 0.0)
    kernel[0] = 0.25
    frequencies = column_frequencies(length, device)
    hann = torch.cos(math.pi * frequencies) ** 2
    return (torch.fft.rfft(kernel).real * hann).to(torch.float32)

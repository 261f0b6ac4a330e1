"""Which directions were measured, and how densely: read from K alone, so that it follows every angle that is added,
weighted or taken out again.

A projection at angle t fixes the slice's spectrum along the line through the origin with direction t (the Fourier
slice theorem), so the share of K's spectrum that lies in a sector of directions is the share of the angles there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pfitre_service.recon.operators.data_term import DataTerm

_INNER, _OUTER = 0.12, 0.45
"""The ring of spatial frequencies that is read, in cycles per pixel: outside of the middle, where all lines meet, and
inside the corners, where the footprint fades."""


def directional_coverage(data: DataTerm, directions: int) -> Tensor:
    """Density of the measured angles in equal bins of [0, 180) degrees. 1 is as dense as the slice's pixels ask for:
    size * pi / 2 angles, evenly over 180 degrees (Crowther et al. 1970). An angle's weight counts as that many angles.

    Parameters
    ----------
    data
        Accumulators with the angles in question.
    directions
        Number of bins.

    Returns
    -------
    Tensor
        (directions,) float32; zeros when nothing was measured.
    """
    if data.angles == 0 or data.weight <= 0:
        return torch.zeros(directions, device=data.device)
    spectrum = data.spectrum
    grid = spectrum.shape[0]
    fy = torch.fft.fftfreq(grid, device=data.device, dtype=torch.float64)[:, None]
    fx = torch.fft.rfftfreq(grid, device=data.device, dtype=torch.float64)[None, :]
    radius = torch.hypot(fx, fy)
    read = (radius > _INNER) & (radius < _OUTER) & (fx > 0)
    direction = torch.atan2(fy, fx)[read].remainder(math.pi)
    bins = (direction / math.pi * directions).long().clamp_(0, directions - 1)
    # Lines that spread over r directions of the grid hold 1/r of their energy in each cell: weigh by the radius.
    energy = (spectrum[read].clamp_min(0.0) * radius[read]).float()
    per_bin = torch.zeros(directions, device=data.device).index_add_(0, bins, energy)
    share = per_bin / per_bin.sum().clamp_min(torch.finfo(torch.float32).tiny)
    needed = data.geometry.size * math.pi / 2 / directions
    return share * (data.weight / needed)

"""Detector rows along their columns: moved, binned, freed of noise. All (..., columns) float32."""

from __future__ import annotations

import torch
from scipy.fft import next_fast_len
from torch import Tensor

_NOISE_FROM = 0.75
"""Share of the frequencies above which there is noise alone."""


def shifted_columns(rows: Tensor, shifts: Tensor) -> Tensor:
    """Rows moved towards higher columns; zeros come in from outside. A band-limited function moves exactly: each
    frequency f turns by 2 pi f shift.

    Parameters
    ----------
    rows
        (..., columns) float32.
    shifts
        (...,) columns, any real number.

    Returns
    -------
    Tensor
        (..., columns) float32.
    """
    columns = rows.shape[-1]
    length = int(next_fast_len(columns + 2 * (int(shifts.abs().max()) + 1 if shifts.numel() else 1), real=True))
    turns = torch.fft.rfftfreq(length, dtype=torch.float64, device=rows.device) * shifts.double()[..., None]
    phase = torch.polar(torch.ones_like(turns), -2 * torch.pi * turns).to(torch.complex64)
    return torch.fft.irfft(torch.fft.rfft(rows, n=length) * phase, n=length)[..., :columns]


def binned(rows: Tensor, factor: int) -> Tensor:
    """Means of `factor` columns; what is left over at the high edge goes.

    Parameters
    ----------
    rows
        (..., columns).
    factor
        Columns that become one.

    Returns
    -------
    Tensor
        (..., columns // factor).
    """
    count = rows.shape[-1] // factor
    return rows[..., : count * factor].reshape(*rows.shape[:-1], count, factor).mean(-1)


def without_noise(rows: Tensor) -> Tensor:
    """Wiener's filter along the columns, the noise's power being that of the highest frequencies. Symmetric, so nothing
    moves.

    Parameters
    ----------
    rows
        (angle, slices, columns) float32.

    Returns
    -------
    Tensor
        (angle, slices, columns) float32.
    """
    columns = rows.shape[2]
    spectrum = torch.fft.rfft(rows, n=2 * columns)
    power = spectrum.abs().square().mean((0, 1)).clamp_min(1e-30)
    noise = power[int(_NOISE_FROM * len(power)) :].median()
    return torch.fft.irfft(spectrum * (1 - noise / power).clamp_min(0.0), n=2 * columns)[..., :columns]

"""Real transforms of slices on a larger grid, axis by axis.

A slice fills only part of the padded grid: rows that are zero need no transform, and rows that are cropped away
need none back. That, and one axis at a time instead of a two-dimensional inverse, halves the time of a convolution on a
CPU (512 x 512 grid, 256 x 256 slice).
"""

from __future__ import annotations

import torch
from torch import Tensor

_CPU_SLAB_FLOATS = 300_000
"""Padded floats transformed at once on a CPU: one grid of 512 x 512 stays in the cache of a core."""
_GPU_SLAB_FLOATS = 2**28
"""The same on a GPU, where only memory is the limit."""


def padded_spectrum(x: Tensor, grid: int) -> Tensor:
    """`torch.fft.rfft2` of slices, zero-padded.

    Parameters
    ----------
    x
        (slices, size, size) real.
    grid
        Width and height of the padded grid.

    Returns
    -------
    Tensor
        (slices, grid, grid // 2 + 1) complex.
    """
    return torch.fft.fft(torch.fft.rfft(x, n=grid, dim=-1), n=grid, dim=-2)


def cropped_inverse(spectrum: Tensor, grid: int, size: int) -> Tensor:
    """First corner of `torch.fft.irfft2`.

    Parameters
    ----------
    spectrum
        (slices, grid, grid // 2 + 1) complex.
    grid
        Width and height of the padded grid.
    size
        Width and height of what is wanted.

    Returns
    -------
    Tensor
        (slices, size, size) real.
    """
    rows = torch.fft.ifft(spectrum, dim=-2)[:, :size]
    return torch.fft.irfft(rows, n=grid, dim=-1)[:, :, :size]


def convolve(x: Tensor, transfer: Tensor, grid: int) -> Tensor:
    """Slices through a real transfer function, cropped back; slab by slab.

    Parameters
    ----------
    x
        (slices, size, size) float32.
    transfer
        (grid, grid // 2 + 1) real.
    grid
        Width and height of the padded grid.

    Returns
    -------
    Tensor
        (slices, size, size) float32.
    """
    result = torch.empty_like(x)
    floats = _CPU_SLAB_FLOATS if x.device.type == "cpu" else _GPU_SLAB_FLOATS
    slab = max(1, floats // grid**2)
    for first in range(0, x.shape[0], slab):
        spectrum = padded_spectrum(x[first : first + slab], grid)
        spectrum *= transfer
        result[first : first + slab] = cropped_inverse(spectrum, grid, x.shape[-1])
    return result

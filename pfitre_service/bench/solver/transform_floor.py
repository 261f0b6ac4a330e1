"""What one iteration of the data step cannot do without: its Fourier transforms, counted and timed alone."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.fft import next_fast_len

from pfitre_service.recon.operators.fourier import cropped_inverse, padded_spectrum


@dataclass(frozen=True)
class TransformFloor:
    """Counts and times of one iteration for one slice."""

    grid: int
    """Width of the padded grid of the normal operator."""
    flops: float
    """Floating-point operations of the transforms: 5 n log2 n a complex one of length n, half for a real one."""
    megabytes: float
    """Memory read and written if each pass over the data touches it once."""
    seconds: float
    """The transforms that an iteration does (rows that are zero or cropped left out), and nothing else."""
    plain_seconds: float
    """`torch.fft.rfft2` and `irfft2` of the whole padded grid: two plain transforms, as one would write them first."""


def measure_floor(size: int, repeats: int = 21) -> TransformFloor:
    """Counts and times on this machine, with torch's present number of threads; slices (size, size)."""
    grid = int(next_fast_len(2 * size - 1, real=True))
    slice_, padded = torch.rand(1, size, size), torch.zeros(1, grid, grid)

    def bare() -> None:
        cropped_inverse(padded_spectrum(slice_, grid), grid, size)
        cropped_inverse(padded_spectrum(slice_, size), size, size)

    return TransformFloor(
        grid=grid,
        flops=_flops(size, grid) + _flops(size, size),
        megabytes=(_bytes(size, grid) + _bytes(size, size)) / 1e6,
        seconds=median_seconds(bare, repeats),
        plain_seconds=median_seconds(lambda: torch.fft.irfft2(torch.fft.rfft2(padded), s=(grid, grid)), repeats),
    )


def median_seconds(action: Callable[[], object], repeats: int) -> float:
    """Median wall-clock seconds of `action`, after one call that does not count."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _flops(size: int, grid: int) -> float:
    """Forward and back: `size` real rows and grid // 2 + 1 complex columns, each of length `grid`."""
    return 2 * (2.5 * size + 5 * (grid // 2 + 1)) * grid * math.log2(grid)


def _bytes(size: int, grid: int) -> float:
    """Forward and back, float32: slice, row spectra and full spectrum, each written once and read once."""
    columns = grid // 2 + 1
    return 2 * (4 * size * size + 2 * 8 * size * columns + 2 * 8 * grid * columns)

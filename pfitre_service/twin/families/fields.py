"""Random smooth fields: white noise shaped in Fourier space on as coarse a lattice as it bears, then interpolated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.fft import fftfreq, irfftn, next_fast_len, rfftfreq

from pfitre_service.twin.families.grid import Floats, Grid, log_uniform

_SAMPLES_PER_WAVE = 4.0


def spectral(
    grid: Grid,
    rng: np.random.Generator,
    amplitude: Callable[[Floats], Floats],
    *,
    finest: float = 0.0,
    stretch: float = 1.0,
) -> Floats:
    """A Gaussian random field with a given spectrum.

    Parameters
    ----------
    grid
        Of the volume.
    rng
        Of the waves.
    amplitude
        Of the waves by their frequency, in cycles per slice width (never 0).
    finest
        Shortest wavelength in slice widths, which decides how coarse a lattice will do.
    stretch
        How many times longer structures are along a random direction in the (y, x) plane than across it.

    Returns
    -------
    Floats
        (z, y, x), mean 0 and deviation 1.
    """
    depth, _height, width = grid.shape
    step = max(1.0, finest * width / _SAMPLES_PER_WAVE)
    # Twice the depth, so that the far end of a thin stack is not joined to its near end by periodicity.
    nz, n = (next_fast_len(int(np.ceil(length / step)) + 4, real=True) for length in (2 * depth, width))
    spacing = step / width
    angle = rng.uniform(0, np.pi)
    kz = fftfreq(nz, spacing).astype(np.float32)[:, None, None]
    ky = fftfreq(n, spacing).astype(np.float32)[None, :, None]
    kx = rfftfreq(n, spacing).astype(np.float32)[None, None, :]
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = (kx * c + ky * s) * np.float32(np.sqrt(stretch)), (ky * c - kx * s) / np.float32(np.sqrt(stretch))
    k = np.sqrt(along**2 + across**2 + kz**2)
    k[0, 0, 0] = 1
    waves = rng.standard_normal((*k.shape, 2), np.float32).view(np.complex64)[..., 0]
    waves *= amplitude(k)
    waves[0, 0, 0] = 0
    field = irfftn(waves, (nz, n, n), overwrite_x=True).astype(np.float32, copy=False)
    field = field[:depth, :width, :width] if step == 1 else resample(field, grid, step)
    field = field - field.mean()
    field /= max(float(field.std()), 1e-6)
    return field


def band(
    grid: Grid, rng: np.random.Generator, wavelength: float, *, width: float = 0.25, stretch: float = 1.0
) -> Floats:
    """A random field whose waves all have about one length.

    Parameters
    ----------
    grid
        Of the volume.
    rng
        Of the waves.
    wavelength
        Slice widths.
    width
        Relative spread of frequencies.
    stretch
        As `spectral` has it.

    Returns
    -------
    Floats
        (z, y, x), mean 0 and deviation 1.
    """

    def amplitude(k: Floats) -> Floats:
        return np.exp(np.float32(-0.5) * ((k * np.float32(wavelength) - 1) / np.float32(width)) ** 2)

    return spectral(grid, rng, amplitude, finest=wavelength / (1 + 2 * width) / np.sqrt(stretch), stretch=stretch)


def wander(grid: Grid, rng: np.random.Generator, cells: float) -> Floats:
    """A slowly varying field.

    Parameters
    ----------
    grid
        Of the volume.
    rng
        Of the field.
    cells
        Independent places across a slice, about.

    Returns
    -------
    Floats
        (z, y, x), deviation near 1.
    """
    depth, _height, width = grid.shape
    step = width / cells
    nz, n = (int(np.ceil(length / step)) + 5 for length in (depth, width))
    return resample(rng.standard_normal((nz, n, n), np.float32), grid, step, float(rng.uniform(1, 2)))


def bend(grid: Grid, rng: np.random.Generator, most: float) -> Floats:
    """A displacement over anything from the whole slice to a sixth of it.

    Parameters
    ----------
    grid
        Of the volume.
    rng
        Of the field.
    most
        Slice widths; it is mostly below.

    Returns
    -------
    Floats
        (z, y, x), slice widths.
    """
    cells = log_uniform(rng, 1, 6)
    return np.float32(rng.uniform(0, most) / cells) * wander(grid, rng, cells)


def resample(coarse: Floats, grid: Grid, step: float, start: float = 1.0) -> Floats:
    """Cubic interpolation of a coarse lattice to the grid: voxel i lies at coarse place start + i / step.

    Parameters
    ----------
    coarse
        (z, y, x).
    grid
        Of the volume.
    step
        Voxels between two places of the lattice.
    start
        Place of the first voxel on the lattice.

    Returns
    -------
    Floats
        (z, y, x), of the grid's shape.
    """
    mz, my, mx = (_weights(fine, n, step, start) for fine, n in zip(grid.shape, coarse.shape, strict=True))
    rows = np.tensordot(mz, coarse, 1)
    return ((my @ rows) @ mx.T).astype(np.float32, copy=False)


def _weights(fine: int, coarse: int, step: float, start: float) -> Floats:
    """(fine, coarse) weights of Keys' cubic convolution."""
    place = start + np.arange(fine) / step
    t = np.abs(place[:, None] - np.arange(coarse)[None, :])
    near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    weights: Floats = np.where(t < 1, near, np.where(t < 2, far, 0)).astype(np.float32)
    return weights

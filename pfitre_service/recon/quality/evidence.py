"""How far a volume may be believed, from nothing but what the accumulators and the solvers hold already.

    inferred         the part of the volume in spatial frequencies that no angle measured (coverage, read from K)
    features         what the expected error of a voxel is read from (see error_model.py)
    next angle       where one more projection would settle most of what prior and data disagree on

All of it costs a handful of transforms of the volume; one step of the solvers takes dozens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from pfitre_service.recon.operators.data_term import DataTerm
from pfitre_service.recon.operators.fourier import convolve, padded_spectrum
from pfitre_service.recon.robust_scale import robust_scale

_HALF_MEASURED = 0.25
"""A spatial frequency counts as half measured where K is this share of what as many angles would give it if they lay
evenly over 180 degrees."""
_WIDTH = 2.0
"""Pixels (standard deviation) over which local averages are taken."""
_DIRECTIONS = 180
_SLICES = 8
"""Slices that the next angle is read from, evenly over the volume."""
_INNER, _OUTER = 0.05, 0.45
"""Spatial frequencies, in cycles per pixel, that the next angle is chosen by."""
_SMALLEST = 1e-3
"""Of the tomogram's scale of values: what is smaller is told apart no further."""

FEATURES = (
    "value",
    "value around",
    "gradient around",
    "distance to physics around",
    "inferred around",
    "prior gap around",
    "missing share",
)
"""What the model of the error sees of a voxel, in units of the tomogram's scale of values, as logarithms; and the share
of spatial frequencies that no angle measured."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a voxel's error is predicted from: all (slices, size, size) float32."""

    x: Tensor
    """The result."""
    physics: Tensor
    """The data alone."""
    gap: Tensor
    """|z - x|, where prior and data disagree; zero without a prior."""
    inferred: Tensor
    """The part of x that was not measured, see `inferred_part`."""

    @property
    def scale(self) -> float:
        """The tomogram's scale of values, in the unit of x; positive."""
        return max(robust_scale(self.x), torch.finfo(torch.float32).tiny)

    def features(self, missing: float) -> Tensor:
        """What the error model reads, in the order of `FEATURES`.

        Parameters
        ----------
        missing
            Share of the spatial frequencies that no angle measured, see `missing_share`.

        Returns
        -------
        Tensor
            (len(FEATURES), slices, size, size) float32.
        """
        local = torch.stack(
            [
                self.x.abs(),
                around(self.x.abs()),
                around(gradient_length(self.x)),
                around((self.x - self.physics).square()).sqrt(),
                around(self.inferred.square()).sqrt(),
                around(self.gap.square()).sqrt(),
            ]
        )
        logarithms = (local / self.scale).clamp_min(0.0).add_(_SMALLEST).log_()
        return torch.cat((logarithms, torch.full_like(self.x, missing)[None]))


def unmeasured(data: DataTerm) -> Tensor:
    """How far the angles leave each spatial frequency open: k^2 / (K^2 + k^2), 0 where they measure it well, 1 where
    none of them does. k is a share of the spectrum of even angles, W / (pi |f|), which is the density of lines through
    the origin at a distance of |f| (the Fourier slice theorem).

    Parameters
    ----------
    data
        Accumulators with the angles in question.

    Returns
    -------
    Tensor
        Transfer function, (grid, grid // 2 + 1) float32 on K's grid.
    """
    spectrum = _tapered(data.spectrum)
    _, _, radius = _frequencies(spectrum.shape[0], data.device)
    even = data.weight / (math.pi * radius.clamp_min(1 / data.geometry.size))
    half = (_HALF_MEASURED * even).clamp_min(torch.finfo(torch.float32).tiny)
    return (half.square() / (spectrum.square() + half.square())).float()


def inferred_part(transfer: Tensor, x: Tensor) -> Tensor:
    """The part of a volume that no angle measured; what is left was measured.

    Parameters
    ----------
    transfer
        What `unmeasured` says.
    x
        (slices, size, size) float32.

    Returns
    -------
    Tensor
        (slices, size, size) float32, in x's own unit.
    """
    return convolve(x, transfer, transfer.shape[0])


def missing_share(transfer: Tensor) -> float:
    """Share of the spatial frequencies up to the detector's own limit that the angles leave open.

    Parameters
    ----------
    transfer
        What `unmeasured` says.

    Returns
    -------
    float
        0 to 1.
    """
    _, _, radius = _frequencies(transfer.shape[0], transfer.device)
    return float(transfer[radius < 0.5].mean())


def next_angle(transfer: Tensor, x: Tensor, z: Tensor) -> float:
    """Where one more projection would settle most: the direction of the largest energy of z - x among the frequencies
    that were not measured; where nothing is in dispute, the middle of what is missing.

    Parameters
    ----------
    transfer
        What `unmeasured` says.
    x
        (slices, size, size) float32, the result.
    z
        (slices, size, size) float32, what the prior makes of it.

    Returns
    -------
    float
        Degrees in [0, 180).
    """
    grid = transfer.shape[0]
    difference = (z - x)[:: -(-len(x) // _SLICES)]
    disputed = bool(difference.any())
    power = padded_spectrum(difference, grid).abs().square().sum(0) if disputed else torch.ones_like(transfer)
    fy, fx, radius = _frequencies(grid, transfer.device)
    read = (radius > _INNER) & (radius < _OUTER)
    bins = (torch.atan2(fy, fx)[read].remainder(math.pi) / math.pi * _DIRECTIONS).round().long() % _DIRECTIONS
    energy = (power * transfer.square())[read].double()
    sums = torch.zeros(_DIRECTIONS, dtype=torch.float64, device=transfer.device)
    counts = sums.index_add(0, bins, torch.ones_like(energy)).clamp_min(1.0)
    per_direction = sums.index_add(0, bins, energy) / counts
    # One projection settles its neighbours too: a direction stands for the few degrees around it.
    wide = torch.hann_window(15, periodic=False, dtype=torch.float64, device=transfer.device)
    wrapped = torch.cat((per_direction[-7:], per_direction, per_direction[:7]))
    smooth = (wrapped.unfold(0, 15, 1) * wide).sum(-1)
    return float(smooth.argmax()) * 180.0 / _DIRECTIONS


def around(values: Tensor) -> Tensor:
    """Gaussian average of each slice, edges mirrored.

    Parameters
    ----------
    values
        (slices, size, size) float32.

    Returns
    -------
    Tensor
        (slices, size, size) float32.
    """
    reach = min(int(3 * _WIDTH), values.shape[-1] - 1)
    offset = torch.arange(-reach, reach + 1, dtype=values.dtype, device=values.device)
    kernel = torch.exp(-0.5 * (offset / _WIDTH).square())
    kernel /= kernel.sum()
    image = pad(values[:, None], (reach, reach, reach, reach), mode="reflect")
    return conv2d(conv2d(image, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[:, 0]


def gradient_length(x: Tensor) -> Tensor:
    """Length of the gradient within each slice.

    Parameters
    ----------
    x
        (slices, size, size) float32.

    Returns
    -------
    Tensor
        (slices, size, size) float32, x's unit per pixel.
    """
    across, down = torch.gradient(x, dim=(-1, -2))
    return torch.hypot(across, down)


def _tapered(spectrum: Tensor) -> Tensor:
    """K's spectrum with its rings faded out (Hann) instead of cut off at the edge of the grid: a cut leaks along the
    axes, where it would pass for a measurement."""
    grid = spectrum.shape[0]
    fade = 0.5 + 0.5 * torch.cos(2 * math.pi * torch.arange(grid, device=spectrum.device) / grid)
    rings = torch.fft.irfft2(spectrum, s=(grid, grid))
    return torch.fft.rfft2(rings * fade[:, None] * fade[None, :]).real


def _frequencies(grid: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """fy, fx and their length on K's grid, cycles per pixel."""
    fy = torch.fft.fftfreq(grid, device=device)[:, None]
    fx = torch.fft.rfftfreq(grid, device=device)[None, :]
    return fy, fx, torch.hypot(fx, fy)

"""How near a reconstruction x comes to a truth t that is known: PSNR and SSIM.

    PSNR = 10 log10( max(t)^2 / mean (x - t)^2 )
    SSIM = mean of (2 mx mt + C1)(2 sxt + C2) / ((mx^2 + mt^2 + C1)(sx^2 + st^2 + C2))      C = (0.01 L)^2, (0.03 L)^2

The peak of PSNR is the largest value of the truth, not its range: both are one where there is air, which is 0. SSIM is
that of Wang et al. 2004: means, variances and covariance under a Gaussian window of 11 x 11 pixels, sigma 1.5, where
the window lies wholly inside the slice; L is the range of the truth.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pfitre_service.errors import InputError

Images = Tensor | NDArray[Any]
Region = Literal["slice", "volume"]

WINDOW = 11
_SIGMA = 1.5


def psnr(images: Images, truth: Images, *, region: Region = "slice", peak: Region | None = None) -> Tensor:
    """Peak signal-to-noise ratio, ``10 log10( max(truth)^2 / mean (images - truth)^2 )``.

    Parameters
    ----------
    images, truth
        (z, y, x), real numbers of one unit.
    region
        What the mean is taken over: each slice, or the whole volume.
    peak
        Where the largest value of the truth is sought; by default in `region`.

    Returns
    -------
    Tensor
        Decibels, float64: (z,), or (1,) of a whole volume. Infinite where both are equal, NaN where the truth has no
        contrast in what `peak` names.

    Raises
    ------
    InputError
        The arrays are not (z, y, x) of one shape.
    """
    x, t = _pair(images, truth)
    error = _regions(x - t, region).square().mean(1)
    where = _regions(t, peak or region)
    decibels = 10 * torch.log10(where.amax(1).square() / error)
    return torch.where(where.amax(1) > where.amin(1), decibels, torch.nan)


def ssim(images: Images, truth: Images) -> Tensor:
    """Structural similarity of each slice.

    Parameters
    ----------
    images, truth
        (z, y, x), real numbers of one unit; y and x of 11 pixels or more.

    Returns
    -------
    Tensor
        (z,) float64, between -1 and 1, 1 where both are equal; NaN where the truth has no contrast.

    Raises
    ------
    InputError
        The arrays are not (z, y, x) of one shape, or slices are smaller than the window.
    """
    x, t = _pair(images, truth)
    if min(t.shape[1:]) < WINDOW:
        raise InputError(f"SSIM needs slices of {WINDOW} x {WINDOW} pixels or more; got {tuple(t.shape)}")
    contrast = t.amax((1, 2)) - t.amin((1, 2))
    span = contrast[:, None, None]
    c1, c2 = (0.01 * span).square(), (0.03 * span).square()
    mean_x, mean_t = _local_mean(x), _local_mean(t)
    variance_x = _local_mean(x * x) - mean_x.square()
    variance_t = _local_mean(t * t) - mean_t.square()
    covariance = _local_mean(x * t) - mean_x * mean_t
    likeness = (2 * mean_x * mean_t + c1) * (2 * covariance + c2)
    size = (mean_x.square() + mean_t.square() + c1) * (variance_x + variance_t + c2)
    return torch.where(contrast > 0, (likeness / size).mean((1, 2)), torch.nan)


def _pair(images: Images, truth: Images) -> tuple[Tensor, Tensor]:
    x, t = torch.as_tensor(images), torch.as_tensor(truth)
    if x.ndim != 3 or x.shape != t.shape:
        raise InputError(f"images and truth must be (z, y, x) of one shape; got {tuple(x.shape)} and {tuple(t.shape)}")
    return x.double(), t.double()


def _regions(values: Tensor, region: Region) -> Tensor:
    """(slices, pixels), or (1, voxels)."""
    return values.flatten(1) if region == "slice" else values.reshape(1, -1)


def _local_mean(images: Tensor) -> Tensor:
    """Under the Gaussian window: (z, y, x) -> (z, y - 10, x - 10)."""
    offset = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - WINDOW // 2
    window = torch.exp(-0.5 * (offset / _SIGMA).square())
    window = window / window.sum()
    along_x = functional.conv2d(images[:, None], window.view(1, 1, 1, -1))
    return functional.conv2d(along_x, window.view(1, 1, -1, 1))[:, 0]

"""How near a reconstruction comes to the truth, slice by slice: PSNR and SSIM.

    PSNR = 10 log10( max(t)^2 / mean (x - t)^2 )                                            t: truth, x: reconstruction
    SSIM = mean of (2 mx mt + C1)(2 sxt + C2) / ((mx^2 + mt^2 + C1)(sx^2 + st^2 + C2))      C = (0.01 L)^2, (0.03 L)^2

SSIM as Wang et al. 2004: means, variances and covariance under a Gaussian window of 11 x 11 pixels, sigma 1.5, where
the window lies wholly inside the slice; L is the range of the truth. Attenuation cannot be negative, so negative
values are taken as 0 in both. A slice without contrast has neither figure: NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pfitre_service.errors import InputError

WINDOW = 11
_SIGMA = 1.5


def psnr(pictures: Tensor, truth: Tensor) -> Tensor:
    """Decibels: (slices, y, x) twice -> (slices,) float64."""
    x, t = _pair(pictures, truth)
    error = (x - t).square().mean((1, 2))
    decibels = 10 * torch.log10(t.amax((1, 2)).square() / error)
    return torch.where(_contrast(t) > 0, decibels, torch.nan)


def ssim(pictures: Tensor, truth: Tensor) -> Tensor:
    """Between -1 and 1, 1 for the same picture: (slices, y, x) twice -> (slices,) float64."""
    x, t = _pair(pictures, truth)
    if min(t.shape[1:]) < WINDOW:
        raise InputError(f"SSIM needs slices of {WINDOW} x {WINDOW} pixels or more; got {tuple(t.shape)}")
    span = _contrast(t)[:, None, None]
    c1, c2 = (0.01 * span).square(), (0.03 * span).square()
    mean_x, mean_t = _local_mean(x), _local_mean(t)
    variance_x = _local_mean(x * x) - mean_x.square()
    variance_t = _local_mean(t * t) - mean_t.square()
    covariance = _local_mean(x * t) - mean_x * mean_t
    likeness = (2 * mean_x * mean_t + c1) * (2 * covariance + c2)
    size = (mean_x.square() + mean_t.square() + c1) * (variance_x + variance_t + c2)
    return torch.where(_contrast(t) > 0, (likeness / size).mean((1, 2)), torch.nan)


def _pair(pictures: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    if pictures.ndim != 3 or pictures.shape != truth.shape:
        raise InputError(
            f"pictures and truth must be (slices, y, x) of one shape; got {tuple(pictures.shape)} "
            f"and {tuple(truth.shape)}"
        )
    return pictures.double().clamp_min(0), truth.double()


def _contrast(truth: Tensor) -> Tensor:
    return truth.amax((1, 2)) - truth.amin((1, 2))


def _local_mean(pictures: Tensor) -> Tensor:
    """Under the Gaussian window: (slices, y, x) -> (slices, y - 10, x - 10)."""
    offset = torch.arange(WINDOW, dtype=pictures.dtype, device=pictures.device) - WINDOW // 2
    window = torch.exp(-0.5 * (offset / _SIGMA).square())
    window = window / window.sum()
    along_x = functional.conv2d(pictures[:, None], window.view(1, 1, 1, -1))
    return functional.conv2d(along_x, window.view(1, 1, -1, 1))[:, 0]

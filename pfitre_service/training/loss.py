"""What the network is asked to make small.

    loss = mean over slices of   rmse(e) + l1(e) / 2 + 2 rmse((1 - M) e)         e = network - truth, over the scale
    M    = C / (C + w)           C: circulant next to K, w: the summed weights of the angles

The root of each slice's squared error counts a dB alike for easy slices and hard ones; L1 keeps edges. The third term
is the error that a data step leaves: what was measured is the data's matter, and the network's is the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.solvers.conjugate_gradient import circulant_spectrum


def unmeasured_share(data: NormalEquations) -> Tensor:
    """1 - M on the slice's own grid.

    Parameters
    ----------
    data
        Accumulators with the angles in question.

    Returns
    -------
    Tensor
        (size, size // 2 + 1) float32, 0 to 1.
    """
    weight = max(data.weight, 1e-6)
    return (weight / (circulant_spectrum(data) + weight)).to(torch.float32)


def loss(picture: Tensor, truth: Tensor, unmeasured: Tensor) -> Tensor:
    """What the network is asked to make small, as above.

    Parameters
    ----------
    picture
        (slices, size, size) float32, the network's answer.
    truth
        (slices, size, size) float32.
    unmeasured
        (size, size // 2 + 1) float32, as `unmeasured_share` gives it.

    Returns
    -------
    Tensor
        Scalar.
    """
    error = picture - truth
    inferred = torch.fft.irfft2(torch.fft.rfft2(error) * unmeasured, s=error.shape[-2:])
    return (_rms(error) + 0.5 * error.abs().mean((1, 2)) + 2.0 * _rms(inferred)).mean()


def _rms(error: Tensor) -> Tensor:
    # The small addend keeps the root's slope finite where there is no error.
    return (error.square().mean((1, 2)) + 1e-8).sqrt()

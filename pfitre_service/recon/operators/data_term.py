"""What the solver needs to know of the measurement, however that is computed."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class DataTerm(Protocol):
    """The data term 1/2 ||A x - y||^2_W of one slab, as additive normal equations (docs/design.md)."""

    @property
    def b(self) -> Tensor:
        """A^T W y: (slices, size, size) float32."""

    @property
    def energy(self) -> Tensor:
        """||y||^2_W: (slices,) float64."""

    @property
    def weight(self) -> float:
        """Sum of the angles' weights: the scale of the normal operator."""

    def normal(self, x: Tensor) -> Tensor:
        """A^T W A x.

        Parameters
        ----------
        x
            (slices, size, size) float32.

        Returns
        -------
        Tensor
            (slices, size, size) float32.
        """


def inner(first: Tensor, second: Tensor) -> Tensor:
    """Inner product of each slice.

    Parameters
    ----------
    first, second
        (slices, size, size).

    Returns
    -------
    Tensor
        (slices,) float64.
    """
    return torch.linalg.vecdot(first.flatten(1), second.flatten(1)).double()


def squared_residual(data: DataTerm, x: Tensor) -> Tensor:
    """||A x - y||^2_W of each slice as <x, K x> - 2 <x, b> + c, no projection needed.

    Parameters
    ----------
    data
        The measured rays.
    x
        (slices, size, size) float32.

    Returns
    -------
    Tensor
        (slices,) float64, not negative.
    """
    return (inner(x, data.normal(x) - 2 * data.b) + data.energy).clamp_min(0.0)


def relative_residual(data: DataTerm, x: Tensor) -> float:
    """||A x - y||_W / ||y||_W over the whole slab.

    Parameters
    ----------
    data
        The measured rays.
    x
        (slices, size, size) float32.

    Returns
    -------
    float
        NaN when nothing was measured.
    """
    energy = float(data.energy.sum())
    if energy <= 0.0:
        return float("nan")
    return float((squared_residual(data, x).sum() / energy).sqrt())

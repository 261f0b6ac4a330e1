"""What the solver needs to know of the measurement, however that is computed."""

from __future__ import annotations

from typing import Protocol, Self

import torch
from torch import Tensor

from pfitre_service.model import ScanGeometry


class DataTerm(Protocol):
    """The data term 1/2 ||A x - y||^2_W of one slab, as additive normal equations (docs/design.md)."""

    geometry: ScanGeometry
    """Detector, rotation axis and width of the slices."""
    device: torch.device
    """Where it is kept and computed."""
    slices: int
    """How many detector rows the slab holds."""
    b: Tensor
    """A^T W y: (slices, size, size) float32."""
    energy: Tensor
    """||y||^2_W: (slices,) float64."""
    angles: int
    """How many projections are in."""
    weight: float
    """Sum of the angles' weights: the scale of the normal operator."""

    @property
    def psf(self) -> Tensor:
        """Point-spread function of the convolution nearest to A^T W A, from which the preconditioner is made:
        (2 size - 1, 2 size - 1) float64, zero displacement in the middle, axes (y, x)."""

    @property
    def spectrum(self) -> Tensor:
        """Real spectrum of `psf` on a padded grid, (n, n // 2 + 1) float64, by which measured directions are known."""

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

    def of_slices(self, chosen: Tensor) -> Self:
        """The same angles for some of the slices alone, in accumulators of their own.

        Parameters
        ----------
        chosen
            (slices,) int64 indices.

        Returns
        -------
        Self
            As many slices as were chosen.
        """

    def empty(self) -> Self:
        """Accumulators of the same slices, with nothing measured."""

    def merge(self, other: Self) -> None:
        """Adds all measurements of other accumulators.

        Parameters
        ----------
        other
            Of the same geometry and as many slices.
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

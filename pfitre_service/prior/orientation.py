"""Turning every tomogram so that its missing wedge lies in the same eighth.

Mirroring a slice, or exchanging its axes, is exact: no pixel is interpolated. Four such views bring any wedge's
orientation between 0 and 45 degrees, so the network has a quarter of the orientations to learn, and answers alike for
a scan that was mounted upside down or sideways.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class View:
    """How a slice is looked at: mirrored along x first, then with its axes exchanged."""

    mirrored: bool = False
    """Along x, first."""
    exchanged: bool = False
    """The axes x and y, after that."""

    def of(self, pictures: Tensor) -> Tensor:
        """Pictures as seen in this view.

        Parameters
        ----------
        pictures
            (..., y, x).

        Returns
        -------
        Tensor
            (..., y, x), or (..., x, y) where the axes are exchanged.
        """
        turned = pictures.flip(-1) if self.mirrored else pictures
        return turned.transpose(-1, -2) if self.exchanged else turned

    def back(self, pictures: Tensor) -> Tensor:
        """Undoes `of`.

        Parameters
        ----------
        pictures
            As `of` gives them.

        Returns
        -------
        Tensor
            (..., y, x).
        """
        turned = pictures.transpose(-1, -2) if self.exchanged else pictures
        return turned.flip(-1) if self.mirrored else turned

    def of_coverage(self, coverage: Tensor) -> Tensor:
        """The same measurement as seen in this view.

        Parameters
        ----------
        coverage
            (directions,) densities over [0, 180) degrees.

        Returns
        -------
        Tensor
            (directions,) densities.
        """
        half = coverage.shape[-1] // 2
        turned = coverage.flip(-1) if self.mirrored else coverage
        return turned.flip(-1).roll(half, -1) if self.exchanged else turned


def folding_view(coverage: Tensor) -> View:
    """The view in which the middle of what is missing lies between 0 and 45 degrees. The middle is that of a
    direction's double angle, weighed by how much of its sampling is missing.

    Parameters
    ----------
    coverage
        (directions,) densities over [0, 180) degrees.

    Returns
    -------
    View
        One of four.
    """
    missing = (1 - (coverage / coverage.max().clamp_min(1e-6)).clamp(max=1.0)).tolist()
    step = math.pi / len(missing)
    moment = sum(share * cmath.exp(2j * (index + 0.5) * step) for index, share in enumerate(missing))
    middle = math.degrees(cmath.phase(moment)) / 2 % 180
    mirrored = middle > 90
    folded = 180 - middle if mirrored else middle
    return View(mirrored=mirrored, exchanged=folded > 45)


def describe(coverage: Tensor) -> tuple[View, Tensor]:
    """The folding view and the coverage as it is in that view.

    Parameters
    ----------
    coverage
        (directions,) densities over [0, 180) degrees.

    Returns
    -------
    tuple[View, Tensor]
        The view, and (directions,) densities.
    """
    view = folding_view(coverage)
    return view, view.of_coverage(coverage)


def neighbours(volume: Tensor) -> Tensor:
    """Each slice between the one below and the one above, the ends repeated.

    Parameters
    ----------
    volume
        (slices, y, x).

    Returns
    -------
    Tensor
        (slices, 3, y, x).
    """
    padded = torch.cat((volume[:1], volume, volume[-1:]))
    return torch.stack((padded[:-2], padded[1:-1], padded[2:]), dim=1)

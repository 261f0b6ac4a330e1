"""The data term by explicit projection: slower, and right where rays are not all worth the same.

    normal(x) = sum_t A_t^T W_t A_t x          one projection and one back-projection per angle

It keeps the angles that it was given, so its cost grows with them; where all rays of a projection weigh alike,
`NormalEquations` gives the same numbers from one convolution. What breaks the convolution otherwise (laminography, cone
beam) will come in by this door.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from pfitre_service.errors import InputError
from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.operators.projector import Projector, angle_rows, check_measurement

_LEAST_PATH = 1.0
"""Pixels that SIRT takes a ray to cross at least."""
_LEAST_SEEN = 0.25
"""Share of the angles that it takes to see a pixel at least. The footprint's side lobes make these sums small, or
negative, where rays graze the slice's corners; divided by those, its iterations would grow without end."""


@dataclass(frozen=True, eq=False)
class _View:
    """One projection that is in."""

    angle: float
    """Radians."""
    shift: float
    weight: float
    rays: Tensor | None
    """(slices, columns) float32: what each ray counts besides; None where all count one."""

    def is_same(self, other: _View) -> bool:
        if (self.angle, self.shift, self.weight) != (other.angle, other.shift, other.weight):
            return False
        if self.rays is None or other.rays is None:
            return self.rays is other.rays
        return torch.equal(self.rays, other.rays)

    def weigh(self, rows: Tensor) -> Tensor:
        """W_t times rows (slices, length), whose first columns are the data's. The detector is longer than the data:
        beyond it a measured projection is zero, and counts as the whole projection does."""
        weighed = self.weight * rows
        if self.rays is not None:
            weighed[:, : self.rays.shape[1]] *= self.rays
        return weighed


class ExplicitProjections(NormalEquations):
    """A `DataTerm` whose rays have weights of their own.

    Its `psf` and `spectrum`, for the preconditioner and the measured directions, take the rays of a projection to be
    worth their mean.

    Parameters
    ----------
    geometry
        Detector, rotation axis and width of the slices.
    slices
        How many detector rows the slab holds; None for all of the geometry.
    device
        Where it computes.
    """

    def __init__(
        self, geometry: ScanGeometry, *, slices: int | None = None, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(geometry, slices=slices, device=device)
        self._views: list[_View] = []

    def add(
        self,
        projections: Tensor,
        angles: Tensor,
        *,
        weights: Tensor | None = None,
        shifts: Tensor | None = None,
        ray_weights: Tensor | None = None,
    ) -> None:
        """Adds measured angles.

        Parameters
        ----------
        projections
            (angle, slices, columns) float32 line integrals.
        angles
            (angle,) degrees.
        weights
            (angle,), not negative; None for one.
        shifts
            (angle,) columns by which a projection lies right of where the geometry expects it; None for zero.
        ray_weights
            (angle, slices, columns), zero or positive, what each ray counts besides its projection's weight; None for
            one.

        Raises
        ------
        InputError
            Shapes do not fit, or values are not finite.
        """
        for view, rows in self._weighted(projections, angles, weights, shifts, ray_weights):
            self._views.append(view)
            self._sum_up(view, rows, 1)

    def remove(
        self,
        projections: Tensor,
        angles: Tensor,
        *,
        weights: Tensor | None = None,
        shifts: Tensor | None = None,
        ray_weights: Tensor | None = None,
    ) -> None:
        """Takes out what `add` put in.

        Parameters
        ----------
        projections, angles, weights, shifts, ray_weights
            The same as were added.

        Raises
        ------
        InputError
            They were not put in.
        """
        for view, rows in self._weighted(projections, angles, weights, shifts, ray_weights):
            place = next((place for place, other in enumerate(self._views) if view.is_same(other)), None)
            if place is None:
                raise InputError(f"no projection at {math.degrees(view.angle):g} degrees with these weights was added")
            del self._views[place]
            self._sum_up(view, rows, -1)

    def merge(self, other: Self) -> None:
        """Adds all measurements of other accumulators.

        Parameters
        ----------
        other
            Of the same geometry and as many slices.

        Raises
        ------
        InputError
            The geometries or the slices differ.
        """
        super().merge(other)
        self._views += other._views

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
        part = super().of_slices(chosen)
        part._views = [
            view if view.rays is None else replace(view, rays=view.rays[chosen.to(view.rays.device)])
            for view in self._views
        ]
        return part

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
        result = torch.zeros_like(x)
        for view in self._views:
            rows = self._projector.project(x, view.angle, view.shift)
            result += self._projector.backproject(view.weigh(rows), view.angle, view.shift)
        return result

    def project(self, x: Tensor) -> Tensor:
        """A x on the data's own columns.

        Parameters
        ----------
        x
            (slices, size, size) float32.

        Returns
        -------
        Tensor
            (angle, slices, columns) float32, in the order of `add`.
        """
        columns = self.geometry.columns
        return torch.stack([self._projector.project(x, view.angle, view.shift)[:, :columns] for view in self._views])

    def _sum_up(self, view: _View, rows: Tensor, sign: int) -> None:
        weighed = view.weigh(rows)
        self.b.add_(self._projector.backproject(weighed, view.angle, view.shift), alpha=sign)
        self.energy.add_((weighed.double() * rows).sum(dim=1), alpha=sign)
        mean = 1.0 if view.rays is None else float(view.rays.mean())
        self._count(view.angle, sign * view.weight * mean, sign)

    def _weighted(
        self,
        projections: Tensor,
        angles: Tensor,
        weights: Tensor | None,
        shifts: Tensor | None,
        ray_weights: Tensor | None,
    ) -> list[tuple[_View, Tensor]]:
        """Each projection with its rows (slices, columns)."""
        values = projections.to(self.device, torch.float32)
        check_measurement((self.slices, self.geometry.columns), values, angles, weights, shifts)
        rays = None if ray_weights is None else ray_weights.to(self.device, torch.float32)
        if rays is not None and (rays.shape != values.shape or not bool(((rays >= 0) & rays.isfinite()).all())):
            raise InputError(
                f"ray weights must be finite, zero or positive, one a ray, {tuple(values.shape)}; "
                f"got {tuple(rays.shape)} from {float(rays.min()):g} to {float(rays.max()):g}"
            )
        factors = [1.0] * len(angles) if weights is None else weights.tolist()
        return [
            (_View(angle, shift, weight, None if rays is None else rays[index]), rows)
            for index, ((rows, angle, shift), weight) in enumerate(
                zip(angle_rows(values, angles, shifts), factors, strict=True)
            )
        ]


def sirt(
    projections: Tensor, angles: Tensor, geometry: ScanGeometry, *, iterations: int, nonnegative: bool = True
) -> Tensor:
    """SIRT, x <- x + C A^T R (y - A x) with R, C the inverse row and column sums (Gregor & Benson 2008, eq. 4).

    Parameters
    ----------
    projections
        (angle, slices, columns) float32 line integrals.
    angles
        (angle,) degrees.
    geometry
        Detector, rotation axis and width of the slices.
    iterations
        How many.
    nonnegative
        Whether negative values are set to zero in each of them.

    Returns
    -------
    Tensor
        (slices, size, size) float32.

    Raises
    ------
    InputError
        Shapes do not fit, or values are not finite.
    """
    slices = projections.shape[1] if projections.ndim == 3 else geometry.rows
    check_measurement((slices, geometry.columns), projections, angles)
    projector = Projector(geometry, projections.device)
    radians = [math.radians(angle) for angle in angles.tolist()]
    ones = torch.ones(1, geometry.size, geometry.size, device=projections.device)
    lit = torch.ones(1, geometry.columns, device=projections.device)
    row_sums = [projector.project(ones, angle)[:, : geometry.columns].clamp_min(_LEAST_PATH) for angle in radians]
    column_sums = torch.stack([projector.backproject(lit, angle) for angle in radians]).sum(0)
    column_sums.clamp_min_(_LEAST_SEEN * len(radians))
    x = torch.zeros(slices, geometry.size, geometry.size, device=projections.device)
    for _ in range(iterations):
        update = torch.zeros_like(x)
        for rows, angle, sums in zip(projections, radians, row_sums, strict=True):
            misfit = (rows - projector.project(x, angle)[:, : geometry.columns]) / sums
            update += projector.backproject(misfit, angle)
        x = x + update / column_sums
        if nonnegative:
            x.clamp_min_(0.0)
    return x

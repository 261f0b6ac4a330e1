"""The data term by explicit projection: slower, and right where rays are not all worth the same.

    normal(x) = sum_t w_t A_t^T A_t x          one projection and one back-projection per angle

It keeps the angles that it was given, so its cost grows with them; `NormalEquations` gives the same numbers from one
convolution. What breaks the convolution (laminography, cone beam) will come in by this door.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.projector import Projector, angle_rows, check_measurement

_LEAST_PATH = 1.0
"""Pixels that SIRT takes a ray to cross at least."""
_LEAST_SEEN = 0.25
"""Share of the angles that it takes to see a pixel at least. The footprint's side lobes make these sums small, or
negative, where rays graze the slice's corners; divided by those, its iterations would grow without end."""


class ExplicitProjections:
    """A `DataTerm` that projects: same accumulators b and energy, normal operator angle by angle.

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
        self.geometry = geometry
        self.device = torch.device(device)
        slices = geometry.rows if slices is None else slices
        self.b = torch.zeros(slices, geometry.size, geometry.size, device=self.device)
        self.energy = torch.zeros(slices, dtype=torch.float64, device=self.device)
        self.projector = Projector(geometry, self.device)
        self._views: list[tuple[float, float, float]] = []

    @property
    def weight(self) -> float:
        """Sum of the angles' weights."""
        return sum(weight for _, _, weight in self._views)

    def add(
        self,
        projections: Tensor,
        angles: Tensor,
        *,
        weights: Tensor | None = None,
        shifts: Tensor | None = None,
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

        Raises
        ------
        InputError
            Shapes do not fit, or values are not finite.
        """
        values = projections.to(self.device, torch.float32)
        check_measurement((self.b.shape[0], self.geometry.columns), values, angles, weights, shifts)
        factors = [1.0] * len(angles) if weights is None else weights.tolist()
        for (rows, angle, shift), weight in zip(angle_rows(values, angles, shifts), factors, strict=True):
            self.b.add_(self.projector.backproject(rows, angle, shift), alpha=weight)
            self.energy.add_(rows.double().square().sum(dim=1), alpha=weight)
            self._views.append((angle, shift, weight))

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
        for angle, shift, weight in self._views:
            rows = self.projector.project(x, angle, shift)
            result.add_(self.projector.backproject(rows, angle, shift), alpha=weight)
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
        return torch.stack([self.projector.project(x, a, s)[:, :columns] for a, s, _ in self._views])


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

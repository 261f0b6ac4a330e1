"""The data step as this package does it, behind the same few methods as `AstraSystem`."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.solvers.conjugate_gradient import circulant_preconditioner, conjugate_gradient

MAX_ITERATIONS = 1000


class ConvolutionSystem:
    """(K + rho) x = b: `slices` slices of `size`, as many columns, `degrees` (angle,)."""

    def __init__(self, size: int, degrees: NDArray[np.float64], rho: float, slices: int = 1) -> None:
        self._data = NormalEquations(ScanGeometry.from_detector(rows=slices, columns=size))
        self._degrees, self._rho, self._slices = degrees, rho, slices
        self.applications = 0
        """Of the operator, in the last `solve`."""

    def set_up(self, sinogram: NDArray[np.float32]) -> None:
        """Takes y (angle, column), for every slice the same, into b and K."""
        projections = torch.from_numpy(np.repeat(sinogram[:, None], self._slices, axis=1))
        self._data.add(projections, torch.from_numpy(self._degrees))

    def solve(self, tolerance: float = 0.0, iterations: int = MAX_ITERATIONS) -> NDArray[np.float32]:
        """Preconditioned conjugate gradient from zero: (slices, size, size) float32."""
        self.applications = 0
        solution = conjugate_gradient(
            self._apply,
            self._data.b,
            torch.zeros_like(self._data.b),
            iterations=iterations,
            tolerance=tolerance,
            preconditioner=circulant_preconditioner(self._data, self._rho),
        )
        return solution.numpy()

    def normal(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """K x, (slices, size, size) float32."""
        return self._data.normal(torch.from_numpy(x)).numpy()

    def relative_residual(self, x: NDArray[np.float32]) -> float:
        """||b - (K + rho) x|| / ||b||."""
        b = self._data.b.double().numpy()
        return float(np.linalg.norm(b - self.normal(x) - self._rho * x) / np.linalg.norm(b))

    def _apply(self, x: Tensor) -> Tensor:
        self.applications += 1
        return self._data.normal(x) + self._rho * x

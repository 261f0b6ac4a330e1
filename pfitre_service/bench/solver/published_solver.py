"""The data step as it was published: SciPy's GMRES on ASTRA's projector, one slice at a time.

    (A^T A + rho) x = A^T y      tolerance 1e-5, at most 15 restarts

The published code runs ASTRA on a GPU; here it is ASTRA's projector for CPUs, which uses one core.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, gmres

from pfitre_service.errors import InputError

TOLERANCE = 1e-5
RESTARTS = 15

Array = NDArray[np.float32]


class AstraSystem:
    """(A^T A + rho) x = A^T y with ASTRA's A: slices of `size`, as many columns, `degrees` (angle,) in our sign.

    kernel: "strip" (areas of pixels under a column, as here), "linear" or "line". Raises InputError without ASTRA.
    """

    def __init__(self, size: int, degrees: NDArray[np.float64], rho: float, kernel: str) -> None:
        astra = _astra()
        detector = astra.create_proj_geom("parallel", 1.0, size, -np.deg2rad(degrees))  # ASTRA's y axis points up
        volume = astra.create_vol_geom(size, size)
        self._projector = astra.OpTomo(astra.create_projector(kernel, detector, volume))
        self._size, self._angles, self._rho = size, len(degrees), rho
        self._right_side: Array = np.zeros((size, size), np.float32)
        self.applications = 0
        """Of the operator, in the last `solve`."""

    def project(self, x: Array) -> Array:
        """(size, size) -> (angle, column)."""
        sinogram: Array = (self._projector @ x.ravel()).reshape(self._angles, self._size)
        return sinogram

    def set_up(self, sinogram: Array) -> None:
        """Takes y (angle, column), and back-projects it."""
        self._right_side = self._backproject(sinogram)

    def normal(self, x: Array) -> Array:
        """A^T A x, (size, size) float32."""
        return self._backproject(self.project(x))

    def solve(self) -> Array:
        """GMRES from zero, to `TOLERANCE`: (size, size) float32."""
        self.applications = 0
        pixels = self._size**2
        operator = LinearOperator((pixels, pixels), matvec=self._apply, dtype=np.float32)
        solution, _ = gmres(operator, self._right_side.ravel(), rtol=TOLERANCE, maxiter=RESTARTS)
        return np.asarray(solution, np.float32).reshape(self._size, self._size)

    def relative_residual(self, x: Array) -> float:
        """||A^T y - (A^T A + rho) x|| / ||A^T y||."""
        difference = self._right_side.astype(np.float64) - self.normal(x) - self._rho * x
        return float(np.linalg.norm(difference) / np.linalg.norm(self._right_side.astype(np.float64)))

    def _apply(self, x: NDArray[Any]) -> Array:
        self.applications += 1
        picture = np.asarray(x, np.float32).reshape(self._size, self._size)
        return (self.normal(picture) + np.float32(self._rho) * picture).ravel()

    def _backproject(self, y: Array) -> Array:
        picture: Array = (self._projector.T @ y.ravel()).reshape(self._size, self._size)
        return picture


def _astra() -> Any:
    try:
        import astra
    except ImportError as error:
        raise InputError(
            "the solver benchmark compares with the ASTRA toolbox, which is not installed: "
            "pip install pfitre-service[bench]"
        ) from error
    return astra

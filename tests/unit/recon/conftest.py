"""Slices, scans and ASTRA as the outside reference, for the tests of the solver.

ASTRA's y axis points up and ours down, so its angle is the negative of ours. `parallel_vec` says where each
detector stands, which is how a shifted axis and a detector wider than the data are described to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import astra
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.explicit import ExplicitProjections
from pfitre_service.recon.operators.normal_equations import NormalEquations

Array = NDArray[np.float32]

DATA_TERMS = [NormalEquations, ExplicitProjections]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small transforms gain nothing from threads, and lose much on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(params=DATA_TERMS, ids=lambda term: term.__name__)
def data_term(request: pytest.FixtureRequest) -> type[NormalEquations] | type[ExplicitProjections]:
    return request.param


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


class AstraReference:
    """ASTRA's projector on the detector of `geometry`, `margin` columns wider on both sides."""

    def __init__(self, geometry: ScanGeometry, angles: NDArray[np.float64], kernel: str, margin: int) -> None:
        self.size, self.margin, self.columns = geometry.size, margin, geometry.columns
        wide = geometry.columns + 2 * margin
        from_axis = (geometry.columns - 1) / 2 - geometry.axis
        views = []
        for angle in np.deg2rad(angles):
            along = np.array([math.cos(angle), -math.sin(angle)])
            views.append([along[1], -along[0], *(from_axis * along), *along])
        self.shape = (len(angles), wide)
        detector = astra.create_proj_geom("parallel_vec", wide, np.array(views))
        volume = astra.create_vol_geom(geometry.size, geometry.size)
        self._operator = astra.OpTomo(astra.create_projector(kernel, detector, volume))

    def project(self, x: Array) -> Array:
        """(size, size) -> (angle, columns + 2 margin)."""
        return (self._operator @ x.astype(np.float32).ravel()).reshape(self.shape)

    def backproject(self, y: Array) -> Array:
        """(angle, columns) or (angle, columns + 2 margin) -> (size, size)."""
        if y.shape != self.shape:
            y = np.pad(y, ((0, 0), (self.margin, self.margin)))
        return (self._operator.T @ y.astype(np.float32).ravel()).reshape(self.size, self.size)

    def normal(self, x: Array) -> Array:
        """A^T A x."""
        return self.backproject(self.project(x))


@pytest.fixture
def astra_reference() -> Callable[..., AstraReference]:
    def build(geometry: ScanGeometry, angles: object, kernel: str = "strip", margin: int | None = None):
        margin = geometry.size // 2 + 4 if margin is None else margin
        return AstraReference(geometry, np.asarray(angles, dtype=float), kernel, margin)

    return build


@pytest.fixture
def relative_error() -> Callable[..., float]:
    def error(got: object, expected: object) -> float:
        a, b = np.asarray(got, dtype=float), np.asarray(expected, dtype=float)
        return float(np.linalg.norm(a - b) / np.linalg.norm(b))

    return error


@pytest.fixture
def disc() -> Callable[..., torch.Tensor]:
    """Builds a slab whose slices are discs of value 1 with a darker off-centre hole, (slices, size, size)."""

    def build(size: int, slices: int = 1) -> torch.Tensor:
        centred = torch.arange(size) - (size - 1) / 2
        y, x = centred[:, None], centred[None, :]
        slab = []
        for index in range(slices):
            hole = (x - 0.12 * size) ** 2 + (y + 0.05 * size * (1 + index)) ** 2 < (0.1 * size) ** 2
            slab.append((x**2 + y**2 < (0.38 * size) ** 2).float() - 0.6 * hole.float())
        return torch.stack(slab)

    return build


@pytest.fixture
def measure() -> Callable[..., torch.Tensor]:
    """Builds projections (angle, slices, columns) of a slab by the explicit projector."""

    def build(geometry: ScanGeometry, slab: torch.Tensor, angles: torch.Tensor, noise: float = 0.0) -> torch.Tensor:
        projector = ExplicitProjections(geometry, slices=slab.shape[0])
        projector.add(torch.zeros(len(angles), slab.shape[0], geometry.columns), angles)
        clean = projector.project(slab)
        generator = torch.Generator().manual_seed(3)
        return clean + noise * clean.abs().max() * torch.randn(clean.shape, generator=generator)

    return build


@pytest.fixture
def dense_matrix() -> Callable[..., NDArray[np.float64]]:
    """Writes a linear map on slices of `size` out as a matrix, (size^2, size^2)."""

    def build(operator: Callable[[torch.Tensor], torch.Tensor], size: int, device: str = "cpu") -> NDArray[np.float64]:
        unit = torch.eye(size * size, device=device).reshape(-1, size, size)
        return operator(unit).reshape(size * size, -1).T.double().cpu().numpy()

    return build


@pytest.fixture
def split() -> Callable[..., tuple[NormalEquations, NormalEquations]]:
    """Builds accumulators of projections (angle, row, column): those that are solved for, and those of the `held`."""

    def build(geometry: ScanGeometry, rows: torch.Tensor, angles: torch.Tensor, held: torch.Tensor):
        solved, heldout = NormalEquations(geometry), NormalEquations(geometry)
        solved.add(rows[~held], angles[~held])
        heldout.add(rows[held], angles[held])
        return solved, heldout

    return build

"""Slices and scans for the tests of the solver."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.explicit import ExplicitProjections
from pfitre_service.recon.operators.normal_equations import NormalEquations


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small transforms gain nothing from threads, and lose much on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


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

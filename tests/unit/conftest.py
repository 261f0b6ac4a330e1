"""A small scan as the engine takes it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pfitre_service.model import FrameBatch, ScanGeometry
from pfitre_service.twin.particle import battery_particle
from pfitre_service.twin.project import bin_volume, project

ROWS, SIZE = 8, 32


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def particle() -> np.ndarray:
    """(z, y, x) on voxels twice as fine as the detector's pixels."""
    return battery_particle((2 * ROWS, 2 * SIZE, 2 * SIZE)) * np.float32(0.05)


@pytest.fixture(scope="session")
def truth(particle: np.ndarray) -> np.ndarray:
    return bin_volume(particle, 2)


@pytest.fixture(scope="session")
def angles() -> np.ndarray:
    return np.arange(-50.0, 51.0, 4.0)


@pytest.fixture(scope="session")
def integrals(particle: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """(angle, row, column) line integrals with a little noise."""
    clean = project(particle, angles, oversampling=2)
    noise = np.random.default_rng(1).normal(scale=0.005, size=clean.shape)
    return (clean + noise).astype(np.float32)


@pytest.fixture(scope="session")
def geometry() -> ScanGeometry:
    return ScanGeometry.from_detector(rows=ROWS, columns=SIZE)


@pytest.fixture
def batch(integrals: np.ndarray, angles: np.ndarray) -> Callable[..., FrameBatch]:
    """Projections `first` to `stop` as they lie in the store."""

    def of(first: int = 0, stop: int | None = None, images: np.ndarray | None = None) -> FrameBatch:
        source = integrals if images is None else images
        return FrameBatch("projection", first, source[first:stop], angles[first:stop])

    return of

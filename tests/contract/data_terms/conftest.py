"""Every data term, and what it is held against: ASTRA, and the definition itself."""

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

DATA_TERMS = [NormalEquations, ExplicitProjections]
"""A new data term has a line here; it is made as `term(geometry, slices=..., device=...)` and filled by `add`."""

Array = NDArray[np.float32]


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
    """ASTRA's projector on the detector of `geometry`, `margin` columns wider on both sides.

    ASTRA's y axis points up and ours down, so its angle is the negative of ours. `parallel_vec` says where each
    detector stands, which is how a shifted axis and a detector wider than the data are described to it.
    """

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


class Definition:
    """b, K and c written out from the definition, in float64 (docs/design.md, docs/decisions/0001).

    A pixel's shadow is that of a unit square on columns of width one, cut at the detector's Nyquist frequency, on a
    detector without end, of which `geometry.columns` were measured. It is a sum of waves, whose integral over the
    frequency is a Gauss-Legendre sum.
    """

    def __init__(self, geometry: ScanGeometry, angles: object, weights: object = None, shifts: object = None) -> None:
        self.geometry = geometry
        self.angles = np.deg2rad(np.asarray(angles, dtype=float))
        self.weights = np.ones(len(self.angles)) if weights is None else np.asarray(weights, dtype=float)
        self.shifts = np.zeros(len(self.angles)) if shifts is None else np.asarray(shifts, dtype=float)
        centred = np.arange(geometry.size) - (geometry.size - 1) / 2
        self.x, self.y = np.tile(centred, geometry.size), np.repeat(centred, geometry.size)
        nodes, self.widths = np.polynomial.legendre.leggauss(200)
        self.frequencies = 0.25 * (nodes + 1)
        self.widths = 0.5 * self.widths  # both signs of the frequency

    def b(self, projections: object) -> NDArray[np.float64]:
        """A^T W y of (angle, slices, columns): (slices, size, size)."""
        rows = np.asarray(projections, dtype=float)
        total = np.zeros((rows.shape[1], self.geometry.size**2))
        for row, angle, weight, shift in zip(rows, self.angles, self.weights, self.shifts, strict=True):
            columns = np.arange(self.geometry.columns) - self.geometry.axis - shift
            total += weight * (row @ self._waves(columns) * self._shadow(angle)) @ self._pixels(angle).T
        return total.reshape(-1, self.geometry.size, self.geometry.size)

    def normal(self, x: object) -> NDArray[np.float64]:
        """A^T W A x: (slices, size, size) in and out."""
        slices = np.asarray(x, dtype=float).reshape(-1, self.geometry.size**2)
        total = np.zeros_like(slices)
        for angle, weight in zip(self.angles, self.weights, strict=True):
            pixels, power = self._pixels(angle), self._shadow(angle) ** 2 / np.tile(self.widths, 2)
            total += weight * (slices @ pixels * power) @ pixels.T
        return total.reshape(-1, self.geometry.size, self.geometry.size)

    def energy(self, projections: object) -> NDArray[np.float64]:
        """||y||^2_W: (slices,)."""
        return np.einsum("a,asc->s", self.weights, np.asarray(projections, dtype=float) ** 2)

    def _waves(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cosines and sines of each frequency at `places`: (place, 2 frequencies)."""
        phases = 2 * np.pi * places[:, np.newaxis] * self.frequencies
        return np.concatenate((np.cos(phases), np.sin(phases)), axis=1)

    def _pixels(self, angle: float) -> NDArray[np.float64]:
        """The waves where each pixel falls on the detector."""
        return self._waves(self.x * math.cos(angle) + self.y * math.sin(angle))

    def _shadow(self, angle: float) -> NDArray[np.float64]:
        """How much of each wave a pixel's shadow holds, times the width of its place in the sum."""
        f = self.frequencies
        return np.tile(self.widths * np.sinc(f) * np.sinc(f * math.cos(angle)) * np.sinc(f * math.sin(angle)), 2)


@pytest.fixture
def definition() -> type[Definition]:
    return Definition

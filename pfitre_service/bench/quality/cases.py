"""The cases of the quality benchmark: objects of kinds that training never saw, measured as a live scan would be.

An object is drawn twice as fine as the detector's pixels and projected exactly (`twin.project`), so that nothing is
reconstructed on the grid that it was simulated on. The same objects stand in every scan. Half of them have the gap of
the wedge at 90 degrees, as in a tilt series, the other half at an angle of their own. Angles: one for each degree of
the measured range at 128 pixels, in proportion at other sizes. Noise: Poisson, nothing else.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfitre_service.bench.quality.parameters import STACK, QualityParameters
from pfitre_service.errors import InputError
from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.twin.imperfections import Imperfections, measure
from pfitre_service.twin.project import bin_volume, project
from pfitre_service.twin.trajectories import wedge

Family = Callable[[tuple[int, int, int], np.random.Generator], NDArray[np.float32]]
"""family((z, y, x), rng) -> (z, y, x) float32 attenuations, not negative."""

_OVERSAMPLING = 2
_REFERENCE_SIZE = 128
_FEWEST = 9
"""Angles of any case at least: one of eight is held out."""


@dataclass(frozen=True)
class Scan:
    """One line of the table."""

    missing: float
    """Degrees missing of the whole scan."""
    part: float = 1.0
    """Share of it that is measured so far."""

    def __str__(self) -> str:
        words = f"{self.missing:g} degrees missing"
        return words if self.part == 1 else f"{words}, {self.part:.0%} of the scan"


@dataclass(frozen=True)
class Case:
    """One object in one scan."""

    scan: Scan
    family: str
    number: int
    """Of the object within its family."""
    orientation: float
    """Degrees: the middle of the gap."""

    def __str__(self) -> str:
        return f"{self.scan}: {self.family} {self.number + 1}"


@dataclass(frozen=True, eq=False)
class Measurement:
    """What a method gets."""

    geometry: ScanGeometry
    projections: Tensor
    """(angle, row, column) float32 line integrals."""
    angles: Tensor
    """(angle,) float64 degrees."""

    @property
    def views(self) -> tuple[Tensor, Tensor]:
        """Projections and angles."""
        return self.projections, self.angles

    def only(self, chosen: Tensor) -> Measurement:
        """The measurement at the `chosen` (angle,) bool alone."""
        return Measurement(self.geometry, self.projections[chosen], self.angles[chosen])

    def accumulated(self) -> NormalEquations:
        """All angles, in accumulators."""
        data = NormalEquations(self.geometry)
        data.add(*self.views)
        return data


def scans(parameters: QualityParameters) -> tuple[Scan, ...]:
    """Wedges first, then the parts of a scan."""
    whole = tuple(Scan(missing) for missing in parameters.wedges)
    return (*whole, *(Scan(parameters.part_missing, part) for part in parameters.parts))


def cases(parameters: QualityParameters, families: tuple[str, ...]) -> tuple[Case, ...]:
    """All of them, in the order of the table."""
    return tuple(
        Case(scan, family, number, _orientation(parameters.seed, family, number, index + number))
        for scan in scans(parameters)
        for index, family in enumerate(families)
        for number in range(parameters.objects)
    )


def choose_families(named: tuple[str, ...], known: Mapping[str, Family]) -> dict[str, Family]:
    """The families of those names, all if there are none. Raises InputError for an unknown name."""
    unknown = [name for name in named if name not in known]
    if unknown:
        raise InputError(f"there is no held-back family {', '.join(unknown)}; choose from {', '.join(known)}")
    return {name: known[name] for name in named or known}


def simulate(case: Case, family: Family, parameters: QualityParameters) -> tuple[Measurement, Tensor]:
    """The measurement, and the truth (slices, size, size) float32."""
    fine = draw_object(case, family, parameters)
    angles = case_angles(case, parameters.size)
    perfect = project(fine, angles, oversampling=_OVERSAMPLING)
    seed = (parameters.seed, _number(case.family), case.number, round(10 * case.scan.missing), len(angles))
    noisy = measure(perfect, Imperfections(dose=parameters.counts), np.random.default_rng(seed))
    geometry = ScanGeometry.from_detector(rows=STACK, columns=parameters.size)
    measurement = Measurement(geometry, torch.from_numpy(noisy), torch.from_numpy(angles))
    return measurement, torch.from_numpy(bin_volume(fine, _OVERSAMPLING))


def draw_object(case: Case, family: Family, parameters: QualityParameters) -> NDArray[np.float32]:
    """(z, y, x) float32 on the fine grid; the same for every scan."""
    rng = np.random.default_rng((parameters.seed, _number(case.family), case.number))
    shape = (_OVERSAMPLING * STACK, _OVERSAMPLING * parameters.size, _OVERSAMPLING * parameters.size)
    return np.ascontiguousarray(family(shape, rng), np.float32)


def case_angles(case: Case, size: int) -> NDArray[np.float64]:
    """(angle,) degrees, rising: those that have been measured."""
    scan = case.scan
    whole = max(_FEWEST, round((180 - scan.missing) * size / _REFERENCE_SIZE))
    return wedge(scan.missing, case.orientation, whole)[: max(_FEWEST, round(scan.part * whole))]


def _orientation(seed: int, family: str, number: int, turn: int) -> float:
    if turn % 2 == 0:
        return 90.0
    return float(np.random.default_rng((seed, _number(family), number, 1)).uniform(0, 180))


def _number(name: str) -> int:
    """Of a name, the same on every machine."""
    return zlib.crc32(name.encode())

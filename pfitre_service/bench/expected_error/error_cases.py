"""Tomograms of the digital twin with their truth: what the error model is fitted on, and what it is judged by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pfitre_service.bench.quality.cases import Case, Family, Measurement, Scan, draw_object, simulate
from pfitre_service.bench.quality.parameters import STACK, QualityParameters
from pfitre_service.engine.reconstruct import Reconstruction
from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.quality.evidence import Evidence, inferred_part, missing_share, unmeasured
from pfitre_service.twin.families import HELD_BACK_FAMILIES, TRAINING_FAMILIES
from pfitre_service.twin.imperfections import Imperfections, measure
from pfitre_service.twin.project import bin_volume, project
from pfitre_service.twin.trajectories import wedge

WEDGES = (40.0, 60.0, 80.0, 100.0, 120.0)
"""Degrees missing of the scans that the model is held to account on."""
_FEWEST = 9


@dataclass(frozen=True, eq=False)
class ErrorCase:
    """A simulated tomogram."""

    name: str
    family: str
    measurement: Measurement
    truth: Tensor
    """(slices, size, size) float32."""

    @property
    def accumulated(self) -> NormalEquations:
        """All its angles."""
        return self.measurement.accumulated()

    def evidence(self, result: Reconstruction) -> tuple[Evidence, float]:
        """What the model reads of `result`, and the share of frequencies that is missing."""
        transfer, x = unmeasured(self.accumulated), torch.from_numpy(result.volume)
        gap, physics = torch.from_numpy(result.prior_gap), torch.from_numpy(result.physics)
        return Evidence(x, physics, gap, inferred_part(transfer, x)), missing_share(transfer)


def heldback_cases(size: int) -> Iterator[ErrorCase]:
    """Each held-back family in each of `WEDGES`, a gap at 90 degrees and elsewhere in turn."""
    parameters = QualityParameters(size=size)
    for missing in WEDGES:
        for number, (name, family) in enumerate(HELD_BACK_FAMILIES.items()):
            case = Case(Scan(missing), name, number % 2, 90.0 if number % 2 == 0 else 33.0 * number)
            measurement, truth = simulate(case, family, parameters)
            yield ErrorCase(str(case), name, measurement, truth)


def training_cases(rounds: int, size: int, seed: int) -> Iterator[ErrorCase]:
    """Each training family in `rounds` scans drawn at random: 0 to 130 degrees missing anywhere, between a third and
    one and a half of the usual number of angles, 300 to 10,000 photons."""
    rng = np.random.default_rng(seed)
    families: Mapping[str, Family] = TRAINING_FAMILIES
    for number in range(rounds):
        for name, family in families.items():
            missing, middle = float(rng.uniform(0, 130)), float(rng.uniform(0, 180))
            counts = float(np.exp(rng.uniform(np.log(300), np.log(10_000))))
            parameters = replace(QualityParameters(size=size, seed=seed), counts=counts)
            fine = draw_object(Case(Scan(missing), name, number, middle), family, parameters)
            whole = max(_FEWEST, round((180 - missing) * size / 128 * rng.uniform(0.33, 1.5)))
            angles = wedge(missing, middle, whole)
            if rng.random() < 0.25:  # in mid-scan
                angles = angles[: max(_FEWEST, int(whole * rng.uniform(0.3, 0.9)))]
            noisy = measure(project(fine, angles, oversampling=2), Imperfections(dose=counts), rng)
            geometry = ScanGeometry.from_detector(rows=STACK, columns=size)
            yield ErrorCase(
                f"{name} {number + 1}, {missing:.0f} degrees missing",
                name,
                Measurement(geometry, torch.from_numpy(noisy), torch.from_numpy(angles)),
                torch.from_numpy(bin_volume(fine, 2)),
            )

"""What a network in training is worth: fixed tomograms of families that it never learns from.

Each object is measured as a tilt series at every wedge, with a little noise, and reconstructed as in service: by the
data alone, by one pass of the network, and by the solver with the network as its prior, total variation beside it, and
every eighth angle held out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pfitre_service.prior.network import DIRECTIONS
from pfitre_service.prior.network_prior import NetworkPrior
from pfitre_service.prior.total_variation import TotalVariation
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.quality.coverage import directional_coverage
from pfitre_service.recon.quality.similarity import psnr
from pfitre_service.recon.robust_scale import robust_scale
from pfitre_service.recon.solvers.pfitre import PfitreSolver
from pfitre_service.training.loop import on_device
from pfitre_service.training.samples import DEPTH, OVERSAMPLING, accumulate, project_fine
from pfitre_service.twin.families import draw
from pfitre_service.twin.imperfections import Imperfections, measure
from pfitre_service.twin.project import bin_volume
from pfitre_service.twin.trajectories import wedge

WEDGES = (60.0, 80.0, 100.0, 120.0)
"""Degrees missing."""
ANGLE_STEP = 2.0
"""Degrees between angles."""
COUNTS = 3000.0
"""Photons at the brightest pixel of an emission scan."""
_CLASSICAL_STEPS = 10
_HELDOUT_EVERY = 8
_SEED = 20_250


@dataclass(frozen=True, eq=False)
class Case:
    """One measured object, DEPTH slices of it."""

    missing: float
    """Degrees."""
    data: NormalEquations
    """Accumulators of the angles that the solver sees."""
    heldout: NormalEquations
    """Accumulators of the others."""
    truth: Tensor
    """(slices, size, size) float32."""


@dataclass(frozen=True)
class Validation:
    """Mean PSNR in dB at each of WEDGES; the peak is the largest value of the object."""

    updates: int
    """After which it was made."""
    physics: tuple[float, ...]
    """Of the data alone."""
    one_pass: tuple[float, ...]
    """Of one pass of the network."""
    rounds: tuple[float, ...]
    """Of the solver."""
    seconds: float
    """That the validation took."""

    @property
    def score(self) -> float:
        """Mean over the wedges of what the solver reaches: the figure that tells a better network."""
        return float(np.mean(self.rounds))

    def as_json(self) -> dict[str, Any]:
        """As `validation.jsonl` holds it; `from_json` takes it back."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {**plain, "wedges": list(WEDGES), "score": self.score}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Validation:
        """Reads what `as_json` has written.

        Parameters
        ----------
        document
            One line of `validation.jsonl`.

        Returns
        -------
        Validation
            The validation.

        Raises
        ------
        KeyError
            A field is absent.
        TypeError
            A field is of another type.
        ValueError
            A field is no number.
        """
        psnr = {name: tuple(float(value) for value in document[name]) for name in ("physics", "one_pass", "rounds")}
        return cls(updates=int(document["updates"]), seconds=float(document["seconds"]), **psnr)


def make_cases(families: tuple[str, ...], *, size: int, objects: int, device: torch.device) -> tuple[Case, ...]:
    """Objects of the families in turn, at each wedge; always the same for the same arguments.

    Parameters
    ----------
    families
        Names of those that are held back.
    size
        Width of a slice in pixels.
    objects
        How many.
    device
        Where they shall lie.

    Returns
    -------
    tuple[Case, ...]
        One for each object and wedge.
    """
    return tuple(
        _case(families[number % len(families)], number, missing, size, device)
        for number in range(objects)
        for missing in WEDGES
    )


def validate(network: nn.Module, cases: Iterable[Case], updates: int) -> Validation:
    """Figures of a network.

    Parameters
    ----------
    network
        Answers in float32, and is left in evaluation mode.
    cases
        As `make_cases` gives them.
    updates
        After which it is made.

    Returns
    -------
    Validation
        Means over the objects.
    """
    begin = time.perf_counter()
    found: dict[float, list[tuple[float, float, float]]] = {missing: [] for missing in WEDGES}
    for case in cases:
        found[case.missing].append(_figures(network, case))
    table = np.array([np.mean(figures, axis=0) for figures in found.values()])
    physics, one_pass, rounds = (tuple(column.tolist()) for column in table.T)
    return Validation(updates, physics, one_pass, rounds, time.perf_counter() - begin)


def _case(family: str, number: int, missing: float, size: int, device: torch.device) -> Case:
    fine_shape = (DEPTH * OVERSAMPLING, size * OVERSAMPLING, size * OVERSAMPLING)
    fine = draw(family, fine_shape, np.random.default_rng((_SEED, number)))
    angles = wedge(missing, count=round((180 - missing) / ANGLE_STEP) + 1)
    noise = np.random.default_rng((_SEED, number, int(missing)))
    measured = measure(project_fine(fine, angles), Imperfections(signal="emission", dose=COUNTS), noise)
    held = np.arange(len(angles)) % _HELDOUT_EVERY == _HELDOUT_EVERY // 2
    data, heldout = (on_device(accumulate(measured[part], angles[part]), device) for part in (~held, held))
    return Case(missing, data, heldout, torch.from_numpy(bin_volume(fine, OVERSAMPLING)).to(device))


def _figures(network: nn.Module, case: Case) -> tuple[float, float, float]:
    prior = NetworkPrior(network, "in training")
    solver = PfitreSolver(case.data, case.heldout, classical=TotalVariation())
    for _ in range(_CLASSICAL_STEPS):
        solver.step()
    physics = solver.physics.x
    prior.observe(physics, solver.z, directional_coverage(case.data, DIRECTIONS))
    one_pass = prior(physics, robust_scale(physics))
    solver = PfitreSolver(case.data, case.heldout, classical=TotalVariation(), learned=prior)
    while not solver.at_rest:
        solver.step()
    return _decibels(physics, case), _decibels(one_pass, case), _decibels(solver.x, case)


def _decibels(volume: Tensor, case: Case) -> float:
    """Mean over slices, of which some may be nearly empty: the peak is that of all."""
    return float(psnr(volume, case.truth, peak="volume").mean())

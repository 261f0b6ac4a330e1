"""What one training step learns from: a few small tomograms of one scan geometry, from the digital twin to the solver.

The network is shown what it will be shown in service: the solver's own accumulators from noisy projections of an object
on a finer grid, and the pictures that its conjugate gradients make of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfitre_service.model import ScanGeometry
from pfitre_service.prior.network import DIRECTIONS
from pfitre_service.prior.parameters import TvParameters
from pfitre_service.prior.total_variation import TotalVariation
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.parameters import AdmmParameters
from pfitre_service.recon.quality.coverage import directional_coverage
from pfitre_service.recon.robust_scale import robust_scale
from pfitre_service.recon.solvers.admm import IncrementalAdmm, TikhonovSolver
from pfitre_service.training.recipe import Recipe
from pfitre_service.twin.families import draw
from pfitre_service.twin.imperfections import ImperfectionParameters, Imperfections, draw_imperfections, measure
from pfitre_service.twin.project import FineVolume, bin_volume
from pfitre_service.twin.trajectories import TrajectoryParameters, draw_angles

DEPTH = 4
"""Slices of one object: enough for neighbours on both sides."""
OVERSAMPLING = 2
IMPERFECTIONS = ImperfectionParameters(
    noiseless_chance=0.35,
    transmission_photons=(1e3, 1e6),
    emission_counts=(30.0, 1e4),
    axis_chance=0.15,
    axis_sigma=0.4,
    axis_most=1.0,
    jitter_chance=0.2,
    lost_chance=0.05,
    stripe_chance=0.1,
)
"""Milder than the twin's worst: what no network could mend teaches it to blur."""
TV_WEIGHTS = (0.04, 0.15, 0.5)
"""Weights of total variation that are tried for each object."""
TRAJECTORIES = TrajectoryParameters(density=(0.3, 1.6), usual_chance=0.4, partial_chance=0.25)
"""Up to as many angles as a slice's pixels ask for, and often the wedges of limited-angle scans."""
_SEEDS = 1_000_000_007
"""Samples of one recipe's seed never meet those of another's."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Objects of one geometry, DEPTH slices each, one after the other along the first axis."""

    data: NormalEquations
    """Accumulators of the measured projections."""
    truth: Tensor
    """(slices, size, size) float32, over the object's scale."""
    physics: Tensor
    """(slices, size, size) float32, over the object's scale: the data alone."""
    smooth: Tensor
    """(slices, size, size) float32, over the object's scale: total variation's answer."""
    coverage: Tensor
    """(DIRECTIONS,) float32 densities of the measured angles."""


def make_sample(number: int, recipe: Recipe, families: tuple[str, ...]) -> Sample:
    """A sample of a training: always the same for the same arguments, with one thread.

    Parameters
    ----------
    number
        Of the sample, from 0.
    recipe
        Of the training.
    families
        Names of those that objects are drawn from.

    Returns
    -------
    Sample
        Objects of one geometry.
    """
    rng = np.random.default_rng(recipe.seed * _SEEDS + number)
    often = np.array([often for _, often in recipe.sizes])
    size = int(rng.choice([size for size, _ in recipe.sizes], p=often / often.sum()))
    objects = max(1, round(recipe.pixels / size**2 / DEPTH))
    angles = draw_angles(rng, size, TRAJECTORIES)
    truths, projections = [], []
    for _ in range(objects):
        family = families[rng.integers(len(families))]
        fine = draw(family, (DEPTH * OVERSAMPLING, size * OVERSAMPLING, size * OVERSAMPLING), rng)
        perfect = project_fine(fine, angles)
        truths.append(bin_volume(fine, OVERSAMPLING))
        projections.append(measure(perfect, _imperfections(rng), rng))
    return solve_sample(np.concatenate(projections, axis=1), angles, np.concatenate(truths), rng)


def project_fine(fine: NDArray[np.float32], angles: NDArray[np.float64]) -> NDArray[np.float32]:
    """Perfect projections of an object that is drawn OVERSAMPLING times finer than they are.

    Parameters
    ----------
    fine
        (z, y, x) float32, attenuations per detector pixel.
    angles
        (angle,) degrees.

    Returns
    -------
    NDArray[np.float32]
        (angle, row, column).
    """
    volume = FineVolume.from_volume(fine, oversampling=OVERSAMPLING)
    return np.stack([volume.project(float(angle)) for angle in angles])


def solve_sample(
    projections: NDArray[np.float32], angles: NDArray[np.float64], truth: NDArray[np.float32], rng: np.random.Generator
) -> Sample:
    """Accumulators and pictures of measured projections, each object brought to a scale of about one.

    Parameters
    ----------
    projections
        (angle, slices, columns) float32 line integrals.
    angles
        (angle,) degrees.
    truth
        (slices, columns, columns) float32.
    rng
        Of what the solver is stopped at.

    Returns
    -------
    Sample
        Of these objects.
    """
    data = accumulate(projections, angles)
    solver = TikhonovSolver(data, AdmmParameters(cg_iterations=int(rng.integers(4, 13))))
    solver.step()
    inverse = (1 / _scales(solver.x, rng))[:, None, None]
    data.b.mul_(inverse)
    physics, scaled_truth = solver.x * inverse, torch.from_numpy(truth) * inverse
    return Sample(
        data=data,
        truth=scaled_truth,
        physics=physics,
        smooth=_total_variation(data, scaled_truth, rng),
        coverage=directional_coverage(data, DIRECTIONS),
    )


def accumulate(projections: NDArray[np.float32], angles: NDArray[np.float64]) -> NormalEquations:
    """The solver's accumulators; slices as wide as the detector.

    Parameters
    ----------
    projections
        (angle, slices, columns) line integrals.
    angles
        (angle,) degrees.

    Returns
    -------
    NormalEquations
        Of these projections.
    """
    _, rows, columns = projections.shape
    data = NormalEquations(ScanGeometry.from_detector(rows=rows, columns=columns))
    data.add(torch.from_numpy(np.ascontiguousarray(projections, np.float32)), torch.from_numpy(angles))
    return data


class _Stacked:
    """Total variation within each object's own slices, of a weight of its own; all objects are of scale one."""

    def __init__(self, weights: Sequence[float]) -> None:
        self._priors = [TotalVariation(TvParameters(weight=weight)) for weight in weights]

    def __call__(self, v: Tensor, scale: float) -> Tensor:
        """(slices, size, size) float32 in and out. `scale` is that of all objects together, and not used."""
        parts = torch.split(v, len(v) // len(self._priors))
        return torch.cat([prior(part, 1.0) for prior, part in zip(self._priors, parts, strict=True)])


def _total_variation(data: NormalEquations, truth: Tensor, rng: np.random.Generator) -> Tensor:
    """As service has it when the network is first asked: of nearly the weight that fits each object best, after a few
    steps from zero."""
    objects = len(truth) // DEPTH
    middle = torch.arange(objects) * DEPTH + DEPTH // 2  # one slice tells, and the trials are most of a sample's cost
    few = data.of_slices(middle)
    errors = torch.stack(
        [(_iterated(few, [weight] * objects, 8) - truth[middle]).square().sum((1, 2)) for weight in TV_WEIGHTS]
    )
    weights = [TV_WEIGHTS[best] * float(np.exp(rng.normal(0, 0.4))) for best in errors.argmin(0).tolist()]
    return _iterated(data, weights, int(rng.integers(5, 11)))


def _iterated(data: NormalEquations, weights: Sequence[float], steps: int) -> Tensor:
    admm = IncrementalAdmm(data, _Stacked(weights), AdmmParameters())
    for _ in range(steps):
        admm.step()
    return admm.state.z


def _imperfections(rng: np.random.Generator) -> Imperfections:
    return draw_imperfections(rng, IMPERFECTIONS)


def _scales(physics: Tensor, rng: np.random.Generator) -> Tensor:
    """(slices,) the scale of each slice's object, as service would find it."""
    scales = torch.ones(len(physics))
    for first in range(0, len(physics), DEPTH):
        # The scale in service follows a picture that changes: the network must not depend on its last digit.
        jitter = float(np.exp(rng.normal(0, 0.1)))
        scales[first : first + DEPTH] = max(robust_scale(physics[first : first + DEPTH]) * jitter, 1e-6)
    return scales

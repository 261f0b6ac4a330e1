"""Fits the error model (`recon/quality/error_model.py`) on the digital twin, where the truth is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pfitre_service.bench.expected_error.error_cases import training_cases
from pfitre_service.engine.reconstruct import reconstruct
from pfitre_service.recon.quality.error_model import ErrorModel
from pfitre_service.recon.quality.evidence import FEATURES
from pfitre_service.twin.families import TRAINING_FAMILIES

_UNITS = 16
_VOXELS = 12_000
"""Drawn from each tomogram."""
_BATCH = 8192
_MARGIN = 0.1
_SMALLEST_ERROR = 1e-3
"""Of the scale: expected errors are told apart no further."""


@dataclass(frozen=True, kw_only=True)
class FitParameters:
    """How many tomograms, how large, and how long."""

    rounds: int = 4
    """Tomograms of each training family."""
    size: int = 96
    steps: int = 1500
    seed: int = 7
    priors: tuple[str, ...] = ("tv", "auto")
    """In turn."""


def fit(parameters: FitParameters, on_case: Callable[[str], None] = lambda name: None) -> ErrorModel:
    """Minutes on two cores: a reconstruction of every tomogram takes nearly all of it."""
    generator = torch.Generator().manual_seed(parameters.seed)
    features, errors, means = [], [], []
    for number, case in enumerate(training_cases(parameters.rounds, parameters.size, parameters.seed)):
        on_case(case.name)
        result = reconstruct(
            case.measurement.projections.numpy(),
            case.measurement.angles.numpy(),
            axis=case.measurement.geometry.axis,
            prior=parameters.priors[number % len(parameters.priors)],
        )
        evidence, missing = case.evidence(result)
        error = (evidence.x - case.truth).abs().flatten() / evidence.scale
        drawn = torch.randperm(len(error), generator=generator)[:_VOXELS]
        seen = evidence.features(missing).flatten(1)
        means.append(seen.mean(1))
        features.append(seen.T[drawn])
        errors.append(error[drawn])
    about = {
        "families": sorted(TRAINING_FAMILIES),
        "tomograms": len(errors),
        "size": parameters.size,
        "seed": parameters.seed,
        "priors": list(parameters.priors),
    }
    start = ErrorModel(
        *_normalisation(torch.cat(features)), *_first_units(generator), ranges=_ranges(torch.stack(means)), about=about
    )
    return _fitted(start, torch.cat(features), torch.cat(errors), parameters.steps, generator)


def _normalisation(features: Tensor) -> tuple[Tensor, Tensor]:
    return features.mean(0), features.std(0) + 1e-3


def _first_units(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    inputs = len(FEATURES)
    hidden = torch.randn(_UNITS, inputs + 1, generator=generator).mul_(inputs**-0.5)
    return hidden, torch.randn(_UNITS + 1, generator=generator).mul_(_UNITS**-0.5)


def _ranges(means: Tensor) -> dict[str, tuple[float, float]]:
    low, high = means.min(0).values, means.max(0).values
    margin = _MARGIN * (high - low)
    return dict(zip(FEATURES, zip((low - margin).tolist(), (high + margin).tolist(), strict=True), strict=True))


def _fitted(start: ErrorModel, features: Tensor, errors: Tensor, steps: int, generator: torch.Generator) -> ErrorModel:
    model = replace(start, hidden=start.hidden.requires_grad_(), output=start.output.requires_grad_())
    optimizer = torch.optim.Adam([model.hidden, model.output], lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        drawn = torch.randint(0, len(errors), (_BATCH,), generator=generator)
        logarithm = model.logarithm(features[drawn].T)
        loss = (logarithm + (errors[drawn] + _SMALLEST_ERROR) * torch.exp(-logarithm)).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return replace(model, hidden=model.hidden.detach(), output=model.output.detach())

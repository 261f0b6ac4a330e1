"""Going on where a worker before this one stopped."""

from __future__ import annotations

import math
from dataclasses import replace

from pfitre_service.engine.detector_columns import of_solver
from pfitre_service.model import Progress
from pfitre_service.preprocess import PreprocessParameters
from pfitre_service.recon.calibration.calibration import Calibration
from pfitre_service.store.catalog import TomogramSummary


def resumed_calibration(
    summary: TomogramSummary, first: Calibration, preprocess: PreprocessParameters
) -> Calibration | None:
    """What a worker before this one had come to, where that began alike."""
    before = Calibration.of_document(summary.metadata.get("calibration") or {})
    if before is None or (before.axis_origin == "given") != (first.axis_origin == "given"):
        return None
    before = of_solver(before, preprocess)
    return None if first.axis_origin == "given" and not math.isclose(before.axis, first.axis) else before


def continued(step: Progress, before: Progress | None) -> Progress:
    """A step of this engine, counted on from where a worker before this one stopped."""
    if before is None:
        return step
    return replace(
        step,
        revision=step.revision + before.revision,
        iterations=step.iterations + before.iterations,
        seconds=step.seconds + before.seconds,
    )

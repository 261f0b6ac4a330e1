"""What the metadata of a tomogram say of how it came about."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from pfitre_service.config import Settings
from pfitre_service.engine.calibration_search import of_detector, of_solver
from pfitre_service.engine.engine import Engine
from pfitre_service.json_values import plain
from pfitre_service.model import HeldOut, Progress
from pfitre_service.preprocess import PreprocessParameters
from pfitre_service.recon.calibration.calibration import Calibration
from pfitre_service.store.catalog import TomogramSummary


def status_fields(
    engine: Engine | None, progress: Progress | None, revision: int, settings: Settings, notes: Sequence[str] = ()
) -> dict[str, Any]:
    """JSON values by name; progress: the last step, revision: of the volume that is shown, notes: what a person should
    know besides the engine's warnings."""
    if engine is None:
        return {"frames_used": 0}
    frames = engine.projections.active
    row = {} if progress is None else asdict(progress)
    return {
        "frames_used": frames.used,
        "frames_unusable": frames.unusable,
        "frames_damaged": len(frames.damaged),
        "revision": revision,
        "prior": engine.in_view.prior_name,
        "weights_sha256": engine.in_view.weights_sha256,
        "device": str(engine.device),
        "calibration": of_detector(frames.calibration, settings.preprocess).document(),
        "warnings": [*notes, *engine.warnings][:50],
        "measurement": engine.parameters.measurement,
        "measurement_from": engine.measurement_from,
        "findings": [asdict(finding) for finding in engine.findings],
        "progress": plain(row, "progress"),
        "heldout": HeldOut(settings.worker.heldout_every).document(),
        "parameters": {
            "calibration": asdict(settings.calibration),
            "recon": asdict(settings.recon),
            "prior": settings.prior.model_dump(mode="json"),
            "preprocess": asdict(settings.preprocess),
            "heldout_every": settings.worker.heldout_every,
        },
    }


def final_reason(engine: Engine, how: str) -> str:
    """How many projections were used, and `how` the scan ended."""
    frames, withdrawn = engine.projections.active, engine.projections.withdrawn
    damaged = len(frames.damaged)
    left_out = f", {damaged} damaged in the store and left out ({_named(frames.damaged)})" if damaged else ""
    left_out += f", {frames.unusable - damaged} left out as unusable" if frames.unusable > damaged else ""
    left_out += f", {len(withdrawn)} withdrawn" if withdrawn else ""
    return f"{frames.used} of {frames.stored} projections used{left_out}; {how}"


def _named(damaged: Mapping[int, str]) -> str:
    """The first of them; the warnings have more."""
    row, reason = next(iter(damaged.items()))
    return f"projection {row}, {reason}" + (" and others" if len(damaged) > 1 else "")


def how_it_ended(summary: TomogramSummary) -> str:
    """The scan, in a few words."""
    reason = f" ({summary.reason})" if summary.reason else ""
    expected = summary.expected_frames
    of_expected = f" of {expected} announced" if expected is not None else ""
    return f"scan {summary.acquisition}{reason} with {summary.frames['projection']}{of_expected} projections"


def resumed_calibration(
    summary: TomogramSummary, first: Calibration, preprocess: PreprocessParameters
) -> Calibration | None:
    """What a worker before this one had come to, where that began alike."""
    before = Calibration.from_document(summary.metadata.get("calibration") or {})
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

"""What the metadata of a tomogram say of how it came about."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from pfitre_service.engine.calibration_search import of_solver
from pfitre_service.engine.engine import Engine
from pfitre_service.engine.metadata import engine_metadata
from pfitre_service.json_values import plain
from pfitre_service.model import Progress
from pfitre_service.preprocess import PreprocessParameters
from pfitre_service.recon.calibration.calibration import Calibration
from pfitre_service.store.catalog import TomogramSummary

_MOST_WARNINGS = 50


def status_fields(
    engine: Engine | None, progress: Progress | None, revision: int, notes: Sequence[str] = ()
) -> dict[str, Any]:
    """JSON values by name; progress: the last step, revision: of the volume that is shown, notes: what a person should
    know besides the engine's warnings."""
    if engine is None:
        return {"frames_used": 0}
    row = {} if progress is None else asdict(progress)
    return engine_metadata(engine) | {
        "revision": revision,
        "warnings": [*notes, *engine.warnings][:_MOST_WARNINGS],
        "progress": plain(row, "progress"),
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

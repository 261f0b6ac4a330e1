"""What the numbers mean, in the sentences that the page says too (viewer/page/words.js)."""

from __future__ import annotations

from collections.abc import Sequence

from pfitre_service.export.tomogram import Tomogram
from pfitre_service.model import Progress

_MISSING_DEGREES = 5.0
"""Narrower gaps than this in all are no missing wedge."""


def gaps(angles: Sequence[float]) -> list[tuple[float, float]]:
    """Ranges (from, to) in degrees, of the 180 there are, in which no angle lies: wider than 2.5 usual steps."""
    folded = sorted({round(angle % 180, 3) for angle in angles})
    if len(folded) < 2:
        return [(angle, angle + 180) for angle in folded]
    steps = [after - before for before, after in zip(folded, [*folded[1:], folded[0] + 180], strict=True)]
    usual = sorted(steps)[len(steps) // 2]
    pairs = zip(folded, steps, strict=True)
    return [(angle, angle + step) for angle, step in pairs if step > 2.5 * usual + 0.5]


def missing_degrees(angles: Sequence[float]) -> float:
    """How much of the 180 degrees no projection saw."""
    return sum(end - start for start, end in gaps(angles))


def measured_ranges(angles: Sequence[float]) -> list[tuple[float, float]]:
    """Ranges (from, to) of -90 to 90 degrees and beyond that were seen; empty where there is no gap."""
    wide = gaps(angles)
    ends = [start for start, _ in [*wide[1:], *wide[:1]]]
    return [(_folded(end), _folded(end) + (start - end) % 180) for (_, end), start in zip(wide, ends, strict=True)]


def coverage(angles: Sequence[float]) -> str:
    """One sentence on the directions that were measured."""
    count = len(angles)
    missing = missing_degrees(angles)
    if not count:
        return "No projection yet."
    if missing <= _MISSING_DEGREES:
        return f"{count} angles cover all directions."
    wide = " and ".join(f"{start:.0f} to {end:.0f}" for start, end in measured_ranges(angles))
    inferred = f"edges along the missing {missing:.0f} degrees are inferred, not measured"
    return f"{count} angles cover {wide} degrees: {inferred}."


def belief(tomogram: Tomogram) -> str:
    """One or two sentences on how far the tomogram may be believed."""
    seen = coverage([angle for angle, _ in tomogram.counting_angles])
    held = last_measured(tomogram.progress, "heldout_error")
    physics = last_measured(tomogram.progress, "heldout_error_physics")
    if held is None:
        return f"{seen} Nothing is held out, so the error is not measured."
    better = ""
    if physics is not None:
        better = f" ({'' if held < physics else 'not '}better than physics alone, {percent(physics)})"
    return f"{seen} It predicts projections that it has not seen to {percent(held)}{better}."


def last_measured(rows: Sequence[Progress], name: str) -> float | None:
    """The newest value of a column of `progress` that is a measurement."""
    return next((float(value) for row in reversed(rows) if (value := getattr(row, name)) > 0), None)


def percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _folded(angle: float) -> float:
    return (angle + 90) % 180 - 90

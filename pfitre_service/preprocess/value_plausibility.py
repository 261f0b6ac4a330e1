"""Doubts about the values of a scan: what each frame and the references say by themselves, judged together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfitre_service.model import Finding, Measurement
from pfitre_service.preprocess.measurement import Levels, told_by
from pfitre_service.preprocess.references import References

CONTRADICTED = "measurement-contradicted"
UNKNOWN = "measurement-unknown"
_ABOVE_ONE = 1.25
"""Transmission of the brightest columns: more is no noise, and no beam that has grown a little."""
_FAR_ABOVE_ONE = 5.0
"""Flats without beam make transmissions of tens and hundreds."""
_SATURATED = 0.02
"""Of a frame's pixels at full scale."""
_BLOCKED = 0.3
"""Of a frame's pixels without any light, more than in the typical frame of the scan."""
_NOT_ABOVE = 0.25
"""Of the pixels may have a flat field that is not above the dark field: outside the beam, or dead."""
_DIFFER = 1.25
"""Largest mean of a flat field over the smallest."""
_FEWEST = 4
"""Frames before which nothing is said of all."""
_KINDS: Mapping[Measurement, str] = {"transmission": "counts", "line_integral": "line integrals"}
_HOLDS_SAMPLE = 0.1
"""Of the brightest column, on average over the scan."""
_MOST_DEAD = 0.1
"""Of the columns; more that never change are a scan without noise."""
_UNLIKE = 0.5
"""Of what the columns beside it hold: a column that never changes and is as unlike them measures nothing."""
_MANY = 0.25
"""Of the frames left out: a scan to look at."""


@dataclass(frozen=True, slots=True)
class FrameValues:
    """What one projection says by itself."""

    levels: Levels
    """Of the transmission where there are flats, else of the values as they came."""
    saturated: float
    """Share of the pixels at full scale that the references do not know for dead."""
    blocked: float
    """Share of the pixels at the floor of the transmission."""
    left_out: str
    """Why the frame is unusable; empty for a usable one."""


def other_than(measurement: Measurement) -> Measurement:
    """The other thing that images may hold.

    Parameters
    ----------
    measurement
        One of the two.

    Returns
    -------
    Measurement
        The other one.
    """
    return "line_integral" if measurement == "transmission" else "transmission"


def dead_columns(rows: NDArray[np.float32]) -> Iterator[Finding]:
    """Columns that never change, between columns that hold sample. A gap in the sample does not stay at one column
    while it turns.

    Parameters
    ----------
    rows
        (angle, slices, columns) float32 line integrals, a few slices of every projection.

    Yields
    ------
    Finding
        At most one, that names the columns.
    """
    if len(rows) < _FEWEST:
        return
    still = np.ptp(rows, axis=(0, 1)) == 0
    means = rows.mean((0, 1), dtype=np.float64)
    alive = np.flatnonzero(~still)
    if not still.any() or not len(alive):
        return
    before = np.searchsorted(alive, np.arange(len(still)), side="left") - 1
    after = np.searchsorted(alive, np.arange(len(still)), side="right")
    inside = still & (before >= 0) & (after < len(alive))
    least = _HOLDS_SAMPLE * means.max()
    held = np.minimum(means[alive[np.maximum(before, 0)]], means[alive[np.minimum(after, len(alive) - 1)]])
    dead = np.flatnonzero(inside & (held > least) & (np.abs(means - held) > _UNLIKE * held))
    if 0 < len(dead) <= _MOST_DEAD * len(still):
        named = ", ".join(map(str, dead[:10])) + (", ..." if len(dead) > 10 else "")
        yield Finding(
            "dead-columns",
            f"the columns {named} hold one value in all projections, {means[dead[0]]:g} in line integrals, between "
            "columns that hold sample: they are used as they are; store pixels that do not measure as NaN or as the "
            "largest value of their type",
        )


def value_findings(
    frames: Mapping[int, FrameValues], references: References | None, measurement: Measurement, *, said: bool
) -> Iterator[Finding]:
    """Doubts about the values of frames and references.

    Parameters
    ----------
    frames
        What each projection says by itself, by its row in the store.
    references
        Flats and darks; None for none.
    measurement
        What the frames are taken to hold.
    said
        Whether a person or a document said so.

    Yields
    ------
    Finding
        One doubt each.
    """
    counts = measurement == "transmission"
    if counts and references is not None:
        yield from _of_references(references)
    usable = {row: frame for row, frame in frames.items() if not frame.left_out}
    yield from _of_left_out(frames)
    if not frames:
        return
    has_flats = references is not None and references.flat is not None
    if not (counts and has_flats):
        yield from _of_measurement(list(frames.values()), measurement, said=said)
    if counts and has_flats and usable:
        yield from _of_transmission(list(usable.values()))
    yield from _of_saturation(frames)
    yield from _of_blocked(usable)


def _of_measurement(frames: list[FrameValues], measurement: Measurement, *, said: bool) -> Iterator[Finding]:
    told = told_by([frame.levels for frame in frames])
    if told is None and not said and len(frames) >= _FEWEST:
        yield Finding(
            UNKNOWN,
            "nothing says whether the images are counts or line integrals: no flats, no word, and no air beside the "
            f"sample; they are taken for {_KINDS[measurement]}. Say measurement, or give flats",
        )
    if told is None or told == measurement:
        return
    words = {
        "transmission": "counts or transmission (the outermost columns are the brightest, as air is)",
        "line_integral": "line integrals (the outermost columns are the darkest and near zero, as air is)",
    }
    wrong = "said to be" if said else "taken for"
    yield Finding(
        CONTRADICTED,
        f"the images are {wrong} {_KINDS[measurement]}, but their values look like {words[told]}: the volume is wrong, "
        f'or inverted; say measurement "{told}" if they are',
        fatal=not said,
    )


def _of_transmission(frames: list[FrameValues]) -> Iterator[Finding]:
    high = float(np.median([frame.levels.high for frame in frames]))
    if high > _ABOVE_ONE:
        yield Finding(
            "transmission-above-one",
            f"the brightest columns have a transmission of {high:.3g}, expected 1 at most: the flats were taken with "
            "less exposure or beam, with the sample in them, or are no flats; give the flats of this scan",
            fatal=high > _FAR_ABOVE_ONE,
        )


def _of_saturation(frames: Mapping[int, FrameValues]) -> Iterator[Finding]:
    rows = [row for row, frame in frames.items() if frame.saturated > _SATURATED]
    if rows:
        most = max(frames[row].saturated for row in rows)
        yield Finding(
            "projections-saturated",
            f"up to {most:.0%} of the pixels are at full scale in projections {in_words(rows)}: saturated, so that "
            "they hold no measurement; take them with less exposure, or mask these pixels",
        )


def _of_blocked(frames: Mapping[int, FrameValues]) -> Iterator[Finding]:
    typical = float(np.median([frame.blocked for frame in frames.values()])) if frames else 0.0
    rows = [row for row, frame in frames.items() if frame.blocked > typical + _BLOCKED]
    if rows:
        yield Finding(
            "views-blocked",
            f"no light reaches much of the detector in projections {in_words(rows)} (of the others {typical:.0%}): "
            "something stood in the beam; leave these projections out",
        )


def _of_left_out(frames: Mapping[int, FrameValues]) -> Iterator[Finding]:
    rows = [row for row, frame in frames.items() if frame.left_out]
    if rows and len(rows) >= max(2, _MANY * len(frames)):
        yield Finding(
            "many-left-out",
            f"{len(rows)} of {len(frames)} projections cannot be used, {in_words(rows)}; the first because "
            f"{frames[min(rows)].left_out}",
        )


def _of_references(references: References) -> Iterator[Finding]:
    flat, dark = references.flat, references.dark
    if references.saturated > _NOT_ABOVE:
        yield Finding(
            "flats-saturated",
            f"{references.saturated:.0%} of the flats' pixels are at full scale, so that the beam is not known there: "
            "give flats with less exposure",
            fatal=True,
        )
    elif references.saturated > _SATURATED:
        yield Finding(
            "flats-saturated",
            f"{references.saturated:.0%} of the flats' pixels are at full scale and count as dead: give flats with "
            "less exposure",
        )
    if flat is not None and dark is not None:
        known = np.isfinite(flat) & np.isfinite(dark)
        share = float(np.mean(flat[known] <= dark[known])) if known.any() else 0.0
        if share > _NOT_ABOVE:
            yield Finding(
                "flats-not-above-darks",
                f"the flats are no brighter than the darks in {share:.0%} of the pixels: they are swapped, or the "
                "flats were taken without beam; give the right flats and darks",
                fatal=True,
            )
    if references.spread > _DIFFER:
        yield Finding(
            "flats-differ",
            f"the brightest flat has {references.spread:.3g} times the counts of the darkest: the beam changed between "
            "them, so that the intensity of the projections is uncertain; set preprocess.air_columns if air is seen",
        )
    if references.flats_lost:
        yield Finding("flats-lost", f"{references.flats_lost} flats hold no measurement and are left out")


def in_words(rows: list[int]) -> str:
    """Numbers as ranges, such as `3, 7-9`.

    Parameters
    ----------
    rows
        Numbers in any order.

    Returns
    -------
    str
        The first eight ranges, and whether there are more.
    """
    ranges: list[list[int]] = []
    for row in sorted(rows):
        if ranges and row == ranges[-1][1] + 1:
            ranges[-1][1] = row
        else:
            ranges.append([row, row])
    words = [f"{first}" if first == last else f"{first}-{last}" for first, last in ranges[:8]]
    return ", ".join(words) + (" and more" if len(ranges) > 8 else "")

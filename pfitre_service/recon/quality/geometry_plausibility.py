"""Doubts about the geometry of a scan: its angles, and how far the sample is seen, held against the projections.

The projections of one object know how they belong together, without any reconstruction (Helgason 1965, Ludwig 1966: the
k-th moment of a projection is a trigonometric polynomial of degree k of its angle). Of parallel projections at the
angles t, with the mass M, the centroid C and the variance V of each slice,

    M = const        C = axis + a cos t + b sin t        V = c + d cos 2t + e sin 2t

hold, and fit badly where the angles are in another unit or belong to other projections. What they cannot tell: angles
that all have the wrong sign, or run backwards in even steps, are those of the mirror image, which is as consistent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfitre_service.model import Finding

FEWEST = 10
"""Projections before which nothing is said but of angles that do not change."""
_EDGE = 0.04
"""Share of the columns at either side that show whether the sample reaches out of the field of view."""
_AIR = 0.03
"""Of a slice's brightest columns: what is smaller is taken for air."""
_OUT = 0.15
"""Of the brightest columns: an edge above it holds sample."""
_TURNED_ROUND = 300.0
"""Degrees that a half acquisition spans at least."""
_MOSTLY, _HARDLY = 0.6, 0.2
"""Shares of the projections whose edge holds sample."""
_BETTER = 4.0
"""Other angles must fit so many times as well, in squares, to be named."""
_WHOLE_TURN = 360.0
_GOOD = 0.1
"""Share of the moments' variance that fitting angles leave unexplained at most."""
_BAD = 0.5
"""What angles leave unexplained that contradict the projections."""
_MOVES = 0.4
"""Columns, root mean square, that centroids must move by to say anything; of variances the square root's."""

Angles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Reading:
    """Another way to read the angles."""

    name: str
    read: Callable[[Angles], Angles]
    words: str
    remedy: str


_READINGS = (
    _Reading("angles-in-radians", np.rad2deg, "as radians", "say the unit"),
    _Reading("angles-in-milliradians", lambda t: np.rad2deg(t) / 1000, "as milliradians", "say the unit"),
    _Reading("angles-in-millidegrees", lambda t: t / 1000, "as thousandths of a degree", "convert them"),
    _Reading("angles-halved", lambda t: 2 * t, "twice as large", "correct them"),
    _Reading("angles-doubled", lambda t: t / 2, "half as large", "correct them"),
    _Reading("angles-in-other-order", np.sort, "in rising order", "give them in the order of the projections"),
    _Reading(
        "angles-in-other-order", lambda t: t[::-1], "in the opposite order", "give them in the projections' order"
    ),
    _Reading("angles-without-sign", lambda t: _signed(t), "with a sign, negative up to the smallest", "give the signs"),
)


def geometry_findings(rows: NDArray[np.float32], angles: Angles) -> Iterator[Finding]:
    """Doubts about angles and field of view; costs a few sums over `rows`.

    Parameters
    ----------
    rows
        (angle, slices, columns) float32 line integrals, a few slices of every projection.
    angles
        (angle,) float64 degrees.

    Yields
    ------
    Finding
        One doubt each.
    """
    distinct = len(np.unique(np.round(np.remainder(angles, 360.0), 4)))
    if len(angles) > 2 and distinct == 1:
        yield Finding(
            "angles-do-not-change",
            f"all {len(angles)} projections are said to be taken at {angles[0] + 0.0:g} degrees, and no volume can "
            "come of one angle: give the angles of the projections",
            fatal=True,
        )
        return
    if len(angles) < FEWEST:
        return
    span = float(np.ptp(angles))
    half = _half_acquisition(rows, span)
    if half is not None:
        yield half
        return
    yield from _of_angles(rows, angles, span)


def _half_acquisition(rows: NDArray[np.float32], span: float) -> Finding | None:
    """Of a scan all round whose sample leaves the field of view at one side alone."""
    if span < _TURNED_ROUND:
        return None
    width = max(1, round(_EDGE * rows.shape[2]))
    profiles = rows.mean(1, dtype=np.float64)
    bright = np.quantile(profiles, 0.95, axis=1)
    out = [float((edge.mean(1) > _OUT * bright).mean()) for edge in (profiles[:, :width], profiles[:, -width:])]
    if max(out) < _MOSTLY or min(out) > _HARDLY:
        return None
    side = "left" if out[0] > out[1] else "right"
    return Finding(
        "half-acquisition",
        f"the sample reaches out of the field of view at the {side} side in {max(out):.0%} of the projections, at "
        f"the other in {min(out):.0%}, and the angles span {span:.0f} degrees: this is a half acquisition, with the "
        "rotation axis near one edge of the detector, which is not supported; join projections half a turn apart to "
        "ones of double width over 180 degrees first (algotom.prep.conversion.convert_sinogram_360_to_180 does)",
        fatal=True,
    )


def _of_angles(rows: NDArray[np.float32], angles: Angles, span: float) -> Iterator[Finding]:
    moments = _moments(rows)
    given = _unexplained(moments, angles)
    tiny = span < 2 * math.pi + 0.1 and len(np.unique(np.round(angles, 6))) >= FEWEST
    best = min(_READINGS, key=lambda reading: _unexplained(moments, reading.read(angles)))
    left = _unexplained(moments, best.read(angles))
    said = f"{angles.min():g} to {angles.max():g}"
    read = best.read(angles)
    clearly = given > (_GOOD if not tiny else 0.0) and left < _GOOD and given > _BETTER * left
    plausible = (np.ptp(read) > 2 * math.pi and np.ptp(read) <= 400) or best.name == "angles-in-other-order"
    if clearly and plausible:
        yield Finding(
            best.name,
            f"the angles, {said} in degrees, do not fit the projections, and do so {best.words} ({read.min():.4g} to "
            f"{read.max():.4g}): {best.remedy} (the attribute `units` of the angles' dataset, a table in degrees, or "
            "documents.angle_unit)",
            fatal=True,
        )
    elif given > _BAD:
        yield Finding(
            "angles-contradict-projections",
            f"the centroids and widths of the projections do not move as the angles say, {said} degrees ({given:.0%} "
            "of their movement is left unexplained): check unit, order and number of the angles",
        )
    elif np.median(np.abs(np.diff(angles))) > _WHOLE_TURN:
        yield Finding(
            "angles-far-apart",
            f"from one projection to the next the angle changes by {np.median(np.abs(np.diff(angles))):g} "
            "degrees, more than a whole turn: if these are steps of a motor or thousandths of a degree, convert them",
        )
    elif tiny:
        yield Finding(
            "angles-span-little",
            f"the angles, {said}, span {span:.3g} degrees: if they are radians, say so (documents.angle_unit, the "
            "attribute `units` of the angles' dataset, or a table in degrees)",
        )


@dataclass(frozen=True, slots=True)
class _Moments:
    """(angle, slices) of each, those that move enough to say anything; weights (slices,)."""

    centroid: NDArray[np.float64]
    variance: NDArray[np.float64]


def _moments(rows: NDArray[np.float32]) -> _Moments:
    """Of slices whose mass is alike in all projections: others are not seen whole, and follow other rules."""
    values = rows.astype(np.float64)
    # Noise in the air far from the sample weighs most in the variance, and says nothing.
    values[values < _AIR * np.quantile(values, 0.99, axis=(0, 2))[:, None]] = 0
    columns = np.arange(rows.shape[2], dtype=np.float64)
    mass = values.sum(2)
    typical = np.median(mass, axis=0)
    steady = (np.abs(mass - typical) < 0.2 * np.abs(typical)).mean(0) > 0.8
    whole = steady & (typical > 0)
    values, mass = values[:, whole], np.where(mass > 0, mass, np.nan)[:, whole]
    centroid = (values * columns).sum(2) / mass
    variance = (values * np.square(columns - centroid[..., None])).sum(2) / mass
    return _Moments(centroid, variance)


def _unexplained(moments: _Moments, angles: Angles) -> float:
    """Share of the variance over angles that the consistency conditions leave; 0 where the moments say nothing."""
    radians = np.deg2rad(angles)
    left, of = 0.0, 0.0
    for values, order, least in (
        (moments.centroid, 1, _MOVES),
        (np.sqrt(np.maximum(moments.variance, 0)), 2, _MOVES),
    ):
        for column in values.T:
            good = np.isfinite(column)
            moved = column[good] - column[good].mean() if good.any() else column[good]
            if np.count_nonzero(good) < FEWEST or np.sqrt(np.mean(np.square(moved))) < least:
                continue
            target = np.square(column[good]) if order == 2 else column[good]
            phase = order * radians[good]
            basis = np.stack([np.ones_like(phase), np.cos(phase), np.sin(phase)], axis=1)
            rest = target - basis @ np.linalg.lstsq(basis, target, rcond=None)[0]
            total = float(np.sum(np.square(target - target.mean())))
            # Each moment of each slice counts alike; the best nine tenths, since single projections may be bad.
            kept = np.sort(np.square(rest))[: max(FEWEST, int(0.9 * len(rest)))]
            left, of = left + float(kept.sum()) / total, of + 1.0
    return left / of if of else 0.0


def _signed(angles: Angles) -> Angles:
    """Negative up to the smallest, for a scan from -a to b whose signs were lost."""
    turn = int(np.argmin(angles))
    return np.concatenate([-angles[:turn], angles[turn:]]) if np.all(angles >= 0) else angles

"""What images hold, counts or line integrals, told by the sign of absorption.

In counts and in transmission the air beside the sample is the brightest part of a frame; in line integrals it is the
darkest, and zero. Nothing else tells them apart for certain: counts and scaled line integrals are both whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.model import Measurement
from pfitre_service.preprocess.not_measured import not_measured

_EDGE = 0.75
"""Of the way from the darkest to the brightest column: beyond it, an edge is as bright as air is in counts."""
_NEAR_ZERO = 0.15
"""Of the brightest column: an edge below is as dark as air is in line integrals."""
_CONTRAST = 0.05
"""Of the brightest column: a frame that varies less says nothing."""
_AGREE = 0.6
"""Of the frames must say the same; fewer of them are undecided together."""
_NEGATIVE = 0.05
"""Of the pixels: more below zero are no counts, but for those of a beam that is darker than the dark field."""
_LOOKED_AT = 64
"""Frames of a stored scan, evenly chosen."""


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """Of one frame, in the unit of its values: the means of columns along a few rows, smoothed by their share."""

    left: float
    """The outermost columns of the left side."""
    right: float
    """The outermost columns of the right side."""
    low: float
    """Of the darkest columns."""
    high: float
    """Of the brightest columns."""


def levels(
    values: NDArray[np.float32], bad: NDArray[np.bool_], factors: NDArray[np.float32] | None = None
) -> list[Levels]:
    """The levels of every frame; zeros where no pixel is left.

    Parameters
    ----------
    values
        (angle, row, column) float32.
    bad
        (angle, row, column), True for pixels to be left out.
    factors
        (angle,), what each frame is multiplied by; None for one.

    Returns
    -------
    list[Levels]
        One for each frame.
    """
    step = max(1, values.shape[1] // 16)
    rows, good = values[:, ::step], ~bad[:, ::step]
    number = np.count_nonzero(good, axis=1)
    sums = np.sum(rows, axis=1, where=good, dtype=np.float64)
    if factors is not None:
        sums *= factors[:, None]
    profiles = np.divide(sums, number, out=np.full(sums.shape, np.nan), where=number > 0)
    return [_levels(profile[np.isfinite(profile)]) for profile in profiles]


def _levels(profile: NDArray[np.float64]) -> Levels:
    if not profile.size:
        return Levels(0.0, 0.0, 0.0, 0.0)
    width = max(1, round(0.05 * len(profile)))
    low, high = np.quantile(profile, (0.03, 0.97))
    left, right = np.median(profile[:width]), np.median(profile[-width:])
    return Levels(float(left), float(right), float(low), float(high))


def decided(images: NDArray[Any], *, flats: bool, darks: bool) -> Measurement:
    """What a stored scan holds that nobody has said anything of.

    Parameters
    ----------
    images
        (angle, row, column) of any real dtype.
    flats
        Whether there are flats.
    darks
        Whether there are darks.

    Returns
    -------
    Measurement
        Counts that need a logarithm, or line integrals.

    Raises
    ------
    InputError
        Neither these nor the values tell, and a guess may invert the picture.
    """
    if flats:
        return "transmission"
    chosen = images[:: max(1, len(images) // _LOOKED_AT)]
    with np.errstate(over="ignore"):
        values = chosen.astype(np.float32)
    bad = not_measured(chosen) | ~np.isfinite(values)
    told = told_by(levels(values, bad))
    if told is None and not darks and _may_be_counts(values[~bad]):
        raise InputError(
            "expected images that tell counts from line integrals: flats, or air beside the sample, which is the "
            "brightest in counts and near zero in line integrals; got neither. Give flats, or say "
            'measurement="transmission" or "line_integral"'
        )
    return told or ("transmission" if darks else "line_integral")


def _may_be_counts(good: NDArray[np.float32]) -> bool:
    """Counts are not negative, and not all zero; where nothing is left of them, the engine says so."""
    return bool(good.any()) and bool(np.count_nonzero(good < 0) < _NEGATIVE * good.size)


def told_by(seen: list[Levels]) -> Measurement | None:
    """What the values of frames speak for.

    Parameters
    ----------
    seen
        One for each frame.

    Returns
    -------
    Measurement | None
        None where they leave it open, as where a sample fills the field.
    """
    says = [said for said in map(_told_by_one, seen) if said != "flat"]
    if not says or len(says) < len(seen) / 4:
        return None
    for kind in ("transmission", "line_integral"):
        if says.count(kind) >= max(2, _AGREE * len(says)):
            return "transmission" if kind == "transmission" else "line_integral"
    return None


def _told_by_one(one: Levels) -> str:
    contrast = one.high - one.low
    if contrast <= _CONTRAST * max(abs(one.high), abs(one.low)):
        return "flat"
    darker, brighter = sorted((one.left, one.right))
    if darker > 0 and (darker - one.low) / contrast > _EDGE:
        return "transmission"
    zero = _NEAR_ZERO * one.high
    return "line_integral" if brighter < zero and one.low < zero else "open"

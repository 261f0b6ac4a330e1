"""Which directions projections have seen, in degrees and in words."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

_GAP = 5.0
"""Degrees: a smaller hole in the angles is not worth a word."""


def measured_ranges(angles: Iterable[float]) -> list[tuple[float, float]]:
    """Ranges, modulo 180 degrees, that angles lie in without a hole wider than the usual step.

    Parameters
    ----------
    angles
        Degrees, in any order.

    Returns
    -------
    list[tuple[float, float]]
        From and to in degrees, rising: each from its first angle to its last, its middle in [-90, 90).
    """
    folded = np.unique(np.round(np.remainder(np.fromiter(angles, float), 180.0), 3))
    if not len(folded):
        return []
    steps = np.diff(folded, append=folded[0] + 180.0)
    hole = np.flatnonzero(steps > max(_GAP, 2.5 * float(np.median(steps))) if len(folded) > 1 else steps > 0)
    if not len(hole):
        return [(0.0, 180.0)]
    ends = []
    for before, at in zip(np.roll(hole, 1).tolist(), hole.tolist(), strict=True):
        low, high = folded[(before + 1) % len(folded)], folded[at]
        high += 180.0 if high < low else 0.0
        turn = 180.0 if (low + high) / 2 >= 90.0 else 0.0
        ends.append((float(low - turn), float(high - turn)))
    return sorted(ends)


def holes(ranges: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """What lies between measured ranges.

    Parameters
    ----------
    ranges
        From and to in degrees, rising, as `measured_ranges` gives them.

    Returns
    -------
    list[tuple[float, float]]
        From and to in degrees, modulo 180.
    """
    ranges = list(ranges)
    following = [low for low, _ in ranges[1:]] + [low + 180.0 for low, _ in ranges[:1]]
    return [(high, low) for (_, high), low in zip(ranges, following, strict=True) if low > high]


def missing_degrees(ranges: Iterable[tuple[float, float]]) -> float:
    """How much of the 180 degrees lies between the ranges.

    Parameters
    ----------
    ranges
        From and to in degrees, as `measured_ranges` gives them.

    Returns
    -------
    float
        Degrees.
    """
    return 180.0 - sum(high - low for low, high in ranges)


def described(ranges: Iterable[tuple[float, float]]) -> str:
    """What these ranges mean for a volume.

    Parameters
    ----------
    ranges
        From and to in degrees, as `measured_ranges` gives them.

    Returns
    -------
    str
        The first half of a sentence.
    """
    ranges = list(ranges)
    missing = missing_degrees(ranges)
    if missing <= _GAP:
        return "Angles all round: every direction was measured"
    where = " and ".join(f"{low:.0f} to {high:.0f}" for low, high in ranges)
    return f"Angles {where}: edges along the rays of the missing {missing:.0f} degrees are inferred, not measured"

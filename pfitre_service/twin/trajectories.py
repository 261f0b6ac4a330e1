"""Which angles a live tomogram has measured so far, drawn from the whole life of a scan.

A scan of `missing` degrees missing measures one range of 180 - missing degrees; the gap is centred on `orientation`:

    measured range = [orientation - 180 + missing/2,  orientation - missing/2]

With the gap at 90 degrees that is a tilt series from -(90 - missing/2) to +(90 - missing/2): the beam stands
perpendicular to a flat sample at 0. A gap is the same modulo 180 degrees, as projections are up to their mirror image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError

FEWEST_ANGLES = 3
"""No drawn scan has fewer."""
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryParameters:
    """How often which kind of scan is drawn. Chances lie between 0 and 1.

    Raises
    ------
    InputError
        Chances add up to more than 1, or a value lies outside of what it can be.
    """

    most_missing: float = 150.0
    """Degrees missing at most."""
    full_chance: float = 0.12
    """Scans of the whole half turn, on top of those drawn evenly."""
    usual_chance: float = 0.25
    """Scans with a wedge within `usual_missing`, on top of those drawn evenly."""
    usual_missing: tuple[float, float] = (60.0, 120.0)
    """Degrees missing of a usual limited-angle scan: least and most."""
    narrow_missing: float = 130.0
    """Beyond so many degrees missing, half of the evenly drawn scans are drawn again."""
    tilt_chance: float = 0.5
    """Gaps near 90 degrees, as in a tilt series; the others lie anywhere."""
    tilt_tolerance: float = 10.0
    """Degrees by which the gap of a tilt series lies off 90 degrees at most."""
    density: tuple[float, float] = (0.12, 0.9)
    """Angles over 180 degrees for each pixel of a slice's width, least and most, drawn evenly in the logarithm."""
    fewest: int = 12
    """Angles of a whole scan, over its measured range, at least."""
    golden_chance: float = 0.15
    """Scans whose angles step through the measured range by the golden ratio."""
    random_chance: float = 0.10
    """Scans whose angles lie at random."""
    two_ranges_chance: float = 0.10
    """Scans of two ranges, between which the missing degrees are shared out."""
    equal_slope_chance: float = 0.05
    """Scans in equal steps of the slope (tangent or cotangent of the angle) instead of the angle."""
    interleaved_chance: float = 0.3
    """Scans of evenly spaced angles that are taken in several passes, instead of one from end to end."""
    partial_chance: float = 0.35
    """Scans of which only the first part has been measured."""
    least_part: float = 0.1
    """Share of the angles that the first part holds at least."""
    lost_chance: float = 0.10
    """Scans that lose angles at random."""
    most_lost: float = 0.2
    """Share of the angles that they lose at most."""
    repeated_chance: float = 0.05
    """Scans that measure some angles twice."""
    most_repeated: float = 0.1
    """Share of the angles that is measured twice at most."""

    def __post_init__(self) -> None:
        kinds = self.golden_chance + self.random_chance + self.two_ranges_chance + self.equal_slope_chance
        if not (kinds <= 1 and self.full_chance + self.usual_chance <= 1):
            raise InputError(
                "the chances of golden, random, two_ranges and equal_slope, and those of full and usual, add up to 1 "
                f"at most; got {kinds} and {self.full_chance + self.usual_chance}"
            )
        if not (0 < self.most_missing < 180 and 0 < self.density[0] <= self.density[1] and self.fewest >= 3):
            raise InputError(
                "a scan needs most_missing between 0 and 180, a rising density above 0 and 3 angles or more; "
                f"got {self.most_missing}, {self.density}, {self.fewest}"
            )


_DEFAULTS = TrajectoryParameters()


@dataclass(frozen=True, slots=True)
class _Wedge:
    missing: float
    orientation: float

    @property
    def measured(self) -> float:
        return 180 - self.missing

    @property
    def start(self) -> float:
        return self.orientation - self.measured - self.missing / 2


def wedge(missing: float, orientation: float = 90.0, count: int = 90) -> NDArray[np.float64]:
    """Angles evenly over the measured range, both of its ends included. With nothing missing they go from 0 up to, and
    without, 180, whatever the orientation.

    >>> wedge(100, count=5).tolist()
    [-40.0, -20.0, 0.0, 20.0, 40.0]

    Parameters
    ----------
    missing
        Degrees of 180 that no angle falls in, from 0 to below 180.
    orientation
        Degrees, the middle of that gap.
    count
        Number of angles, 2 or more.

    Returns
    -------
    NDArray[np.float64]
        (angle,) degrees, rising.

    Raises
    ------
    InputError
        `missing` or `count` lies outside of what it can be.
    """
    if not (0 <= missing < 180 and count >= 2):
        raise InputError(f"a wedge misses 0 or more and less than 180 degrees, in 2 angles or more; {missing}, {count}")
    if missing == 0:
        return np.linspace(0, 180, count, endpoint=False)
    return _even(_Wedge(missing, orientation), count)


def draw_angles(
    rng: np.random.Generator, size: int, parameters: TrajectoryParameters = _DEFAULTS
) -> NDArray[np.float64]:
    """What a live tomogram has measured so far. The same state of `rng` gives the same angles.

    Parameters
    ----------
    rng
        Whose state decides.
    size
        Width of a slice in pixels.
    parameters
        How often which kind of scan is drawn.

    Returns
    -------
    NDArray[np.float64]
        (angle,) degrees in the order of the scan, `FEWEST_ANGLES` at least.

    Raises
    ------
    InputError
        The slice has no pixel.
    """
    if size < 1:
        raise InputError(f"a slice is 1 pixel wide or more; got {size}")
    gap = _Wedge(_missing(rng, parameters), _orientation(rng, parameters))
    density = np.exp(rng.uniform(*np.log(parameters.density)))
    count = max(parameters.fewest, round(density * size * gap.measured / 180))
    angles = _kind(rng, parameters)(rng, gap, count, parameters)
    if rng.random() < parameters.partial_chance:
        part = int(np.ceil(angles.size * rng.uniform(parameters.least_part, 1)))
        angles = angles[: max(FEWEST_ANGLES, part)]
    if rng.random() < parameters.lost_chance:
        angles = _lose(rng, angles, rng.uniform(0, parameters.most_lost))
    if rng.random() < parameters.repeated_chance:
        twice = _some(rng, angles.size, rng.uniform(0, parameters.most_repeated))
        angles = np.repeat(angles, 1 + twice)
    return angles


_Kind = Callable[[np.random.Generator, _Wedge, int, TrajectoryParameters], NDArray[np.float64]]


def _missing(rng: np.random.Generator, parameters: TrajectoryParameters) -> float:
    draw = rng.random()
    if draw < parameters.full_chance:
        return 0.0
    if draw < parameters.full_chance + parameters.usual_chance:
        return float(rng.uniform(*parameters.usual_missing))
    missing = rng.uniform(0, parameters.most_missing)
    if missing > parameters.narrow_missing and rng.random() < 0.5:
        missing = rng.uniform(0, parameters.most_missing)
    return float(missing)


def _orientation(rng: np.random.Generator, parameters: TrajectoryParameters) -> float:
    if rng.random() < parameters.tilt_chance:
        return float(90 + rng.uniform(-parameters.tilt_tolerance, parameters.tilt_tolerance))
    return float(rng.uniform(0, 180))


def _kind(rng: np.random.Generator, parameters: TrajectoryParameters) -> _Kind:
    chances = (
        (_golden, parameters.golden_chance),
        (_random, parameters.random_chance),
        (_two_ranges, parameters.two_ranges_chance),
        (_equal_slope, parameters.equal_slope_chance),
    )
    draw = rng.random()
    for kind, chance in chances:
        if draw < chance:
            return kind
        draw -= chance
    return _evenly


def _even(gap: _Wedge, count: int) -> NDArray[np.float64]:
    """Rising angles; both ends of the range, but for a whole half turn, whose ends are one and the same angle."""
    return np.linspace(gap.start, gap.start + gap.measured, count, endpoint=gap.missing > 0)


def _evenly(rng: np.random.Generator, gap: _Wedge, count: int, parameters: TrajectoryParameters) -> NDArray[np.float64]:
    return _in_order(rng, _even(gap, count), parameters)


def _golden(rng: np.random.Generator, gap: _Wedge, count: int, parameters: TrajectoryParameters) -> NDArray[np.float64]:
    del parameters
    return gap.start + gap.measured * ((rng.random() + _GOLDEN * np.arange(count, dtype=np.float64)) % 1)


def _random(rng: np.random.Generator, gap: _Wedge, count: int, parameters: TrajectoryParameters) -> NDArray[np.float64]:
    del parameters
    return gap.start + gap.measured * rng.random(count)


def _two_ranges(
    rng: np.random.Generator, gap: _Wedge, count: int, parameters: TrajectoryParameters
) -> NDArray[np.float64]:
    """The gap around the orientation keeps a part of what is missing; the rest opens inside the measured range."""
    second = gap.missing * rng.uniform(0.2, 0.8)
    cut = gap.measured * rng.uniform(0.2, 0.8)
    angles = _even(gap, count) - second / 2
    return _in_order(rng, np.where(angles - angles[0] > cut, angles + second, angles), parameters)


def _equal_slope(
    rng: np.random.Generator, gap: _Wedge, count: int, parameters: TrajectoryParameters
) -> NDArray[np.float64]:
    quarter = int(np.ceil(count * 180 / gap.measured / 2))
    rising = np.rad2deg(np.arctan(np.linspace(-1, 1, quarter, endpoint=False)))
    turned = np.sort((np.concatenate([rising, rising + 90]) - gap.start) % 180)
    measured = turned[turned <= gap.measured]
    return _in_order(rng, gap.start + measured, parameters)


def _in_order(
    rng: np.random.Generator, angles: NDArray[np.float64], parameters: TrajectoryParameters
) -> NDArray[np.float64]:
    """From rising angles to the order in which they are taken: from either end, in one pass or several."""
    if rng.random() < 0.5:
        angles = angles[::-1]
    if rng.random() >= parameters.interleaved_chance:
        return angles.copy()
    passes = int(rng.choice([2, 4, 8]))
    # Each pass starts where it halves the steps that were left: 0, 4, 2, 6, 1, ... of 8.
    firsts = sorted(range(passes), key=lambda first: int(f"{first:03b}"[::-1], 2))
    return np.concatenate([angles[first::passes] for first in firsts])


def _some(rng: np.random.Generator, count: int, share: float) -> NDArray[np.bool_]:
    """(count,) `share` of them true, rounded down, at random places."""
    chosen = np.zeros(count, bool)
    chosen[rng.permutation(count)[: int(share * count)]] = True
    return chosen


def _lose(rng: np.random.Generator, angles: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    return angles[~_some(rng, angles.size, min(share, 1 - FEWEST_ANGLES / angles.size))]

"""What a beamline makes of perfect line integrals: the imperfections that the prior must have seen in training.

    y  ->  shift along the columns  ->  gain of each angle  ->  photon and read-out noise  ->  stripes  ->  lost columns

Everything is stated relative to the scan itself (its largest line integral, its width), so that the result stays in the
unit of what came in. Line integrals in, line integrals out: flat field and logarithm are taken as done. An intensity
that drifts is therefore a gain here: the offset that it leaves in a transmission image is seen, and taken away, in the
air beside the sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError

Signal = Literal["transmission", "emission"]
Fill = Literal["zero", "hold"]

_MANY = 100.0
"""Mean counts from which a normal distribution stands in for Poisson's."""
_FAINTEST = 0.5
"""Counts that stand in for less when the logarithm is taken: half a photon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imperfections:
    """One scan's imperfections. The defaults are none.

    Raises
    ------
    InputError
        A value lies outside of what it can be.
    """

    signal: Signal = "emission"
    """What is counted: photons that come through (the logarithm is taken), or photons that are sent out."""
    dose: float = float("inf")
    """Transmission: mean photons per pixel without sample. Emission: mean counts at the largest line integral.
    Infinite: nothing is counted, there is no noise."""
    attenuation: float = 1.0
    """Transmission: minus the logarithm of the share that comes through at the largest line integral."""
    read_noise: float = 0.0
    """Standard deviation in counts that the electronics add to each pixel; without effect at infinite dose."""
    axis_shift: float = 0.0
    """Columns by which the rotation axis is off where it is said to be: all angles move by it."""
    jitter: float = 0.0
    """Standard deviation, in columns, of a shift of each angle by itself."""
    outlier_share: float = 0.0
    """Share of the angles that stand far off, rounded up."""
    outlier_reach: float = 0.0
    """Columns by which these stand off at most, one third of it at least."""
    drift: float = 0.0
    """Relative change of the intensity, from its lowest to its highest, slow over the scan."""
    gain_jitter: float = 0.0
    """Relative change of the intensity of each angle by itself, at most, to either side."""
    lost_left: float = 0.0
    """Share of the columns lost at the low edge, rounded down."""
    lost_right: float = 0.0
    """The same at the high edge."""
    lost_fill: Fill = "zero"
    """What stands in the lost columns: zero, or the last value beside them."""
    stripe_share: float = 0.0
    """Share of the columns with a stripe, which becomes a ring: the same at every angle, of its own in every row."""
    stripe_gain: float = 0.0
    """Standard deviation of a stripe's relative gain error."""
    stripe_offset: float = 0.0
    """Standard deviation of a stripe's offset, as a share of the largest line integral."""

    def __post_init__(self) -> None:
        if not (self.dose > 0 and self.attenuation > 0):
            raise InputError(f"dose and attenuation are above 0; got {self.dose}, {self.attenuation}")
        if not (0 <= self.lost_left + self.lost_right < 1 and 0 <= self.drift < 1 and 0 <= self.gain_jitter < 1):
            raise InputError(
                "lost_left + lost_right, drift and gain_jitter lie from 0 to below 1; "
                f"got {self.lost_left} + {self.lost_right}, {self.drift}, {self.gain_jitter}"
            )
        if not (0 <= self.outlier_share <= 1 and 0 <= self.stripe_share <= 1):
            raise InputError(
                f"outlier_share and stripe_share lie between 0 and 1; got {self.outlier_share}, {self.stripe_share}"
            )

    @classmethod
    def none(cls) -> Imperfections:
        """A perfect instrument."""
        return cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImperfectionParameters:
    """How often, and how badly, scans are imperfect. Chances between 0 and 1; pairs are the least and the most."""

    noiseless_chance: float = 0.2
    """Scans without any noise."""
    transmission_chance: float = 0.5
    """Of the others, those that count transmitted photons."""
    transmission_photons: tuple[float, float] = (100.0, 1e6)
    """Photons per pixel without sample, evenly in the logarithm."""
    attenuation: tuple[float, float] = (0.3, 4.0)
    """Attenuation at the largest line integral, evenly in the logarithm."""
    emission_counts: tuple[float, float] = (5.0, 1e4)
    """Counts at the largest line integral, evenly in the logarithm."""
    read_noise_chance: float = 0.5
    """Noisy scans with noise of the electronics."""
    read_noise_counts: float = 5.0
    """Standard deviation of that noise in counts at most,"""
    read_noise_share: float = 0.02
    """and as a share of the dose at most: no scan drowns in it."""
    axis_chance: float = 0.35
    """Scans whose axis is off."""
    axis_sigma: float = 0.7
    """Standard deviation of that, in columns."""
    axis_most: float = 2.0
    """Columns by which the axis is off at most."""
    jitter_chance: float = 0.3
    """Scans whose angles jitter."""
    jitter_most: float = 0.5
    """Standard deviation of the jitter at most, in columns."""
    outlier_chance: float = 0.1
    """Scans with a few angles that stand far off."""
    outlier_share: float = 0.05
    """Share of such angles at most."""
    outlier_reach: float = 3.0
    """Columns by which they stand off at most."""
    drift_chance: float = 0.3
    """Scans whose intensity changes."""
    drift_most: float = 0.1
    """Slow relative change at most."""
    gain_jitter_most: float = 0.03
    """Relative change from angle to angle at most."""
    lost_chance: float = 0.1
    """Scans that lose columns at one edge or at both."""
    lost_most: float = 0.1
    """Share of the width lost at an edge at most."""
    stripe_chance: float = 0.2
    """Scans with stripes."""
    stripe_share: float = 0.15
    """Share of columns with stripes at most."""
    stripe_most: float = 0.02
    """Standard deviation of the stripes' gain, and of their offset, at most."""


_DEFAULTS = ImperfectionParameters()


def draw_imperfections(rng: np.random.Generator, parameters: ImperfectionParameters = _DEFAULTS) -> Imperfections:
    """The imperfections of one scan.

    Parameters
    ----------
    rng
        Whose state decides; the same state gives the same ones.
    parameters
        How often, and how badly.

    Returns
    -------
    Imperfections
        Of one scan.
    """
    p = parameters
    axis_shift = float(np.clip(rng.normal(0, p.axis_sigma), -p.axis_most, p.axis_most))
    signal: Signal = "transmission" if _happens(rng, p.transmission_chance) else "emission"
    dose = _log_uniform(rng, p.transmission_photons if signal == "transmission" else p.emission_counts)
    read_noise = min(p.read_noise_share * dose, p.read_noise_counts) * rng.random()
    drifts, stripes = _happens(rng, p.drift_chance), _happens(rng, p.stripe_chance)
    loses, both, edge = _happens(rng, p.lost_chance), _happens(rng, 0.5), _happens(rng, 0.5)
    outliers = _happens(rng, p.outlier_chance)
    return Imperfections(
        signal=signal,
        attenuation=_log_uniform(rng, p.attenuation),
        dose=_if(not _happens(rng, p.noiseless_chance), dose, float("inf")),
        read_noise=_if(_happens(rng, p.read_noise_chance), read_noise),
        axis_shift=_if(_happens(rng, p.axis_chance), axis_shift),
        jitter=_if(_happens(rng, p.jitter_chance), rng.uniform(0, p.jitter_most)),
        outlier_share=_if(outliers, rng.uniform(0, p.outlier_share)),
        outlier_reach=_if(outliers, p.outlier_reach),
        drift=_if(drifts, rng.uniform(0, p.drift_most)),
        gain_jitter=_if(drifts, rng.uniform(0, p.gain_jitter_most)),
        lost_left=_if(loses and (both or edge), rng.uniform(0, p.lost_most)),
        lost_right=_if(loses and (both or not edge), rng.uniform(0, p.lost_most)),
        lost_fill="hold" if _happens(rng, 0.5) else "zero",
        stripe_share=_if(stripes, rng.uniform(0, p.stripe_share)),
        stripe_gain=_if(stripes, rng.uniform(0, p.stripe_most)),
        stripe_offset=_if(stripes, rng.uniform(0, p.stripe_most)),
    )


def measure(
    projections: NDArray[np.float32], imperfections: Imperfections, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Projections as the imperfect instrument gives them. Where none is above 0 the scan has no scale, and gets neither
    noise nor stripes.

    Parameters
    ----------
    projections
        (angle, row, column) float32, perfect line integrals, finite and not negative, in the order of the scan.
    imperfections
        Of this scan.
    rng
        Of noise, jitter and stripes.

    Returns
    -------
    NDArray[np.float32]
        (angle, row, column) float32, in the same unit and order.

    Raises
    ------
    InputError
        The array is not three-dimensional.
    """
    if projections.ndim != 3:
        raise InputError(f"projections must be (angle, row, column); got the shape {projections.shape}")
    largest = float(projections.max(initial=0))
    y = shift_columns(projections, shifts(imperfections, len(projections), rng))
    y = y * gains(imperfections, len(projections), rng)[:, None, None]
    if largest > 0:
        y = _stripe(_count(y, largest, imperfections, rng), largest, imperfections, rng)
    return _lose_columns(y, imperfections)


def shifts(imperfections: Imperfections, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(angle,) columns by which each of `count` projections is moved towards higher columns."""
    moved = imperfections.axis_shift + imperfections.jitter * rng.standard_normal(count)
    far = rng.permutation(count)[: int(np.ceil(imperfections.outlier_share * count))]
    reach = imperfections.outlier_reach
    moved[far] += rng.choice([-1, 1], far.size) * rng.uniform(reach / 3, reach, far.size)
    return moved.astype(np.float32)


def gains(imperfections: Imperfections, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(angle,) intensity of each of `count` projections relative to the mean: slow drift of mean 1, and jitter."""
    time = np.linspace(0, 1, count)
    # A trend and a wave of up to one and a half periods: slow against the scan, not always in one direction.
    wave = np.sin(2 * np.pi * (rng.uniform(0.3, 1.5) * time + rng.random()))
    slow = rng.uniform(-1, 1) * time + rng.uniform(0, 1) * wave
    span = float(np.ptp(slow)) if count else 0.0
    drift = imperfections.drift * (slow - slow.mean()) / span if span > 0 else np.zeros(count)
    return (1 + drift + imperfections.gain_jitter * rng.uniform(-1, 1, count)).astype(np.float32)


def shift_columns(projections: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """Moves each projection; zeros come in from outside. Cubic (Catmull-Rom): sums and centres of mass move exactly,
    edges blur less than linearly and do not ring far.

    Parameters
    ----------
    projections
        (angle, row, column) float32.
    columns
        (angle,), columns towards higher columns.

    Returns
    -------
    NDArray[np.float32]
        (angle, row, column) float32; `projections` itself where nothing moves.
    """
    if not columns.any():
        return projections
    angles, rows, width = projections.shape
    whole = np.floor(columns)
    left = (columns - whole).astype(np.float32)  # part of a column that remains
    pad = int(np.abs(whole).max()) + 2
    padded = np.zeros((angles, rows, width + 2 * pad), np.float32)
    padded[:, :, pad : pad + width] = projections
    moved = np.zeros((angles, rows, width), np.float32)
    for angle, weights in enumerate(_cubic(left)):
        first = pad - int(whole[angle])
        for offset, weight in zip((1, 0, -1, -2), weights, strict=True):
            moved[angle] += weight * padded[angle, :, first + offset : first + offset + width]
    return moved


def _cubic(t: NDArray[np.float32]) -> NDArray[np.float32]:
    """(angle, 4) weights of the columns 1, 0, -1 and -2 places further for a value t columns before the one at 0."""
    weights = [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]
    return (np.stack(weights, axis=1) / 2).astype(np.float32)


def _count(
    y: NDArray[np.float32], largest: float, imperfections: Imperfections, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Counts with their noise, turned back into line integrals."""
    dose, attenuation = np.float32(imperfections.dose), np.float32(imperfections.attenuation)
    if np.isinf(dose):
        return y
    relative: NDArray[np.float32] = np.maximum(y, 0)
    relative /= np.float32(largest)
    if imperfections.signal == "emission":
        return _read_out(relative * dose, imperfections.read_noise, rng) * np.float32(largest / dose)
    passed: NDArray[np.float32] = np.exp(-attenuation * relative) * dose
    counts = _read_out(passed, imperfections.read_noise, rng)
    absorbed: NDArray[np.float32] = np.log(dose / counts.clip(min=_FAINTEST))
    return absorbed * np.float32(largest / attenuation)


def _read_out(expected: NDArray[np.float32], read_noise: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Counts as read where `expected` photons come on average: Poisson, and normal noise of the electronics."""
    counts: NDArray[np.float32] = np.sqrt(expected) * rng.standard_normal(expected.shape, dtype=np.float32)
    counts += expected
    few = expected < _MANY
    counts[few] = rng.poisson(expected[few])
    if read_noise > 0:
        counts += np.float32(read_noise) * rng.standard_normal(expected.shape, dtype=np.float32)
    return counts


def _stripe(
    y: NDArray[np.float32], largest: float, imperfections: Imperfections, rng: np.random.Generator
) -> NDArray[np.float32]:
    if imperfections.stripe_share == 0:
        return y
    _, rows, columns = y.shape
    struck = rng.random((columns,)) < imperfections.stripe_share
    error = rng.standard_normal((2, rows, columns), dtype=np.float32)
    error[:, :, ~struck] = 0
    gain = 1 + np.float32(imperfections.stripe_gain) * error[0]
    striped: NDArray[np.float32] = y * gain + np.float32(imperfections.stripe_offset * largest) * error[1]
    return striped


def _lose_columns(y: NDArray[np.float32], imperfections: Imperfections) -> NDArray[np.float32]:
    columns, hold = y.shape[2], imperfections.lost_fill == "hold"
    left, right = int(imperfections.lost_left * columns), columns - int(imperfections.lost_right * columns)
    y[:, :, :left] = y[:, :, left : left + 1] if hold else 0
    y[:, :, right:] = y[:, :, right - 1 : right] if hold else 0
    return y


def _happens(rng: np.random.Generator, chance: float) -> bool:
    return bool(rng.random() < chance)


def _if(condition: bool, value: float, otherwise: float = 0.0) -> float:
    """Both values are drawn whatever the condition says: a chance that changes leaves the other draws as they were."""
    return value if condition else otherwise


def _log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(limits))))

"""How far a volume may be believed: maps for the eye, numbers, and one sentence in plain words."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from pfitre_service.recon.admm import relative_distance
from pfitre_service.recon.error_model import shipped_error_model
from pfitre_service.recon.pfitre import PfitreSolver
from pfitre_service.recon.trust import Evidence, inferred_part, missing_share, next_angle, unmeasured
from pfitre_service.service.accumulation import Accumulation

_GAP = 5.0
"""Degrees: a smaller hole in the angles is not worth a word."""
_NOISELESS = 1e-6
"""A noise floor below this is none: simulated data without noise."""


@dataclass(frozen=True)
class Statement:
    """Numbers are NaN where nothing was measured."""

    sentence: str
    heldout_error: float
    """||A x - y|| / ||y|| over angles that the solver had not seen."""
    noise_floor: float
    """The same of a perfect volume: what the noise alone makes."""
    expected_error: float
    """||expected |x - truth||| / ||x||."""
    inferred_share: float
    """||inferred part|| / ||x||."""
    missing_share: float
    """Share of the spatial frequencies that no angle measured."""
    next_angle: float
    """Degrees in [0, 180): where one more projection would settle most."""
    outside_calibration: tuple[str, ...]
    """What of this volume is unlike all tomograms that the expected error was calibrated on."""

    def document(self) -> dict[str, Any]:
        """JSON values; None for NaN."""
        values = asdict(self) | {"outside_calibration": list(self.outside_calibration)}
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()
        }


@dataclass(frozen=True, eq=False)
class Belief:
    """Of one revision."""

    maps: dict[str, Tensor]
    """`trust`, `inferred` and `prior_gap`: (z, y, x) float32 in the volume's own unit."""
    statement: Statement


def believe(accumulation: Accumulation, solver: PfitreSolver, heldout_error: float, noise_floor: float) -> Belief:
    """Of the volume as it is now. `heldout_error`, `noise_floor`: as they were last measured, NaN if never."""
    transfer, x, z = unmeasured(accumulation.solved), solver.x, solver.z
    gap, inferred, missing = (z - x).abs(), inferred_part(transfer, x), missing_share(transfer)
    expected, outside = shipped_error_model().expected(Evidence(x, solver.physics.x, gap, inferred), missing)
    if solver.errors.outside_training:
        outside = (*outside, "projections that do not fit together")
    statement = Statement(
        sentence=_sentence(accumulation.angles.values(), heldout_error, noise_floor, outside),
        heldout_error=heldout_error,
        noise_floor=noise_floor,
        expected_error=_share(expected, x),
        inferred_share=_share(inferred, x),
        missing_share=missing,
        next_angle=next_angle(transfer, x, z),
        outside_calibration=outside,
    )
    return Belief({"trust": expected, "inferred": inferred, "prior_gap": gap}, statement)


def _share(part: Tensor, x: Tensor) -> float:
    share = relative_distance(x, x - part)
    return share if math.isfinite(share) else math.nan


def _sentence(angles: Iterable[float], heldout_error: float, noise_floor: float, outside: tuple[str, ...]) -> str:
    ranges = measured_ranges(angles)
    missing = 180.0 - sum(high - low for low, high in ranges)
    where = " and ".join(f"{low:.0f} to {high:.0f}" for low, high in ranges)
    if missing > _GAP:
        seen = f"Angles {where}: edges along the rays of the missing {missing:.0f} degrees are inferred, not measured"
    else:
        seen = "Angles all round: every direction was measured"
    if math.isnan(heldout_error):
        error = "nothing is held out, so the error is not measured"
    elif noise_floor > _NOISELESS:
        error = f"held-out error {heldout_error / noise_floor:.1f} x noise"
    else:
        error = f"held-out error {heldout_error:.2g}, no noise to compare it with"
    doubt = "; unlike what the expected error was calibrated on" if outside else ""
    return f"{seen}; {error}{doubt}."


def measured_ranges(angles: Iterable[float]) -> list[tuple[float, float]]:
    """Ranges of degrees, modulo 180, that angles lie in without a hole wider than the usual step: each from its first
    to its last, the first in [-90, 90) or the range's own start below it, rising."""
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

"""How far a volume may be believed: maps for the eye, numbers, and one sentence in plain words."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from pfitre_service.recon.admm import relative_distance
from pfitre_service.recon.directions import described, measured_ranges
from pfitre_service.recon.error_model import shipped_error_model
from pfitre_service.recon.pfitre import PfitreSolver
from pfitre_service.recon.trust import Evidence, inferred_part, missing_share, next_angle, unmeasured
from pfitre_service.service.accumulation import Accumulation

_NOISELESS = 1e-6
"""A noise floor below this is none: simulated data without noise."""


@dataclass(frozen=True)
class Statement:
    """Numbers are NaN where nothing was measured."""

    sentence: str
    measured: tuple[tuple[float, float], ...]
    """Ranges of degrees, modulo 180, that were measured (`recon.directions.measured_ranges`)."""
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
        lists = {
            "measured": [list(pair) for pair in self.measured],
            "outside_calibration": list(self.outside_calibration),
        }
        values = asdict(self) | lists
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
    ranges = measured_ranges(accumulation.angles.values())
    statement = Statement(
        sentence=_sentence(ranges, heldout_error, noise_floor, outside),
        measured=tuple(ranges),
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


def _sentence(
    ranges: Iterable[tuple[float, float]], heldout_error: float, noise_floor: float, outside: tuple[str, ...]
) -> str:
    if math.isnan(heldout_error):
        error = "nothing is held out, so the error is not measured"
    elif noise_floor > _NOISELESS:
        error = f"held-out error {heldout_error / noise_floor:.1f} x noise"
    else:
        error = f"held-out error {heldout_error:.2g}, no noise to compare it with"
    doubt = "; unlike what the expected error was calibrated on" if outside else ""
    return f"{described(ranges)}; {error}{doubt}."

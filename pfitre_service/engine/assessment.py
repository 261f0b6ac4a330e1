"""How far a volume may be believed: maps for the eye, numbers, and one sentence in plain words."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from pfitre_service.engine.accumulator import Accumulators
from pfitre_service.json_values import plain
from pfitre_service.recon.quality.directions import described, measured_ranges
from pfitre_service.recon.quality.error_model import shipped_error_model
from pfitre_service.recon.quality.evidence import Evidence, inferred_part, missing_share, next_angle, unmeasured
from pfitre_service.recon.quality.inference_cost import Cost, shipped_inference_cost
from pfitre_service.recon.solvers.admm import relative_distance
from pfitre_service.recon.solvers.pfitre import PfitreSolver
from pfitre_service.text_output import percent

_WORTH_A_WORD = 0.005
"""Of the dense material: less may be gone without mention."""
_NOISELESS = 1e-6
"""A noise floor below this is none: simulated data without noise."""


@dataclass(frozen=True)
class Statement:
    """Numbers are NaN where nothing was measured."""

    sentence: str
    """What was measured, what was inferred and how large the errors are, in words."""
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
    simulated_error: float
    """||x - truth|| / ||truth|| of simulated samples of which as much was missing and inferred: half are below it."""
    simulated_error_upper: float
    """The same: nine in ten are below it, in each family of samples."""
    simulated_lost_upper: float
    """Share of these samples' dense material that was gone: nine in ten lost less."""
    next_angle: float
    """Degrees in [0, 180): where one more projection would settle most."""
    outside_calibration: tuple[str, ...]
    """What of this volume is unlike all tomograms that the expected error was calibrated on."""

    def document(self) -> dict[str, Any]:
        """JSON values; None for NaN."""
        values: dict[str, Any] = plain(asdict(self), "quality")
        return values


@dataclass(frozen=True, eq=False)
class QualityMaps:
    """Of one revision."""

    maps: dict[str, Tensor]
    """`expected_error`, `inferred` and `prior_gap`: (z, y, x) float32 in the volume's own unit."""
    statement: Statement
    """The same in numbers and words."""


def assess(accumulation: Accumulators, solver: PfitreSolver, heldout_error: float, noise_floor: float) -> QualityMaps:
    """How far the volume may be believed, as it is now.

    Parameters
    ----------
    accumulation
        The frames that are in.
    solver
        At work on them.
    heldout_error
        ||A x - y|| / ||y|| as it was last measured; NaN if never.
    noise_floor
        The same of a perfect volume; NaN if never measured.

    Returns
    -------
    QualityMaps
        Maps and statement.
    """
    transfer, x, z = unmeasured(accumulation.solved), solver.x, solver.z
    gap, inferred, missing = (z - x).abs(), inferred_part(transfer, x), missing_share(transfer)
    expected, outside = shipped_error_model().expected(Evidence(x, solver.physics.x, gap, inferred), missing)
    if solver.errors.outside_training:
        outside = (*outside, "projections that do not fit together")
    ranges = measured_ranges(accumulation.angles.values())
    inferred_share = _share(inferred, x)
    cost = shipped_inference_cost().cost(missing, inferred_share)
    error = _of_held_out(heldout_error, noise_floor)
    doubt = "; unlike what the expected error was calibrated on" if outside else ""
    statement = Statement(
        sentence=f"{described(ranges)}{_of_simulated(cost, inferred_share)}. {error}{doubt}.",
        measured=tuple(ranges),
        heldout_error=heldout_error,
        noise_floor=noise_floor,
        expected_error=_share(expected, x),
        inferred_share=inferred_share,
        missing_share=missing,
        simulated_error=cost.error,
        simulated_error_upper=cost.error_upper,
        simulated_lost_upper=cost.lost_upper,
        next_angle=next_angle(transfer, x, z),
        outside_calibration=outside,
    )
    return QualityMaps({"expected_error": expected, "inferred": inferred, "prior_gap": gap}, statement)


def _share(part: Tensor, x: Tensor) -> float:
    share = relative_distance(x, x - part)
    return share if math.isfinite(share) else math.nan


def _of_simulated(cost: Cost, inferred_share: float) -> str:
    """What was inferred of the volume, and what that has cost where the truth was known."""
    if math.isnan(cost.error):
        return ""
    lost = f" and up to {percent(cost.lost_upper)} of dense material gone" if cost.lost_upper > _WORTH_A_WORD else ""
    return (
        f" ({percent(inferred_share)} of the volume is inferred). Simulated samples measured like this were wrong by "
        f"{percent(cost.error)}, up to {percent(cost.error_upper)}{lost}"
    )


def _of_held_out(heldout_error: float, noise_floor: float) -> str:
    if math.isnan(heldout_error):
        return "Nothing is held out, so the error is not measured"
    seen = ", which sees measured directions alone"
    if noise_floor > _NOISELESS:
        return f"Held-out error {heldout_error / noise_floor:.1f} x noise{seen}"
    return f"Held-out error {heldout_error:.2g}, no noise to compare it with{seen}"

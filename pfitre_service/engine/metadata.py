"""What is said of how a volume came about: alike of a live scan, in the catalogue, and of a stored one, in a file."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pfitre_service.engine.calibration_search import of_detector
from pfitre_service.engine.engine import Engine
from pfitre_service.model import HeldOut


def engine_metadata(engine: Engine) -> dict[str, Any]:
    """Fields of a tomogram's metadata (docs/reference/catalogue.md), by name.

    Parameters
    ----------
    engine
        That made the volume.

    Returns
    -------
    dict
        What was used of the projections, prior and weights, device, calibration (in columns of the detector), what
        images hold and who says so, findings, warnings, and every parameter. Numbers may be infinite or NaN.
    """
    parameters, frames = engine.parameters, engine.projections.active
    return {
        "frames_used": frames.used,
        "frames_unusable": frames.unusable,
        "frames_damaged": len(frames.damaged),
        "prior": engine.in_view.prior_name,
        "weights_sha256": engine.in_view.weights_sha256,
        "device": str(engine.device),
        "calibration": of_detector(frames.calibration, parameters.preprocess).document(),
        "warnings": list(engine.warnings),
        "measurement": parameters.measurement,
        "measurement_from": engine.measurement_from,
        "findings": [asdict(finding) for finding in engine.findings],
        "heldout": HeldOut(parameters.heldout_every).document(),
        "parameters": {
            "calibration": asdict(parameters.calibration),
            "recon": asdict(parameters.recon),
            "prior": parameters.prior.model_dump(mode="json"),
            "preprocess": asdict(parameters.preprocess),
            "heldout_every": parameters.heldout_every,
        },
    }

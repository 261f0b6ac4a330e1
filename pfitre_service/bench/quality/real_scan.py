"""The methods on a real scan, where there is no truth: how well each predicts angles that it has not seen.

Every eighth angle is set aside and no method gets it; the figure is ||A x - y|| / ||y|| over those. PFITRE watches an
eighth of the others itself, as it always does. Total variation gets the weight and the iterate that are best on the
very angles that were set aside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pfitre_service.bench.quality.cases import Measurement
from pfitre_service.bench.quality.methods import (
    heldout,
    load_network,
    one_pass_and_data,
    physics,
    served,
    tuned_total_variation,
)
from pfitre_service.bench.quality.parameters import QualityParameters
from pfitre_service.bench.quality.targets import real_shortfalls
from pfitre_service.model import ScanGeometry
from pfitre_service.prior.network_prior import NetworkPrior
from pfitre_service.recon.operators.data_term import relative_residual
from pfitre_service.twin.recordings import cu23

REAL_METHODS = {
    "physics": "physics alone",
    "tv": "TV, tuned",
    "tv_served": "TV, as served",
    "one_pass": "one pass, data step",
    "pfitre": "PFITRE",
}


def run_real(parameters: QualityParameters) -> dict[str, Any]:
    """Held-out errors of `REAL_METHODS` on the fluorescence recording of the package."""
    measurement = _recording(parameters.real_rows)
    network, info = load_network(parameters.weights, parameters.weights_folder)
    aside = heldout(len(measurement.angles))
    seen = measurement.only(~aside)
    unseen, data = measurement.only(aside).accumulated(), seen.accumulated()
    watched = heldout(len(seen.angles))

    def error(x: Tensor) -> float:
        return relative_residual(unseen, x)

    tuned = tuned_total_variation(data, (lambda x: -error(x),), parameters.tv_iterations)
    split = seen.only(~watched).accumulated(), seen.only(watched).accumulated()
    errors = {
        "physics": error(physics(data, parameters.admm)),
        "tv": error(tuned.pictures[0]),
        "tv_served": error(served(*split, None, parameters.admm)),
        "one_pass": error(one_pass_and_data(*split, NetworkPrior(network, info.name), parameters.admm)),
        "pfitre": error(served(*split, NetworkPrior(network, info.name), parameters.admm)),
    }
    return {
        "recording": "cu23",
        "angles": len(measurement.angles),
        "rows": measurement.geometry.rows,
        "columns": measurement.geometry.columns,
        "heldout_angles": int(aside.sum()),
        "heldout_error": errors,
        "tv_weight": tuned.trials.weight(tuned.trials.best()),
        "tv_at_edge": tuned.trials.at_edge(),
        "shortfalls": real_shortfalls(errors),
    }


def _recording(rows: int) -> Measurement:
    """Its middle rows."""
    scan = cu23()
    first = max(0, (scan.projections.shape[1] - rows) // 2)
    projections = np.ascontiguousarray(scan.projections[:, first : first + rows])
    geometry = ScanGeometry.from_detector(rows=projections.shape[1], columns=projections.shape[2])
    return Measurement(geometry, torch.from_numpy(projections), torch.from_numpy(scan.angles))

"""From the figures of single cases to the lines of the table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.bench.quality.case_runs import CaseResult
from pfitre_service.bench.quality.cases import Scan
from pfitre_service.bench.quality.parameters import METHODS
from pfitre_service.bench.quality.targets import shortfalls
from pfitre_service.errors import InputError

Values = NDArray[np.float64]


def summarise(scan: Scan, results: Sequence[CaseResult]) -> dict[str, Any]:
    """One line: the cases of one scan. Means over slices; a slice without truth (an empty one) counts nowhere.

    Standard errors take slices as independent; neighbours within an object are alike, so the true ones are larger.
    """
    line = _figures(results)
    line |= {
        "missing": scan.missing,
        "part": scan.part,
        "objects": len(results),
        "families": {
            family: _figures([result for result in results if result.case.family == family])
            for family in dict.fromkeys(result.case.family for result in results)
        },
        "tv_weights": [result.tv_weights for result in results],
        "tv_at_edge": sum(result.tv_at_edge for result in results),
        "seconds": {name: sum(result.seconds[name] for result in results) for name in METHODS},
    }
    return line | {"shortfalls": shortfalls(line)}


def _figures(results: Sequence[CaseResult]) -> dict[str, Any]:
    psnr = {name: _slices([result.psnr[name] for result in results]) for name in METHODS}
    ssim = {name: _slices([result.ssim[name] for result in results]) for name in METHODS}
    return {
        "slices": len(psnr["pfitre"]),
        "methods": {name: {"psnr": _mean(psnr[name]), "ssim": _mean(ssim[name])} for name in METHODS},
        "gain_over_tv": {
            "psnr": _mean(psnr["pfitre"] - psnr["tv"]),
            "ssim": _mean(ssim["pfitre"] - ssim["tv"]),
        },
        "gain_over_one_pass": {
            "psnr": _mean(psnr["pfitre"] - psnr["one_pass"]),
            "ssim": _mean(ssim["pfitre"] - ssim["one_pass"]),
        },
    }


def _slices(figures: Sequence[list[float]]) -> Values:
    """Figures of all cases in one row, (slices,), without those of empty slices."""
    values = np.asarray([figure for case in figures for figure in case if not math.isnan(figure)], np.float64)
    if not values.size:
        raise InputError("all slices of a family or a scan are empty: there is nothing to compare with")
    return values


def _mean(values: Values) -> dict[str, float]:
    error = float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else 0.0
    return {"mean": float(values.mean()), "standard_error": error}

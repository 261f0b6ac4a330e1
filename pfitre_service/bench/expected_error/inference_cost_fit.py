"""What inference costs on simulated tomograms, where the truth is known: measured, fitted, and held to account."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.bench.expected_error.error_cases import ErrorCase, training_cases
from pfitre_service.engine.reconstruct import Reconstruction, reconstruct
from pfitre_service.recon.quality.inference_cost import InferenceCost, regressors

_DENSE = 0.5
"""Of the densest two hundredth of the truth: voxels above it count as dense, and as lost below half of their value."""
_LEAST_LOST = 2e-3
"""Lost shares are told apart no further."""
_MEDIAN, _UPPER = 0.5, 0.9

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class CostParameters:
    """How many tomograms, and how large."""

    rounds: int = 26
    """Tomograms of each training family."""
    size: int = 96
    seed: int = 23
    priors: tuple[str, ...] = ("tv", "auto")
    """In turn."""


def measured_cost(case: ErrorCase, result: Reconstruction) -> dict[str, Any]:
    """One tomogram: how much was missing and inferred, how wrong it was, how much dense material was lost."""
    truth, x = case.truth.numpy(), result.volume
    densest = np.sort(truth, axis=None)[-max(1, truth.size // 200) :].mean()
    dense = truth > _DENSE * densest
    gone = dense & (x < truth / 2)
    return {
        "family": case.family,
        "missing_share": result.statement.missing_share,
        "inferred_share": result.statement.inferred_share,
        "error": float(np.linalg.norm(x - truth) / np.linalg.norm(truth)),
        "lost": float(truth[gone].sum() / truth[dense].sum()),
    }


def collect(parameters: CostParameters, on_case: Callable[[str], None] = lambda name: None) -> list[dict[str, Any]]:
    """Rows of `measured_cost` over the families that training uses: about 1.3 s each on one core."""
    rows = []
    for number, case in enumerate(training_cases(parameters.rounds, parameters.size, parameters.seed)):
        on_case(case.name)
        measured = case.measurement
        # Families come in turn too: each meets each prior.
        prior = parameters.priors[(number + number // len(parameters.priors)) % len(parameters.priors)]
        result = reconstruct(
            measured.projections.numpy(), measured.angles.numpy(), axis=measured.geometry.axis, prior=prior
        )
        rows.append(measured_cost(case, result))
    return rows


def fit(rows: Sequence[Row], parameters: CostParameters) -> InferenceCost:
    """The coefficients, from rows of `collect`."""
    terms = np.array([regressors(row["missing_share"], row["inferred_share"]) for row in rows])
    error = np.log([row["error"] for row in rows])
    lost = np.log([max(row["lost"], _LEAST_LOST) for row in rows])
    families = np.array([row["family"] for row in rows])
    about = {
        "families": sorted(set(families.tolist())),
        "tomograms": len(rows),
        "size": parameters.size,
        "seed": parameters.seed,
        "priors": list(parameters.priors),
    }
    return InferenceCost(
        error=_coefficients(quantile_regression(terms, error, _MEDIAN)),
        error_upper=_coefficients(_for_the_worst_family(terms, error, families)),
        lost_upper=_coefficients(_for_the_worst_family(terms, lost, families)),
        about=about,
    )


def quantile_regression(
    terms: NDArray[np.float64], values: NDArray[np.float64], quantile: float
) -> NDArray[np.float64]:
    """c (terms,) for which sum of q max(r, 0) + (1 - q) max(-r, 0), r = values - terms c, is least; values (n,)."""
    from scipy.optimize import linprog

    count, width = terms.shape
    above, below = np.full(count, quantile), np.full(count, 1 - quantile)
    costs = np.concatenate([np.zeros(2 * width), above, below])
    balance = np.hstack([terms, -terms, np.eye(count), -np.eye(count)])
    solved = linprog(costs, A_eq=balance, b_eq=values, bounds=(0, None), method="highs")
    found = np.asarray(solved.x, dtype=np.float64)
    return found[:width] - found[width : 2 * width]


def coverage(rows: Iterable[Row], cost: InferenceCost) -> dict[str, Any]:
    """How many tomograms were no worse than what is said of their like."""
    pairs = [(row, cost.cost(row["missing_share"], row["inferred_share"])) for row in rows]
    return {
        "error": sum(row["error"] <= said.error_upper for row, said in pairs),
        "lost": sum(row["lost"] <= max(said.lost_upper, _LEAST_LOST) for row, said in pairs),
        "of": len(pairs),
    }


def _for_the_worst_family(
    terms: NDArray[np.float64], values: NDArray[np.float64], families: NDArray[np.str_]
) -> NDArray[np.float64]:
    """The upper quantile, raised so that it holds for each family when the fit has not seen it."""
    excess = []
    for family in np.unique(families):
        own = families == family
        fitted = quantile_regression(terms[~own], values[~own], _UPPER)
        excess.append(float(np.quantile(values[own] - terms[own] @ fitted, _UPPER)))
    coefficients = quantile_regression(terms, values, _UPPER)
    coefficients[0] += max(0.0, *excess)
    return coefficients


def _coefficients(values: NDArray[np.float64]) -> tuple[float, float, float]:
    constant, missing, inferred = values.tolist()
    if not all(map(math.isfinite, (constant, missing, inferred))):
        raise ArithmeticError(f"the fit of what inference costs has no finite coefficients: {values}")
    return constant, missing, inferred

"""How wrong whole volumes were, on simulated samples, of which as much was inferred (decision 42).

The held-out error sees measured directions alone: it is as small for a volume that has lost a third of its metal as for
the right one. What inference has cost can only be learnt where the truth is known. Over simulated tomograms, y being

    error    ||x - truth|| / ||truth||
    lost     share of the dense material whose voxels hold less than half of what they should

quantiles are fitted by least absolute deviations (Koenker and Bassett 1978, Econometrica 46, 33-50),

    log y  ~  c0 + c1 * missing share + c2 * log(inferred share)

and the upper ones are raised until they hold for nine of ten samples of *each* family that the fit had not seen, the
worst one included. `pfitre bench expected-error --fit-cost` makes the coefficients; `pfitre bench expected-error` says
how far they hold.
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from importlib import resources
from typing import Any

_FILE = "inference_cost.json"
_LEAST_SHARE = 1e-3
"""Inferred shares are told apart no further."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of simulated samples measured like one volume, as shares; NaN where the volume has no inferred share."""

    error: float
    """||x - truth|| / ||truth|| of half of them is below this."""
    error_upper: float
    """Of nine in ten, in each family."""
    lost_upper: float
    """Share of the dense material that was gone: of nine in ten, in each family."""


@dataclass(frozen=True, eq=False)
class InferenceCost:
    """Coefficients (constant, of the missing share, of the inferred share's logarithm) of log y."""

    error: tuple[float, float, float]
    """Of the median of ||x - truth|| / ||truth||."""
    error_upper: tuple[float, float, float]
    """Of its upper quantile."""
    lost_upper: tuple[float, float, float]
    """Of the upper quantile of the share that was lost."""
    about: dict[str, Any]
    """What it was fitted on."""

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> InferenceCost:
        """Reads what `document` has written.

        Parameters
        ----------
        document
            From a JSON file.

        Returns
        -------
        InferenceCost
            The coefficients.
        """
        numbers = {name: _three(document[name]) for name in _NAMES}
        return cls(**numbers, about=document["about"])

    def document(self) -> dict[str, Any]:
        """The coefficients as a JSON file has them; `from_document` reads them back."""
        return {name: [round(value, 4) for value in getattr(self, name)] for name in _NAMES} | {"about": self.about}

    def cost(self, missing: float, inferred: float) -> Cost:
        """How wrong simulated samples were that were measured like one volume.

        Parameters
        ----------
        missing
            Share of the spatial frequencies that no angle measured.
        inferred
            ||inferred part|| / ||x||.

        Returns
        -------
        Cost
            Shares; NaN where one of the two is not finite.
        """
        if not (math.isfinite(missing) and math.isfinite(inferred)):
            return Cost(math.nan, math.nan, math.nan)
        terms = regressors(missing, inferred)
        upper = _bounded(self.error_upper, terms)
        return Cost(min(_bounded(self.error, terms), upper), upper, _bounded(self.lost_upper, terms))


_NAMES = ("error", "error_upper", "lost_upper")


def _three(values: list[float]) -> tuple[float, float, float]:
    constant, missing, inferred = map(float, values)
    return constant, missing, inferred


def regressors(missing: float, inferred: float) -> tuple[float, float, float]:
    """What the coefficients belong to.

    Parameters
    ----------
    missing
        Share of the spatial frequencies that no angle measured.
    inferred
        ||inferred part|| / ||x||.

    Returns
    -------
    tuple[float, float, float]
        1, the missing share, and the logarithm of the inferred share.
    """
    return 1.0, missing, math.log(max(inferred, _LEAST_SHARE))


def _bounded(coefficients: tuple[float, float, float], terms: tuple[float, float, float]) -> float:
    """A share; more than the whole is no different from the whole."""
    return math.exp(min(0.0, sum(map(float.__mul__, coefficients, terms))))


@functools.cache
def shipped_inference_cost() -> InferenceCost:
    """The one that comes with the package."""
    text = resources.files("pfitre_service.recon.quality").joinpath(_FILE).read_text(encoding="utf-8")
    return InferenceCost.from_document(json.loads(text))

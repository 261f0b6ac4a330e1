"""What inference costs: measured on volumes whose fault is known, fitted by quantiles, held for the worst family."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pfitre_service.bench.expected_error.error_cases import ErrorCase, Measurement
from pfitre_service.bench.expected_error.inference_cost_fit import (
    CostParameters,
    coverage,
    fit,
    measured_cost,
    quantile_regression,
)
from pfitre_service.model import ScanGeometry


@dataclass
class Volume:
    """A reconstruction as `measured_cost` reads it."""

    volume: NDArray[np.float32]
    statement: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(missing_share=0.5, inferred_share=0.3))


def discs(*kept: bool) -> NDArray[np.float32]:
    """Four discs of equal area and density in a slice of 64 pixels, those that are kept."""
    y, x = np.mgrid[:64, :64]
    slices = np.zeros((2, 64, 64), np.float32)
    for (row, column), is_kept in zip(((16, 16), (16, 48), (48, 16), (48, 48)), kept, strict=True):
        if is_kept:
            slices[:, np.hypot(y - row, x - column) < 8] = 1.5
    return slices


def case(truth: NDArray[np.float32]) -> ErrorCase:
    nothing = torch.zeros(0)
    measured = Measurement(ScanGeometry.from_detector(rows=2, columns=64), nothing, nothing)
    return ErrorCase("four discs", "discs", measured, torch.from_numpy(truth))


def test_of_four_discs_one_that_is_gone_is_a_quarter_lost_and_half_an_error():
    truth = discs(True, True, True, True)
    row = measured_cost(case(truth), Volume(discs(True, True, False, True)))
    assert row["lost"] == pytest.approx(0.25)
    assert row["error"] == pytest.approx(0.5)
    assert measured_cost(case(truth), Volume(truth))["lost"] == 0


def test_a_volume_that_is_too_dark_by_a_third_has_lost_nothing():
    truth = discs(True, True, True, True)
    row = measured_cost(case(truth), Volume(truth * np.float32(2 / 3)))
    assert row["lost"] == 0
    assert row["error"] == pytest.approx(1 / 3)


def test_a_constant_alone_is_fitted_by_the_quantile_itself():
    values = np.random.default_rng(1).exponential(size=501)
    for quantile in (0.5, 0.9):
        (found,) = quantile_regression(np.ones((501, 1)), values, quantile)
        assert found == pytest.approx(np.quantile(values, quantile), rel=1e-6)


def rows(worse: float) -> list[dict[str, float | str]]:
    """Three families whose error follows the inferred share, the last one `worse` times as wrong."""
    rng = np.random.default_rng(2)
    made: list[dict[str, float | str]] = []
    for family, factor in (("a", 1.0), ("b", 1.0), ("c", worse)):
        for _ in range(60):
            missing, inferred = rng.uniform(0.1, 0.7), rng.uniform(0.05, 0.6)
            error = factor * 0.2 * np.exp(missing) * inferred**0.5 * rng.uniform(0.8, 1.2)
            shares = {"missing_share": missing, "inferred_share": inferred}
            made.append({"family": family, **shares, "error": error, "lost": error / 4})
    return made


def test_the_upper_bound_holds_for_the_worst_family_which_the_fit_had_not_seen():
    parameters = CostParameters()
    alike, unlike = fit(rows(1.0), parameters), fit(rows(2.0), parameters)
    worst = [row for row in rows(2.0) if row["family"] == "c"]
    assert coverage(worst, unlike)["error"] >= 54
    assert coverage(worst, alike)["error"] < 10
    ordinary = alike.cost(0.4, 0.3)
    truly = 0.2 * np.exp(0.4) * 0.3**0.5
    assert ordinary.error == pytest.approx(truly, rel=0.05)
    assert ordinary.error_upper == pytest.approx(1.16 * truly, rel=0.1)
    assert unlike.about["families"] == ["a", "b", "c"]

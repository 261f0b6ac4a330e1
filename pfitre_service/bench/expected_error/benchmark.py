"""Whether what is said of a volume's quality holds, on tomograms whose truth is known and whose kind the fit never saw.

1. Does the map of expected errors rank the voxels as their true errors do (Spearman), and is it as large as they are?
2. Was the volume no worse than simulated samples of which as much was inferred are said to have been?
3. Is the held-out error of a wrong reconstruction larger than that of the right one? Wrong: the axis three columns off;
   angles that have lost their sign, counted from the middle of the scan; a disc that was never there, pasted into the
   volume. Angles that all turn the other way are no case: their volume is the mirror image, which explains every
   projection as well, and no projection can tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pfitre_service.bench.expected_error.error_cases import ErrorCase, heldback_cases
from pfitre_service.bench.expected_error.inference_cost_fit import coverage, measured_cost
from pfitre_service.engine.reconstruct import Reconstruction, reconstruct
from pfitre_service.errors import InputError
from pfitre_service.recon.operators.data_term import relative_residual
from pfitre_service.recon.quality.inference_cost import shipped_inference_cost

_AXIS_OFF = 3.0
_EVERY = 8
_BINS = 12
_LEAST = 0.1
"""Of the mean of the largest values: voxels above it count as the sample."""


def run(
    prior: str = "auto",
    *,
    size: int = 128,
    on_case: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Figures for each tomogram, over all of them, and the points of the reliability plot."""
    rows, predicted, true = [], [], []
    for case in heldback_cases(size):
        on_case(case.name)
        measured = case.measurement
        right = _reconstructed(measured.angles.numpy(), case, prior)
        error = np.abs(right.volume - case.truth.numpy())
        rows.append(
            {
                "case": case.name,
                "prior": right.prior,
                **_ranks(right, error),
                "expected_over_true": float(right.expected_error.mean() / error.mean()),
                **measured_cost(case, right),
                "heldout_error": right.heldout_error,
                "axis_off": _error_or_refused(measured.angles.numpy(), case, prior, _AXIS_OFF),
                "wrong_sign": _error_or_refused(_unsigned(measured.angles), case, prior),
                **_pasted(case, prior),
            }
        )
        scale = float(case.truth.max())
        predicted.append(right.expected_error.ravel() / scale)
        true.append(error.ravel() / scale)
    return {
        "tomograms": rows,
        **_overall(rows),
        "no_worse_than_said": coverage(rows, shipped_inference_cost()),
        "reliability": _reliability(np.concatenate(predicted), np.concatenate(true)),
    }


def _reconstructed(angles: NDArray[np.float64], case: ErrorCase, prior: str, axis_off: float = 0.0) -> Reconstruction:
    measured = case.measurement
    return reconstruct(measured.projections.numpy(), angles, axis=measured.geometry.axis + axis_off, prior=prior)


def _error_or_refused(angles: NDArray[np.float64], case: ErrorCase, prior: str, axis_off: float = 0.0) -> float:
    """The held-out error; infinite for a scan that is refused, since none could be known better as wrong."""
    try:
        return _reconstructed(angles, case, prior, axis_off).heldout_error
    except InputError:
        return math.inf


def _unsigned(angles: torch.Tensor) -> NDArray[np.float64]:
    middle = angles.mean()
    return (middle + (angles - middle).abs()).numpy()


def _ranks(result: Reconstruction, error: NDArray[np.float32]) -> dict[str, float]:
    from scipy.stats import spearmanr

    sample = result.volume > _LEAST * np.sort(result.volume, axis=None)[-result.volume.size // 50 :].mean()
    return {
        "spearman": float(spearmanr(result.expected_error, error, axis=None).statistic),
        "spearman_in_sample": float(spearmanr(result.expected_error[sample], error[sample]).statistic),
        "expected_over_true_in_sample": float(result.expected_error[sample].mean() / error[sample].mean()),
    }


def _pasted(case: ErrorCase, prior: str) -> dict[str, float]:
    """Held-out error of a volume from all but the held-out angles, and with a disc pasted in that is not there."""
    measured = case.measurement
    held = torch.arange(len(measured.angles)) % _EVERY == _EVERY // 2
    solved, heldout = measured.only(~held), measured.only(held)
    result = reconstruct(solved.projections.numpy(), solved.angles.numpy(), axis=measured.geometry.axis, prior=prior)
    volume, data = torch.from_numpy(result.volume), heldout.accumulated()
    size = volume.shape[-1]
    place = torch.arange(size, dtype=torch.float32)
    away = torch.hypot(place[:, None] - 0.55 * size, place[None, :] - 0.45 * size)
    disc = (away < 0.06 * size).float() * 0.5 * float(volume.max())
    return {"unpasted": relative_residual(data, volume), "pasted": relative_residual(data, volume + disc)}


def _overall(rows: list[dict[str, Any]]) -> dict[str, Any]:
    ranks = np.array([row["spearman"] for row in rows])
    inside = np.array([row["spearman_in_sample"] for row in rows])
    return {
        "spearman": {"mean": float(ranks.mean()), "min": float(ranks.min()), "at_least_0.6": int((ranks >= 0.6).sum())},
        "spearman_in_sample": {"mean": float(inside.mean()), "min": float(inside.min())},
        **{
            name: _spread([row[name] for row in rows])
            for name in ("expected_over_true", "expected_over_true_in_sample")
        },
        "ranked_worse": {
            "axis_off": sum(row["axis_off"] > row["heldout_error"] for row in rows),
            "wrong_sign": sum(row["wrong_sign"] > row["heldout_error"] for row in rows),
            "pasted": sum(row["pasted"] > row["unpasted"] for row in rows),
            "of": len(rows),
        },
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "min": min(values), "max": max(values)}


def _reliability(predicted: NDArray[np.float32], true: NDArray[np.float32]) -> list[dict[str, float]]:
    """Voxels in bins of equal numbers by their expected error: means of both, in units of the largest true value."""
    order = np.argsort(predicted)
    return [
        {"expected": float(predicted[part].mean()), "true": float(true[part].mean())}
        for part in np.array_split(order, _BINS)
    ]


def render(result: dict[str, Any]) -> str:
    """The figures as text."""
    ranks, inside, worse, said = (
        result[name] for name in ("spearman", "spearman_in_sample", "ranked_worse", "no_worse_than_said")
    )
    lines = [
        f"{row['case']:44s} {row['prior']:10s} {row['spearman']:.2f} {row['spearman_in_sample']:6.2f} "
        f"{row['expected_over_true']:8.2f} {row['expected_over_true_in_sample']:7.2f} {row['error']:10.2f} "
        f"{row['lost']:6.2f}"
        for row in result["tomograms"]
    ]
    return "\n".join(
        [
            f"{'':44s} {'prior':10s} rank  inside  expected/true inside  true error  lost",
            *lines,
            f"rank correlation of expected and true error: mean {ranks['mean']:.2f}, least {ranks['min']:.2f}; "
            f"{ranks['at_least_0.6']} of {worse['of']} at least 0.6 (inside the sample: mean {inside['mean']:.2f}, "
            f"least {inside['min']:.2f})",
            f"expected over true error, mean of each volume: {_words(result['expected_over_true'])}",
            f"the same inside the sample: {_words(result['expected_over_true_in_sample'])}",
            f"no worse than simulated samples of which as much was inferred, of {said['of']}: error {said['error']}, "
            f"dense material lost {said['lost']}",
            f"the held-out error ranks as worse, of {worse['of']}: axis off {worse['axis_off']}, angles without "
            f"their sign {worse['wrong_sign']}, a disc pasted in {worse['pasted']}",
        ]
    )


def _words(spread: dict[str, float]) -> str:
    return f"{spread['min']:.2f} to {spread['max']:.2f}, median {spread['median']:.2f}"


def draw(path: Path, result: dict[str, Any]) -> None:
    """The reliability plot: mean true error of voxels against the error that was expected of them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    points = result["reliability"]
    expected, true = ([point[name] for point in points] for name in ("expected", "true"))
    figure, axes = pyplot.subplots(figsize=(4.6, 4.4), layout="constrained")
    ends = min(expected + true) * 0.8, max(expected + true) * 1.2
    axes.loglog(ends, ends, color="0.6", linewidth=1, label="as expected")
    axes.loglog(expected, true, "o-", color="#1f6fb2", label=f"{len(result['tomograms'])} tomograms, equal bins")
    axes.set_xlabel("expected error, share of the largest true value")
    axes.set_ylabel("true error")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)

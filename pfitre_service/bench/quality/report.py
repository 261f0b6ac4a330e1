"""The quality benchmark's result as Markdown, and written into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pfitre_service.bench.quality.case_runs import CaseResult
from pfitre_service.bench.quality.parameters import METHODS
from pfitre_service.bench.quality.real_scan import REAL_METHODS
from pfitre_service.json_values import strict_json

_INCHES = 1.9


def write_report(result: dict[str, Any], folder: Path) -> None:
    """`quality.json` and `quality.md` in the folder."""
    (folder / "quality.json").write_text(strict_json(result, "the result", indent=1) + "\n", encoding="utf-8")
    (folder / "quality.md").write_text(markdown(result), encoding="utf-8")


def scan_words(line: dict[str, Any]) -> str:
    """Which scan a line is of, short."""
    part = "" if line["part"] == 1 else f", {line['part']:.0%} of the scan"
    return f"{line['missing']:g}°{part}"


def figure_words(figures: dict[str, Any]) -> str:
    """PSNR and SSIM of one method."""
    psnr, ssim = figures["psnr"], figures["ssim"]
    return f"{psnr['mean']:.2f} ± {psnr['standard_error']:.2f} / {ssim['mean']:.3f}"


def gain_words(gain: dict[str, Any]) -> str:
    """A gain in decibels and SSIM."""
    return f"{gain['psnr']['mean']:+.2f} / {gain['ssim']['mean']:+.3f}"


def markdown(result: dict[str, Any]) -> str:
    """The result as a page: conditions, the table of all scans, families, the real scan."""
    parts = [_conditions(result), _scans(result["scans"]), _families(result["scans"])]
    if result["real"] is not None:
        parts.append(_real(result["real"]))
    return "\n\n".join(parts) + "\n"


def _conditions(result: dict[str, Any]) -> str:
    conditions, weights = result["conditions"], result["weights"]
    return (
        f"Weights `{weights['name']}` (SHA-256 `{weights['sha256']}`). "
        f"Objects of kinds that training never saw: {', '.join(conditions['families'])}; "
        f"{conditions['objects_of_each_family']} of each, {conditions['slices_of_each_object']} slices of "
        f"{conditions['size']} x {conditions['size']} pixels an object; "
        f"{conditions['angles_per_degree']:g} angles for each degree of the measured range; Poisson noise, "
        f"{conditions['noise']['counts_at_maximum']:g} counts at the largest line integral. "
        f"PSNR in dB (mean over slices ± its standard error; the peak is the largest value of the slice's truth) / SSIM"
        f"; negative values count as 0. TV's weight and iterate are the best for each "
        f"case against the truth, for PSNR and for SSIM apart; as served, held-out angles choose them, as they do for "
        f"PFITRE. SIRT has {conditions['sirt_iterations']} iterations."
    )


def _scans(lines: list[dict[str, Any]]) -> str:
    header = ["missing", "slices", *METHODS.values(), "PFITRE over TV", "PFITRE over one pass", "falls short"]
    rows = [
        [
            scan_words(line),
            str(line["slices"]),
            *(figure_words(line["methods"][name]) for name in METHODS),
            gain_words(line["gain_over_tv"]),
            gain_words(line["gain_over_one_pass"]),
            "; ".join(line["shortfalls"]) or "of nothing",
        ]
        for line in lines
    ]
    return _table(header, rows)


def _families(lines: list[dict[str, Any]]) -> str:
    families = list(lines[0]["families"])
    rows = [
        [scan_words(line), *(gain_words(line["families"][family]["gain_over_tv"]) for family in families)]
        for line in lines
    ]
    return "PFITRE over TV, by family (dB / SSIM):\n\n" + _table(["missing", *families], rows)


def _real(real: dict[str, Any]) -> str:
    errors = real["heldout_error"]
    words = (
        f"Real scan `{real['recording']}`: ||A x - y|| / ||y|| over {real['heldout_angles']} of {real['angles']} "
        f"angles that no method was given, {real['rows']} rows of {real['columns']} columns; "
        f"falls short: {'; '.join(real['shortfalls']) or 'of nothing'}."
    )
    return words + "\n\n" + _table(list(REAL_METHODS.values()), [[f"{errors[name]:.4f}" for name in REAL_METHODS]])


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def draw_sheet(path: Path, results: Sequence[CaseResult]) -> None:
    """Writes a PNG: truth and methods side by side, PSNR of the slice below each. One grey scale a row, the truth's."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = {"truth": "truth", **METHODS}
    figure, axes = pyplot.subplots(
        len(results),
        len(columns),
        figsize=(_INCHES * len(columns), (_INCHES + 0.2) * len(results) + 0.5),
        layout="constrained",
        squeeze=False,
    )
    figure.suptitle(f"{results[0].case.scan}", fontsize=10)
    for row, result in zip(axes, results, strict=True):
        truth = result.pictures["truth"]
        for axis, (name, words) in zip(row, columns.items(), strict=True):
            axis.imshow(result.pictures[name], cmap="gray", vmin=0, vmax=truth.max(), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if result is results[0]:
                axis.set_title(words, fontsize=9)
            if name == "truth":
                axis.set_ylabel(result.case.family.replace("_", " "), fontsize=8)
            else:
                axis.set_xlabel(f"{result.psnr[name][len(result.psnr[name]) // 2]:.1f} dB", fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)

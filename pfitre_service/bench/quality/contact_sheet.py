"""The quality benchmark's pictures: a row for each family, a column for each method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pfitre_service.bench.quality.parameters import METHODS
from pfitre_service.bench.quality.run import CaseResult

_INCHES = 1.9


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

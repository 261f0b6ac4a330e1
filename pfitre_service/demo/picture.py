"""The demo's picture: the same slices of several volumes side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Volume = NDArray[Any]


def draw(path: Path, volumes: Mapping[str, Volume], *, title: str) -> None:
    """Writes a PNG: a column for each volume (z, y, x), an axial and an upright slice below each other.

    One grey scale for all, from the last volume but one in `volumes` (the result), so that they can be compared.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    result = volumes["result"]
    low, high = (float(value) for value in np.percentile(result, (1, 99.8)))
    z, y = _busiest(result)
    figure, axes = pyplot.subplots(
        2, len(volumes), figsize=(3.4 * len(volumes), 5.6), layout="constrained", height_ratios=(1.5, 1), squeeze=False
    )
    figure.suptitle(title, fontsize=9, wrap=True, parse_math=False)  # a name may have dollars in it
    for column, (name, volume) in enumerate(volumes.items()):
        for row, (picture, words) in enumerate(((volume[z], f"slice z = {z}"), (volume[:, y], f"slice y = {y}"))):
            axis = axes[row, column]
            axis.imshow(picture, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(name, fontsize=11, parse_math=False)
            if column == 0:
                axis.set_ylabel(words, fontsize=9)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _busiest(volume: Volume) -> tuple[int, int]:
    """The slices along z and y with most contrast, away from the faces."""
    inner = volume[:, len(volume[0]) // 4 : -len(volume[0]) // 4]
    z = int(np.argmax(volume.std(axis=(1, 2))))
    y = int(np.argmax(inner.std(axis=(0, 2)))) + len(volume[0]) // 4
    return z, y

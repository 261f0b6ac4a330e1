"""A stack of TIFF pages, float32, one a slice: the main array alone.

Up to 4 GB it is what ImageJ writes itself: it opens with its voxel size, and Image > Show Info has the provenance.
Beyond that it is a BigTIFF whose ImageDescription is the provenance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from pfitre_service.export import provenance
from pfitre_service.export.tomogram import Tomogram, slabs
from pfitre_service.json_values import strict_json

IMAGEJ_BYTES = (4 << 30) - (64 << 20)
"""Larger stacks do not fit in a TIFF with addresses of 32 bits."""


def write_tiff(
    path: Path, tomogram: Tomogram, on_slices: Callable[[int], None], *, imagej_bytes: int = IMAGEJ_BYTES
) -> None:
    """Writes a TIFF.

    Parameters
    ----------
    path
        Of the output.
    tomogram
        What is written.
    on_slices
        Told after each slab how many slices more are written.
    imagej_bytes
        Larger stacks become BigTIFF.
    """
    document = strict_json(provenance.provenance(tomogram), "the record")
    small = 4 * math.prod(tomogram.shape) <= imagej_bytes
    tifffile.imwrite(
        path,
        _pages(tomogram, on_slices),
        shape=tomogram.shape,
        dtype=np.float32,
        photometric="minisblack",
        **_resolution(tomogram.pixel_size_nm),
        **(_imagej(tomogram.pixel_size_nm, document) if small else _big(document)),
    )


def _pages(tomogram: Tomogram, on_slices: Callable[[int], None]) -> Iterator[NDArray[np.float32]]:
    for _, slices in slabs(tomogram.main):
        yield from slices
        on_slices(len(slices))


def _resolution(pixel_size_nm: float | None) -> dict[str, Any]:
    """Pixels per unit: per micrometre as ImageJ has it; the unit itself is in the description."""
    if pixel_size_nm is None:
        return {}
    return {"resolution": (1000 / pixel_size_nm, 1000 / pixel_size_nm)}


def _imagej(pixel_size_nm: float | None, document: str) -> dict[str, Any]:
    scale = {} if pixel_size_nm is None else {"spacing": pixel_size_nm / 1000, "unit": "um"}
    return {"imagej": True, "metadata": {"axes": "ZYX", "Info": document, **scale}}


def _big(document: str) -> dict[str, Any]:
    # Without metadata=None tifffile would write a description of its own in a second tag.
    return {"bigtiff": True, "description": document, "metadata": None}

"""OME-Zarr 0.5 (Zarr 3): one image with a channel for each array, and smaller copies for viewers.

A folder, or one file (.zip, stored without compression, `zarr.json` first) that travels more easily.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pfitre_service.export import provenance
from pfitre_service.export.tomogram import Tomogram, slab_depth, slabs

_SMALLEST = 128
"""A level whose longest side is no longer than this is the last."""
_CHUNK = 512
_COLOURS = {
    "volume": "FFFFFF",
    "physics": "00FFFF",
    "expected_error": "FF8000",
    "inferred": "FF00FF",
    "preview": "FFFF00",
}


def write_ome_zarr(path: Path, tomogram: Tomogram, on_slices: Callable[[int], None]) -> None:
    """Writes a folder, or a zip where the path ends so.

    Parameters
    ----------
    path
        Of the output.
    tomogram
        What is written.
    on_slices
        Told after each slab how many slices more are written.
    """
    if path.suffix != ".zip":
        _write_folder(path, tomogram, on_slices)
        return
    folder = path.with_suffix(".folder")
    try:
        _write_folder(folder, tomogram, on_slices)
        _pack(folder, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_folder(path: Path, tomogram: Tomogram, on_slices: Callable[[int], None]) -> None:
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    level = _create(group, 0, (len(tomogram.arrays), *tomogram.shape))
    ranges = []
    for channel, array in enumerate(tomogram.arrays.values()):
        low, high = np.inf, -np.inf
        for first, slices in slabs(array):
            level[channel, first : first + len(slices)] = slices
            low, high = min(low, float(slices.min())), max(high, float(slices.max()))
            on_slices(len(slices))
        ranges.append((low, high))
    factors: list[tuple[int, ...]] = [(1, 1, 1)]
    while max(level.shape[1:]) > _SMALLEST:
        factor = tuple(2 if size > 1 else 1 for size in level.shape[1:])
        level = _halve(group, len(factors), level, factor)
        factors.append(tuple(a * b for a, b in zip(factors[-1], factor, strict=True)))
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [_multiscale(tomogram, factors)],
        "omero": {"name": tomogram.name, "channels": _channels(tomogram, ranges, level[:])},
    }
    group.attrs["pfitre"] = provenance.provenance(tomogram)


def _create(group: Any, level: int, shape: tuple[int, ...]) -> Any:
    chunks = (1, slab_depth((shape[1], shape[2], shape[3])), min(shape[2], _CHUNK), min(shape[3], _CHUNK))
    return group.create_array(
        str(level), shape=shape, dtype="float32", chunks=chunks, dimension_names=("c", "z", "y", "x")
    )


def _halve(group: Any, number: int, larger: Any, factor: tuple[int, ...]) -> Any:
    """The next level: means of 2 x 2 x 2 voxels, what is left over at the far end left out."""
    channels, *sizes = larger.shape
    smaller = _create(group, number, (channels, *(size // by for size, by in zip(sizes, factor, strict=True))))
    depth = slab_depth((smaller.shape[1], smaller.shape[2], smaller.shape[3]))
    for channel in range(channels):
        for first in range(0, smaller.shape[1], depth):
            stop = min(first + depth, smaller.shape[1])
            smaller[channel, first:stop] = _means(larger[channel, first * factor[0] : stop * factor[0]], factor)
    return smaller


def _means(slices: NDArray[np.float32], factor: tuple[int, ...]) -> NDArray[np.float32]:
    depth, height, width = (size // by for size, by in zip(slices.shape, factor, strict=True))
    fitted = slices[: depth * factor[0], : height * factor[1], : width * factor[2]]
    blocks = fitted.reshape(depth, factor[0], height, factor[1], width, factor[2])
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32)


def _multiscale(tomogram: Tomogram, factors: list[tuple[int, ...]]) -> dict[str, Any]:
    size = tomogram.pixel_size_nm
    space = {"type": "space"} if size is None else {"type": "space", "unit": "nanometer"}
    step = 1.0 if size is None else size
    return {
        "name": tomogram.name,
        "axes": [{"name": "c", "type": "channel"}, *({"name": name, **space} for name in "zyx")],
        "datasets": [
            {"path": str(level), "coordinateTransformations": _placed(factor, step)}
            for level, factor in enumerate(factors)
        ],
        "type": "mean",
    }


def _placed(factor: tuple[int, ...], step: float) -> list[dict[str, Any]]:
    """Scale, and the shift of a coarser voxel's middle against the finest level's first one."""
    scale = {"type": "scale", "scale": [1.0, *(by * step for by in factor)]}
    shift = {"type": "translation", "translation": [0.0, *((by - 1) / 2 * step for by in factor)]}
    return [scale, shift] if max(factor) > 1 else [scale]


def _channels(
    tomogram: Tomogram, ranges: list[tuple[float, float]], smallest: NDArray[np.float32]
) -> list[dict[str, Any]]:
    """What viewers show at first: the volume alone, in a window without the last outliers of the smallest copy."""
    channels = []
    for place, (name, (low, high)) in enumerate(zip(tomogram.arrays, ranges, strict=True)):
        start, end = (float(value) for value in np.percentile(smallest[place], (1, 99.7)))
        window = {"min": low, "max": high, "start": start, "end": end}
        channels.append({"label": name, "color": _COLOURS.get(name, "FFFFFF"), "active": place == 0, "window": window})
    return channels


def _pack(folder: Path, path: Path) -> None:
    files = sorted((file for file in folder.rglob("*") if file.is_file()), key=lambda file: len(file.parts))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for file in files:
            archive.write(file, file.relative_to(folder).as_posix())

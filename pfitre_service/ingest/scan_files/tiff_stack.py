"""TIFF images with a table of angles: a file of many pages, or a folder of files of one page or several."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.ingest.scan_files.angle_table import read_angles
from pfitre_service.ingest.scan_files.file_order import Order, ordered, without_strangers
from pfitre_service.ingest.scan_files.stored_scan import StoredScan

_SUFFIXES = {".tif", ".tiff"}
_COLOURS = "S"
_CHANNELS = "C"


def read_tiff_scan(path: Path, angles: Path | None, order: Order) -> StoredScan:
    """The images in the order that table or names say; what they hold is not said.

    Parameters
    ----------
    path
        TIFF file of many pages, or folder.
    angles
        Table of degrees; None for the one beside `path`.
    order
        Of the images in a folder, see `file_order`.

    Returns
    -------
    StoredScan
        The whole scan.

    Raises
    ------
    InputError
        Images or angles cannot be read, or do not fit.
    """
    files, notes = _files(path)
    table = angles or (path.with_suffix(".csv") if path.is_file() else path.with_name(path.name + ".csv"))
    known = read_angles(table) if angles is not None or table.exists() or path.is_file() else None
    found = ordered(files, known, order)
    projections, joined = _joined(found.files)
    with_table = "" if known is None else f" with the angles of {table.name}"
    return StoredScan(
        projections=projections,
        angles=found.angles,
        flats=None,
        darks=None,
        measurement=None,
        pixel_size_nm=None,
        source=f"TIFF {'folder' if path.is_dir() else 'stack'} {path}{with_table}",
        notes=(*notes, *(found.notes if path.is_dir() else ()), *joined),
    )


def read_stack(path: Path) -> NDArray[Any]:
    """Flats or darks out of a file, or a folder of files in natural order.

    Parameters
    ----------
    path
        TIFF file or folder.

    Returns
    -------
    NDArray[Any]
        (image, row, column), as stored.

    Raises
    ------
    InputError
        It cannot be read.
    """
    if not path.exists():
        raise InputError(f"no such file or folder: {path}")
    files, _ = _files(path)
    return _joined(sorted(files, key=lambda file: file.name))[0]


def _files(path: Path) -> tuple[list[Path], list[str]]:
    if path.is_file():
        return [path], []
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES and file.is_file())
    files, notes = without_strangers(found)
    if not files:
        raise InputError(f"{path}: expected a folder of TIFF images (.tif, .tiff), found none")
    return files, notes


def _joined(files: Sequence[Path]) -> tuple[NDArray[Any], list[str]]:
    """All images, and a note where files have several."""
    blocks = [_read(file) for file in files]
    for file, block in zip(files, blocks, strict=True):
        if block.shape[1:] != blocks[0].shape[1:] or block.dtype != blocks[0].dtype:
            raise InputError(
                f"{file}: expected images of {blocks[0].shape[1:]} {blocks[0].dtype} like those of "
                f"{files[0].name}, got {block.shape[1:]} {block.dtype}"
            )
    several = len(files) > 1 and any(len(block) > 1 for block in blocks)
    notes = [f"files of several images were joined one after the other: {len(files)} files"] if several else []
    return np.concatenate(blocks), notes


def _read(path: Path) -> NDArray[Any]:
    """(image, row, column) of one file."""
    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            if len(file.series) > 1:
                raise InputError(f"{path}: expected images of one kind, found {len(file.series)} kinds in one file")
            axes, shape = series.axes, series.shape
            _check_axes(path, axes, shape)
            image = np.asarray(series.asarray())
    except (OSError, tifffile.TiffFileError, ValueError, IndexError, KeyError, struct.error, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as TIFF (damaged or cut short?): {error!s:.200}") from error
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be decompressed: {error!s:.200}") from error
    return image.reshape(-1, *image.shape[-2:])


def _check_axes(path: Path, axes: str, shape: tuple[int, ...]) -> None:
    sizes = dict(zip(axes, shape, strict=True))
    if sizes.get(_COLOURS, 1) > 1:
        raise InputError(f"{path}: expected grey values, found colours; save the images as grey values of 16 or 32 bit")
    if sizes.get(_CHANNELS, 1) > 1:
        raise InputError(
            f"{path}: expected images of one channel, found {sizes[_CHANNELS]}; save the one to reconstruct"
        )
    stacked = [axis for axis, size in zip(axes[:-2], shape[:-2], strict=True) if size > 1]
    if len(axes) < 2 or axes[-2:] != "YX" or len(stacked) > 1:
        raise InputError(f"{path}: expected images (angle, row, column), got the axes {axes} of the lengths {shape}")

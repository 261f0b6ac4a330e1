"""TIFF images with a CSV table of angles."""

from __future__ import annotations

import csv
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.ingest.stored_scan import StoredScan

_SUFFIXES = {".tif", ".tiff"}


def read_tiff_scan(path: Path, angles: Path | None, flats: Path | None, darks: Path | None) -> StoredScan:
    """A multi-page file or a folder of single images in natural order; angles from a CSV file in degrees.

    Line integrals, unless there are flats. Raises `InputError`.
    """
    table = angles or (path.with_suffix(".csv") if path.is_file() else path.with_name(path.name + ".csv"))
    degrees = read_angles(table)
    return StoredScan(
        projections=read_stack(path),
        angles=degrees,
        flats=None if flats is None else read_stack(flats),
        darks=None if darks is None else read_stack(darks),
        measurement="line_integral" if flats is None else "transmission",
        pixel_size_nm=None,
        source=f"TIFF {'folder' if path.is_dir() else 'stack'} {path} with the angles of {table.name}",
    )


def read_stack(path: Path) -> NDArray[Any]:
    """(angle, row, column) out of a multi-page file or a folder of images."""
    if not path.exists():
        raise InputError(f"no such file or folder: {path}")
    if path.is_file():
        stack = _read(path)
        return stack[np.newaxis] if stack.ndim == 2 else stack
    files = sorted((file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES), key=_natural)
    if not files:
        raise InputError(f"{path}: expected a folder of TIFF images (.tif, .tiff), found none")
    images = [_read(file) for file in files]
    for file, image in zip(files, images, strict=True):
        if image.shape != images[0].shape or image.ndim != 2:
            raise InputError(f"{file}: expected one image of {images[0].shape} like {files[0].name}, got {image.shape}")
    return np.stack(images)


def read_angles(path: Path) -> NDArray[np.float64]:
    """(angle,) degrees: the column `angle`, `angles` or `theta` of a CSV file, or its only column, header or not."""
    try:
        rows = list(enumerate(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()), start=1))
    except FileNotFoundError as error:
        raise InputError(f"no table of angles: {path}; write one angle in degrees a line, or name a file") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a CSV table of angles: {error}") from error
    lines = [(number, [cell.strip() for cell in row]) for number, row in rows]
    lines = [(number, row) for number, row in lines if any(row) and not row[0].startswith("#")]
    if not lines:
        raise InputError(f"{path}: expected angles in degrees, one a line; the file is empty")
    header = [cell.lower() for cell in lines[0][1]]
    has_header = not any(_is_number(cell) for cell in header)
    column = _column(header, has_header, path)
    return np.array([_number(row, column, number, path) for number, row in lines[has_header:]], dtype=np.float64)


def _column(header: list[str], has_header: bool, path: Path) -> int:
    named = [index for index, cell in enumerate(header) if cell in ("angle", "angles", "theta")]
    if has_header and named:
        return named[0]
    if len(header) == 1:
        return 0
    raise InputError(f"{path}, line 1: expected one column, or a header with a column `angle`; got {', '.join(header)}")


def _number(row: list[str], column: int, number: int, path: Path) -> float:
    cell = row[column] if column < len(row) else ""
    if not _is_number(cell):
        raise InputError(f"{path}, line {number}: expected an angle in degrees, got {cell[:40]!r}")
    return float(cell)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read(path: Path) -> NDArray[Any]:
    try:
        image = np.asarray(tifffile.imread(path))
    except (OSError, tifffile.TiffFileError, ValueError, IndexError, KeyError, struct.error, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as TIFF (damaged or cut short?): {error!s:.200}") from error
    if image.ndim not in (2, 3):
        raise InputError(f"{path}: expected images of one channel (angle, row, column), got the shape {image.shape}")
    return image


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts image_2 before image_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name.lower())]

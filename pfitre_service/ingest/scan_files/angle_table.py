"""Tables of angles as people write them: with or without header, names of files, decimal commas."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError

_ANGLE = ("angle", "angles", "theta", "rotation", "rotation_angle", "tilt", "tilt_angle", "degrees", "deg")
_FILE = ("file", "filename", "file_name", "image", "name", "path")
_BOMS = (("utf-16", b"\xff\xfe"), ("utf-16", b"\xfe\xff"), ("utf-8-sig", b"\xef\xbb\xbf"))
_LARGEST = 64 << 20
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True, eq=False)
class AngleTable:
    """What a table says."""

    angles: NDArray[np.float64]
    """(angle,) degrees."""
    files: tuple[str, ...] | None
    """The name of the image of each, where the table has them."""


def read_angles(path: Path) -> AngleTable:
    """The column of angles, by its header or as the only one, and that of file names where there is one.

    Columns are separated by semicolons, tabs, commas or blanks, whichever the whole table goes by; where commas do not
    separate columns they are decimal.

    Parameters
    ----------
    path
        A text file.

    Returns
    -------
    AngleTable
        Angles in degrees.

    Raises
    ------
    InputError
        A line cannot be understood; names it.
    """
    lines = _lines(path)
    rows = _rows(lines, path)
    header = [cell.lower() for cell in rows[0][1]]
    has_header = not any(map(_is_number, header)) and not _starts_with_file(rows[0][1])
    if has_header and len(rows) == 1:
        raise InputError(f"{path}: expected angles in degrees, one a line; there is a header alone")
    column, files = _columns(header if has_header else None, rows, path)
    body = rows[has_header:]
    angles = np.array([_angle(row, column, number, path) for number, row in body], dtype=np.float64)
    return AngleTable(angles, None if files is None else tuple(row[files] for _, row in body))


def _lines(path: Path) -> list[tuple[int, str]]:
    """Line number and text of all that is no comment and not blank."""
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path}: a table of angles of more than {_LARGEST >> 20} MiB is taken for something else")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"no table of angles: {path}; write one angle in degrees a line, or name a file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read as a table of angles: {error.strerror or error}") from error
    numbered = enumerate(_decoded(content, path).splitlines(), start=1)
    lines = [(number, line.strip()) for number, line in numbered]
    lines = [(number, line) for number, line in lines if line and line[0] not in "#%"]
    if not lines:
        raise InputError(f"{path}: expected angles in degrees, one a line; the file is empty")
    return lines


def _decoded(content: bytes, path: Path) -> str:
    encoding = next((name for name, mark in _BOMS if content.startswith(mark)), None)
    if encoding is None:
        # Excel's "Unicode text" may come without its mark: every second byte of plain text is then zero.
        wide = len(content) > 1 and 0 in content[:2]
        encoding = ("utf-16-le" if content[1] == 0 else "utf-16-be") if wide else "utf-8"
    try:
        return content.decode(encoding).lstrip("\ufeff")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as text ({encoding}): {error}; save the table as UTF-8") from error


def _rows(lines: list[tuple[int, str]], path: Path) -> list[tuple[int, list[str]]]:
    """Cells of each line, decimal points in place of decimal commas."""
    texts = [line for _, line in lines]
    separator = next((sign for sign in (";", "\t") if all(sign in text for text in texts)), None)
    if separator is None and any("," in text for text in texts):
        separator = _meaning_of_commas(lines, path)
    if separator is None:
        cells = [line.split() for line in texts]
    else:
        cells = [[cell.strip() for cell in row] for row in csv.reader(texts, delimiter=separator)]
    if separator != ",":
        cells = [[cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell for cell in row] for row in cells]
    return [(number, row) for (number, _), row in zip(lines, cells, strict=True)]


def _meaning_of_commas(lines: list[tuple[int, str]], path: Path) -> str | None:
    """ "," where commas separate columns, None where they are decimal; refused where the table fits both."""
    texts = [line for _, line in lines]
    numbers = [text for text in texts if _DECIMAL_COMMA.fullmatch(text) or _is_number(text)]
    header = texts[0] if len(numbers) < len(texts) else ""
    decimal = len(numbers) >= len(texts) - 1 and any("," in text for text in numbers) and "," not in header
    columns = len({text.count(",") for text in texts}) == 1 and texts[0].count(",") >= 1
    if decimal and columns and not header:
        raise InputError(
            f"{path}, line {lines[0][0]}: {texts[0][:40]!r} may be one number with a decimal comma or two columns; "
            "write decimal points, or give the columns a header with `angle`"
        )
    return None if decimal else ","


def _columns(header: list[str] | None, rows: list[tuple[int, list[str]]], path: Path) -> tuple[int, int | None]:
    """Which column holds the angles, and which one the names of files."""
    first = rows[0][1]
    if header is None:
        files = next((index for index, cell in enumerate(first) if not _is_number(cell)), None)
        numbers = [index for index, cell in enumerate(first) if _is_number(cell)]
        if len(numbers) == 1:
            return numbers[0], files
        given = ", ".join(first)[:60]
        raise InputError(f"{path}, line {rows[0][0]}: expected one column, or a header with `angle`; got {given}")
    angles = [index for index, cell in enumerate(header) if _word(cell) in _ANGLE]
    files = next((index for index, cell in enumerate(header) if _word(cell) in _FILE), None)
    if len(angles) == 1:
        return angles[0], files
    if len(header) == 1 and not angles:
        return 0, None
    found = "several" if angles else "none"
    raise InputError(
        f"{path}, line {rows[0][0]}: expected one column with the header `angle`, found {found} in "
        f"{', '.join(header)[:80]}"
    )


def _word(cell: str) -> str:
    """A header without its unit: "Theta [deg]" is theta."""
    return re.sub(r"\s*[\[(].*", "", cell).strip().replace(" ", "_")


def _starts_with_file(row: list[str]) -> bool:
    return len(row) > 1 and any(map(_is_number, row[1:])) and not _is_number(row[0])


def _angle(row: list[str], column: int, number: int, path: Path) -> float:
    cell = row[column] if column < len(row) else ""
    if not _is_number(cell):
        raise InputError(f"{path}, line {number}: expected an angle in degrees, got {cell[:40]!r}")
    return float(cell)


def _is_number(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell)) or cell.lower() in ("nan", "inf", "-inf")

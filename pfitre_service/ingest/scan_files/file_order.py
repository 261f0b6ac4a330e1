"""In which order the images of a folder were taken: what their names say, and where they do not say it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.ingest.scan_files.angle_table import AngleTable

Order = Literal["auto", "natural", "last", "angle"]
"""By what the names leave no doubt of; number by number from the left; by the last number; by the angle in the name."""

_NUMBER = re.compile(r"\d+")
_SIGNED = re.compile(r"[+-]?\d+(?:\.\d+)?")
_CLOSE = 0.05
"""Degrees by which an angle in a name may be rounded."""
_MOST = 0.8
"""Of the files that share a form, others are strangers."""


@dataclass(frozen=True, slots=True, eq=False)
class Ordered:
    """Files in the order of their angles."""

    files: tuple[Path, ...]
    """One image each, or several."""
    angles: NDArray[np.float64]
    """(image,) degrees; of a file of several pages those of all its pages."""
    notes: tuple[str, ...]
    """The order taken, and what was left out."""


def without_strangers(files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Files whose names have the form that most of them have.

    Parameters
    ----------
    files
        Of one folder.

    Returns
    -------
    tuple[list[Path], list[str]]
        These files, and notes on the others.
    """
    visible = [file for file in files if not file.name.startswith(".")]
    forms = Counter(_form(file) for file in visible)
    notes = []
    if len(visible) < len(files):
        notes.append(f"left out as hidden: {_named([file for file in files if file not in visible])}")
    if not forms:
        return [], notes
    (form, count), *_ = forms.most_common(1)
    if count == len(visible) or count < _MOST * len(visible):
        return visible, notes
    strangers = [file for file in visible if _form(file) != form]
    notes.append(f"left out, since their names are not like the others': {_named(strangers)}")
    return [file for file in visible if _form(file) == form], notes


def ordered(files: Sequence[Path], table: AngleTable | None, order: Order) -> Ordered:
    """Files in the order of their angles, as the table or their names say.

    Parameters
    ----------
    files
        One image each, or several.
    table
        Of angles; None for none.
    order
        By what the order is told.

    Returns
    -------
    Ordered
        Files and angles.

    Raises
    ------
    InputError
        Neither table nor names tell.
    """
    if table is not None and table.files is not None:
        return _by_table(files, table, table.files)
    signed = _signed_fields(files)
    if order == "angle" or (order == "auto" and signed is not None):
        return _by_angle(files, table, signed)
    if table is None:
        raise InputError(
            f"no table of angles for {files[0].parent}: write one in degrees beside it ({files[0].parent.name}.csv), "
            "or name one with --angles; angles in the files' names are read with --order angle"
        )
    return Ordered(tuple(_by_number(files, order)), table.angles, (_stated(files, order),))


def _by_number(files: Sequence[Path], order: Order) -> list[Path]:
    natural = sorted(files, key=_natural)
    if order == "natural":
        return natural
    numbers = {file: int((_NUMBER.findall(file.stem) or ["0"])[-1]) for file in files}
    last, unique = sorted(files, key=numbers.__getitem__), len(set(numbers.values())) == len(files)
    if order == "last":
        if not unique:
            raise InputError(f"{files[0].parent}: the last number in the names is not different in each file")
        return last
    varying = _varying(files)
    if len(varying) > 1 and not (unique and natural == last):
        example = ", ".join(file.name for file in files[:2])
        raise InputError(
            f"{files[0].parent}: {len(varying)} numbers change in the names ({example}, ...) and give different "
            "orders; say --order natural (number by number from the left) or --order last, or give a table with the "
            "columns file, angle"
        )
    return natural


def _by_table(files: Sequence[Path], table: AngleTable, names: tuple[str, ...]) -> Ordered:
    known = {file.name: file for file in files} | {file.stem: file for file in files}
    wanted = [Path(name.replace("\\", "/")).name for name in names]
    absent = [name for name in wanted if name not in known]
    if absent:
        raise InputError(f"{files[0].parent}: the table names files that are not there: {', '.join(absent[:5])}")
    chosen = [known[name] for name in wanted]
    left = [file for file in files if file not in set(chosen)]
    notes = ["order: by the names of files in the table"]
    notes += [f"left out, since the table does not name them: {_named(left)}"] if left else []
    return Ordered(tuple(chosen), table.angles, tuple(notes))


def _by_angle(files: Sequence[Path], table: AngleTable | None, signed: list[float] | None) -> Ordered:
    """Names that hold the angle: paired with the table by value where there is one."""
    if signed is None:
        raise InputError(f"{files[0].parent}: no number in the names can be the angle, different in each file")
    found = np.array(signed)
    if table is None:
        rank = np.argsort(found, kind="stable")
        return Ordered(
            tuple(files[index] for index in rank), found[rank], ("angles and order: as the names of the files say",)
        )
    if len(table.angles) == len(files):
        rank, places = np.argsort(found), np.argsort(np.argsort(table.angles))
        matched = [files[rank[place]] for place in places]
        if np.allclose(found[rank][places], table.angles, atol=_CLOSE):
            return Ordered(tuple(matched), table.angles, ("order: each image by the angle in its name",))
    raise InputError(
        f"{files[0].parent}: the names hold signed numbers, {found.min():g} to {found.max():g}, that are not the "
        f"angles of the table, {table.angles.min():g} to {table.angles.max():g}; say --order natural or --order last, "
        "or give a table with the columns file, angle"
    )


def _signed_fields(files: Sequence[Path]) -> list[float] | None:
    """The numbers that can only be angles: of both signs, or with decimals, at one place of the names and different."""
    fields = [_SIGNED.findall(file.stem) for file in files]
    if len({len(row) for row in fields}) != 1 or len(files) < 2:
        return None
    for column in zip(*fields, strict=True):
        signs = {cell[0] if cell[0] in "+-" else "" for cell in column}
        telling = len(signs) > 1 or any("." in cell for cell in column)
        if telling and len({float(cell) for cell in column}) == len(files):
            return [float(cell) for cell in column]
    return None


def _varying(files: Sequence[Path]) -> list[int]:
    """Which of the numbers in the names change from file to file."""
    rows = [_NUMBER.findall(file.name) for file in files]
    if len({len(row) for row in rows}) != 1:
        return [0, 1]  # names of different forms: as good as several
    return [index for index, column in enumerate(zip(*rows, strict=True)) if len(set(column)) > 1]


def _stated(files: Sequence[Path], order: Order) -> str:
    if len(files) == 1:
        return "order: as the pages of the file"
    return "order: by the last number in the names" if order == "last" else "order: by the numbers in the names"


def _form(file: Path) -> str:
    """A name without its numbers."""
    return _SIGNED.sub("#", file.name.lower())


def _natural(file: Path) -> list[tuple[int, str]]:
    """Sorts image_2 before image_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", file.name.lower())]


def _named(files: Sequence[Path]) -> str:
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return ", ".join(file.name for file in files[:3]) + more

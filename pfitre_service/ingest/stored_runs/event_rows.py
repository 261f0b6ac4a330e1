"""Rows of the table that TiledWriter keeps of a stream's events, as the takes of its points.

A plan that is paused and resumed takes points again under the same seq_num. TiledWriter adds a row for every take, and
an entry to every array: so what lies at one place of the table belongs to what lies at that place of an array, and the
number does not tell where. Row and array keep no uid of the event; the takes are told apart by their times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

from pfitre_service.errors import InputError


class Take(NamedTuple):
    """One take of one point."""

    number: int
    """seq_num of the event."""
    again: int
    """How many takes of that point came before."""
    row: Mapping[str, Any]
    """Its cells by column; empty where nothing but arrays was written."""

    @property
    def name(self) -> str:
        """The same for this take at every reading, and another one for every other take of the stream."""
        return f"{self.number}/{self.again}" if self.again else f"{self.number}"


def takes_of(tables: Sequence[Sequence[Mapping[str, Any]]], where: str, *, is_over: bool) -> list[Take]:
    """The takes of a stream in the order in which they were made.

    tables: rows as they were stored; a stream of very many columns has several tables. While a run goes on, one of them
    may be ahead.

    Raises `InputError` where the tables of a stream that is over are not of one length.
    """
    if is_over and len({len(rows) for rows in tables}) > 1:
        raise InputError(f"{where}: its tables have {sorted(map(len, tables))} rows, and which belong together is lost")
    rows: dict[tuple[int, float], Mapping[str, Any]] = {}
    for parts in zip(*tables, strict=False):
        row = {name: cell for part in parts for name, cell in part.items()}
        # TiledWriter repeats rows whose answer was lost; their arrays it does not repeat.
        rows.setdefault((int(row["seq_num"]), float(row["time"])), row)
    counted: Counter[int] = Counter()
    takes: list[Take] = []
    for number, moment in _in_order(list(rows)):
        takes.append(Take(number, counted[number], rows[number, moment]))
        counted[number] += 1
    return takes


def _in_order(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """(seq_num, time) of the takes as they were made. SQLite and DuckDB give rows as added, PostgreSQL in any order."""
    numbers = [number for number, _ in points]
    if len(set(numbers)) == len(numbers):
        return sorted(points)
    # A scan goes on by one or falls back to its last checkpoint. Clocks may be set back, so times are asked last.
    if all(later <= earlier + 1 for earlier, later in pairwise(numbers)):
        return points
    return sorted(points, key=itemgetter(1))

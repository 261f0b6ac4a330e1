"""Pages as the events and datums they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.document_values import quoted

_MAX_ROWS = 100_000
_MAX_VALUES = 1_000_000
"""Rows times columns: each of them is looked at, and a column may be an array of small numbers."""


def events_of(page: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The events of an `event_page`, each with `uid`, `descriptor`, `seq_num`, `time`, `timestamps` and `data`.

    A column that is shorter than the page's list of numbers leaves its key out of the last events.
    Raises `DocumentError` when the page has no list of numbers or no table of columns, or too many rows.
    """
    numbers, times, uids = (_column(page.get(key)) for key in ("seq_num", "time", "uid"))
    data = page.get("data")
    if numbers is None or not isinstance(data, Mapping):
        raise DocumentError("an event_page needs a list `seq_num` and a table `data` of lists")
    columns, stamps = _columns(data), _columns(page.get("timestamps"))
    _check(page, "descriptor", numbers, len(columns) + len(stamps))
    for row, number in enumerate(numbers):
        yield {
            "uid": uids[row] if uids is not None and row < len(uids) else None,
            "descriptor": page.get("descriptor"),
            "seq_num": number,
            "time": times[row] if times is not None and row < len(times) else None,
            "timestamps": {key: column[row] for key, column in stamps.items() if row < len(column)},
            "data": {key: column[row] for key, column in columns.items() if row < len(column)},
        }


def datums_of(page: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The datums of a `datum_page`. Raises `DocumentError` when it has no list of ids, or too many."""
    ids, arguments = _column(page.get("datum_id")), page.get("datum_kwargs")
    if ids is None or not isinstance(arguments, Mapping):
        raise DocumentError("a datum_page needs a list `datum_id` and a table `datum_kwargs` of lists")
    columns = _columns(arguments)
    _check(page, "resource", ids, len(columns))
    for row, datum_id in enumerate(ids):
        own = {key: column[row] for key, column in columns.items() if row < len(column)}
        yield {"resource": page.get("resource"), "datum_id": datum_id, "datum_kwargs": own}


def _check(page: Mapping[str, Any], refers_to: str, rows: Any, columns: int) -> None:
    """Raises `DocumentError` where it takes long to find out, row by row, that none of them can be used."""
    if not isinstance(page.get(refers_to), str):
        raise DocumentError(f"expected a text as {refers_to!r}, got {quoted(page.get(refers_to))}")
    if len(rows) > _MAX_ROWS or len(rows) * (columns + 1) > _MAX_VALUES:
        raise DocumentError(
            f"expected a page of at most {_MAX_ROWS:,} rows and {_MAX_VALUES:,} values, got {len(rows):,} rows of "
            f"{columns} columns"
        )


def _columns(table: Any) -> dict[str, Any]:
    """The lists of a table; empty where it is none."""
    if not isinstance(table, Mapping):
        return {}
    return {key: column for key, values in table.items() if (column := _column(values)) is not None}


def _column(value: Any) -> Any:
    """`value` if it is a list or array, else None."""
    is_column = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)
    return value if is_column else None

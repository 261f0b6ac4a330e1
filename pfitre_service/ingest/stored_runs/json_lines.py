"""Bluesky documents in a text file, one a line.

Understood are `{"name": ..., "doc": {...}}` (bluesky's `JSONLinesWriter`; its `JSONWriter`, which adds brackets and
commas; JSON sequences as Tiled exports runs) and `["name", {...}]`, also all of
them in one list on a single line. Other JSON spread over lines is not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pfitre_service.errors import DocumentError, InputError
from pfitre_service.ingest.decoding.decoded import DOCUMENT_NAMES
from pfitre_service.ingest.document_values import holds_text, quoted

_AROUND = b"\x1e \t\r\n"
_TOLD = 20
"""So many lines that were left out are kept in words; all are counted."""


class JsonLines:
    """Each iteration reads the file at `path` anew and gives its (name, document) in order, arrays as numpy arrays.

    Lines that hold no document are left out: `left_out` counts those of the last iteration, `faults` names the first
    20 by number. Raises `InputError` when the file cannot be read, or when not one line holds a document.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.left_out = 0
        self.faults: list[str] = []

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        self.left_out, self.faults, found = 0, [], 0
        arrays = _Arrays()
        try:
            with self._path.open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    for entry in self._entries(number, line):
                        found += 1
                        yield arrays.restored(*entry)
        except OSError as error:
            raise InputError(f"{self._path}: cannot be read: {error.strerror}") from error
        if not found:
            why = self.faults[0] if self.faults else "the file is empty"
            raise InputError(f'{self._path}: expected a line {{"name": ..., "doc": ...}} for each document; {why}')

    def _entries(self, number: int, line: bytes) -> list[tuple[str, dict[str, Any]]]:
        text = line.strip(_AROUND).removesuffix(b",")
        if text in (b"", b"[", b"]"):
            return []
        try:
            return entries_of(json.loads(text))
        except (ValueError, RecursionError, DocumentError) as error:
            self.left_out += 1
            if self.left_out <= _TOLD:
                self.faults.append(f"line {number}: {error!s:.200}")
            return []


def entries_of(value: Any) -> list[tuple[str, dict[str, Any]]]:
    """(name, document) of one line's value. Raises `DocumentError`."""
    if isinstance(value, Mapping):
        name, document = value.get("name"), value.get("doc")
    elif isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
        name, document = value
    elif isinstance(value, list):
        return [entry for item in value for entry in entries_of(item)]
    else:
        raise DocumentError(f'expected {{"name": ..., "doc": ...}} or ["name", {{...}}], got {quoted(value)}')
    if not isinstance(name, str) or name not in DOCUMENT_NAMES or not isinstance(document, dict):
        raise DocumentError(
            f"expected a Bluesky document's name and table, got {quoted(name)}, {type(document).__name__}"
        )
    return [(name, document)]


def holds_documents(path: Path) -> bool:
    """Whether the file begins as one with documents does."""
    with path.open("rb") as file:
        return file.read(4096).lstrip(_AROUND)[:1] in (b"{", b"[")


class _Arrays:
    """JSON has lists alone; descriptors tell what they were."""

    def __init__(self) -> None:
        self._types: dict[str, dict[str, np.dtype[Any] | None]] = {}
        """Uid of a descriptor to its data keys with arrays, and their types where it names them."""

    def restored(self, name: str, document: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        if name == "descriptor":
            keys = document.get("data_keys")
            self._types[str(document.get("uid"))] = _array_types(keys) if isinstance(keys, Mapping) else {}
        data = document.get("data")
        if name in ("event", "event_page") and isinstance(data, dict):
            types = self._types.get(str(document.get("descriptor")), {})
            restored = {key: _array(data[key], types[key]) for key in types.keys() & data.keys()}
            return name, {**document, "data": {**data, **restored}}
        return name, document


def _array_types(data_keys: Mapping[str, Any]) -> dict[str, np.dtype[Any] | None]:
    return {
        key: _type_named(entry.get("dtype_numpy"))
        for key, entry in data_keys.items()
        if isinstance(entry, Mapping) and entry.get("dtype") == "array" and not entry.get("external")
    }


def _type_named(name: Any) -> np.dtype[Any] | None:
    try:
        dtype = np.dtype(name) if isinstance(name, str) else None
    except TypeError:
        return None
    return dtype if dtype is not None and dtype.kind in "biuf" else None


def _array(value: Any, dtype: np.dtype[Any] | None) -> Any:
    """`value` as an array if it can be one without loss, else as it is: whoever reads it says what is wrong."""
    if not isinstance(value, list) or holds_text(value):
        return value
    try:
        array = np.asarray(value)
        typed = array if dtype is None else array.astype(dtype)
    except (ValueError, TypeError, OverflowError):
        return value
    if array.dtype.kind not in "biuf":
        return value
    return typed if dtype is None or dtype.kind == "f" or np.array_equal(typed, array) else array

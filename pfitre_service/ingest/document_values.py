"""Document values as plain JSON, for metadata in the catalogue."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pfitre_service.errors import InputError
from pfitre_service.text_output import storable

_MAX_VALUES = 20_000
_MAX_DEPTH = 20
_MAX_TEXT = 10_000
_MAX_TEXTS = 1_000_000
"""Characters of a whole document."""
_MAX_QUOTED = 60
_MAX_UID = 200
_NUMBERS = (int, float, complex, np.number, np.bool_)
_LEFT_OUT = "(left out: too large)"


def json_safe(document: Mapping[Any, Any]) -> dict[str, Any]:
    """`document` as null, booleans, 64-bit integers, finite floats, strings, lists, and dicts with strings as keys.

    Numbers that JSON cannot hold become null (not finite) or text (integers past 64 bits); arrays become lists;
    what is nested too deep or is too large is named as left out.
    """
    safe = _Converter().convert(document, 0)
    assert isinstance(safe, dict)
    return safe


def whole(value: Any) -> int | None:
    """`value` if it is an integer that a double holds exactly, else None; truth values are none."""
    value = value.item() if isinstance(value, np.integer) else value
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53 else None


def finite(value: Any) -> float | None:
    """`value` as a float if it is a finite number, else None; truth values are none."""
    value = value.item() if isinstance(value, np.number) else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 and math.isfinite(value) else None


def look_up(document: Mapping[str, Any], path: str) -> Any:
    """The value under a key, or under a path of keys with dots, such as `scan.type`; None where there is none."""
    if path in document:
        return document[path]
    value: Any = document
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def origin_of(document: Mapping[str, Any]) -> str:
    """The uid of a document as it can be stored; "" where it has none."""
    uid = document.get("uid")
    return storable(uid, _MAX_UID) if isinstance(uid, str) else ""


def uid_of(document: Mapping[str, Any], key: str) -> str:
    """A reference to a document: a text of bounded length. Raises InputError."""
    uid = document.get(key)
    if not isinstance(uid, str) or not 0 < len(uid) <= _MAX_UID:
        raise InputError(f"expected a text of 1 to {_MAX_UID} characters as {key!r}, got {quoted(uid)}")
    return uid


def is_table(value: Any) -> bool:
    """Whether `value` is a table of tables, with texts as keys."""
    return isinstance(value, Mapping) and all(
        isinstance(key, str) and isinstance(item, Mapping) for key, item in value.items()
    )


class _Converter:
    """Counts the values and characters of one document, so that one that repeats itself without end stays small."""

    def __init__(self) -> None:
        self._left = _MAX_VALUES
        self._text_left = _MAX_TEXTS

    def convert(self, value: Any, depth: int) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, str):
            return self._text(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return int(value) if -(2**63) <= value < 2**63 else _LEFT_OUT
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else None
        return self._container(value, depth)

    def _container(self, value: Any, depth: int) -> Any:
        if isinstance(value, np.ndarray):
            if value.size > min(self._left, 1000):
                return f"(array {value.shape} {value.dtype}: left out)"
            value = value.tolist()
            if not isinstance(value, list):
                return self.convert(value, depth)
        if not isinstance(value, Mapping | Sequence | set | frozenset) or isinstance(value, bytes | bytearray):
            return f"({type(value).__name__}: left out)"
        if depth >= _MAX_DEPTH or len(value) > self._left:
            return _LEFT_OUT if depth else {}
        self._left -= len(value)
        if isinstance(value, Mapping):
            return {self._text(key): self.convert(item, depth + 1) for key, item in value.items()}
        return [self.convert(item, depth + 1) for item in value]

    def _text(self, value: Any) -> str:
        text = storable(value if isinstance(value, str) else _of_key(value), _MAX_TEXT)
        self._text_left -= len(text)
        return text if self._text_left >= 0 else _LEFT_OUT


def holds_text(value: Any) -> bool:
    """Whether there is anything but numbers in nested lists: numpy makes every text as long as the longest."""
    if isinstance(value, list | tuple):
        kinds = set(map(type, value))
        nested = any(issubclass(kind, list | tuple | np.ndarray) for kind in kinds)
        return any(map(holds_text, value)) if nested else not all(issubclass(kind, _NUMBERS) for kind in kinds)
    if isinstance(value, np.ndarray):
        return value.dtype.kind not in "biufc"
    return not isinstance(value, _NUMBERS)


def quoted(value: Any) -> str:
    """A short text that says what a value is, however large: `repr` writes all of it out first."""
    return _Short().repr(value)[:_MAX_QUOTED]


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxstring = self.maxother = self.maxlong = _MAX_QUOTED
        self.maxdict = self.maxlist = self.maxtuple = 3

    def repr_ndarray(self, array: np.ndarray[Any, Any], level: int) -> str:
        return f"array {array.shape} {array.dtype}"

    def repr_bytes(self, value: bytes, level: int) -> str:
        return repr(value[:_MAX_QUOTED])


def _of_key(value: Any) -> str:
    return str(value) if isinstance(value, int | float) else f"({type(value).__name__})"

"""Document values as plain JSON, for metadata in the catalogue."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_MAX_VALUES = 20_000
_MAX_DEPTH = 20
_MAX_TEXT = 10_000
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


class _Converter:
    """Counts the values of one document, so that one that repeats itself without end stays small."""

    def __init__(self) -> None:
        self._left = _MAX_VALUES

    def convert(self, value: Any, depth: int) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, str):
            return _text(value)
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
            return {_text(key): self.convert(item, depth + 1) for key, item in value.items()}
        return [self.convert(item, depth + 1) for item in value]


def _text(value: Any) -> str:
    """At most 10,000 characters that UTF-8 can hold."""
    text = str(value) if isinstance(value, str | int | float) else f"({type(value).__name__})"
    return text[:_MAX_TEXT].encode("utf-8", "replace").decode("utf-8")

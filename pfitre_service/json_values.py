"""Values as strict JSON takes them: what is not finite becomes null, numbers of numpy plain ones, texts such as UTF-8
and every database can hold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any

from pfitre_service.text_output import storable


def plain(value: Any, where: str = "metadata", *, digits: int | None = None) -> Any:
    """`value` in terms of dict, list, str, int, float, bool and None.

    Parameters
    ----------
    where
        What the value is of, for the message.
    digits
        Significant digits that fractions keep; by default all.

    Raises
    ------
    TypeError
        Something in it has no JSON form; the message says where.
    """
    if isinstance(value, str):
        return storable(value)
    if value is None or isinstance(value, bool):
        return value
    if hasattr(value, "tolist"):  # numpy's arrays, numbers and truth values
        return plain(value.tolist(), where, digits=digits)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        if not math.isfinite(number):
            return None
        return number if digits is None else float(f"{number:.{digits}g}")
    if isinstance(value, PurePath):
        return storable(str(value))
    if isinstance(value, Mapping):
        return {storable(str(name)): plain(item, f"{where}.{name}", digits=digits) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, f"{where}[{i}]", digits=digits) for i, item in enumerate(value)]
    raise TypeError(
        f"{where} cannot be stored: a {type(value).__name__} has no JSON form; give a number, text or a list"
    )


def strict_json(value: Any, where: str, *, digits: int | None = None, indent: int | None = None) -> str:
    """`plain(value)` as text that every reader of JSON takes; arguments and errors as there."""
    return json.dumps(plain(value, where, digits=digits), indent=indent, allow_nan=False)

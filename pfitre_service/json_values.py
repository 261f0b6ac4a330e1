"""Metadata as JSON takes it: numpy values become plain ones, what is not finite becomes null, texts are such
as UTF-8 and every database can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np

from pfitre_service.errors import StoreError
from pfitre_service.text_output import storable


def plain(value: Any, where: str = "metadata") -> Any:
    """`value` in terms of dict, list, str, int, float, bool and None.

    Raises:
        StoreError: something in it has no JSON form; the message says where.
    """
    if isinstance(value, str):
        return storable(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist(), where)
    if isinstance(value, PurePath):
        return storable(str(value))
    if isinstance(value, Mapping):
        return {storable(str(name)): plain(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise StoreError(
        f"{where} cannot be stored: a {type(value).__name__} has no JSON form; give a number, text or a list"
    )

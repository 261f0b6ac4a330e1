"""Maps scanned point by point: sums over detectors, divided by the beam, in columns that are equally wide everywhere.

A stage that turns with the sample moves along the beam as well as across it: a step of one that stands across the beam
at 0 degrees is cos(angle) wide, of one that stands along it |sin(angle)|. The columns of a tomogram are as wide as
those of its first map; a map with others is resampled about its middle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import DocumentError, InputError
from pfitre_service.ingest.external import FileRows
from pfitre_service.ingest.plain import finite, look_up, quoted, whole
from pfitre_service.ingest.rules import MapRules

_SAME_WIDTH = 1e-3
"""Relative: under a twentieth of a column at the edge of a hundred."""

Values = FileRows | NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class ScannedMap:
    """How one map is to be made."""

    parts: tuple[Values, ...]
    """(pixel,) each, in the order of the scan, row after row; they add up."""
    divisor: Values | None
    """(pixel,), such as the counts of the ion chamber."""
    shape: tuple[int, int]
    """(rows, columns)."""
    scale: float
    """Width of its columns in columns of the tomogram."""

    def evaluate(self, read: Callable[[FileRows], NDArray[np.float64]]) -> NDArray[np.float32]:
        """(1, row, column). `read` takes values out of files. Raises InputError for values that do not fit.

        A pixel without beam is NaN.
        """
        total = self._values(self.parts[0], read)
        for part in self.parts[1:]:
            total = total + self._values(part, read)
        if self.divisor is not None:
            beam = self._values(self.divisor, read)
            total = np.divide(total, beam, out=np.full_like(total, np.nan), where=beam > 0)
        image = total.reshape(self.shape)
        if abs(self.scale - 1) > _SAME_WIDTH:
            image = np.stack([_resampled(row, self.scale) for row in image])
        return image.astype(np.float32)[np.newaxis]

    def _values(self, values: Values, read: Callable[[FileRows], NDArray[np.float64]]) -> NDArray[np.float64]:
        found = read(values) if isinstance(values, FileRows) else np.asarray(values, np.float64)
        if found.size != math.prod(self.shape):
            rows, columns = self.shape
            raise InputError(f"expected a map of {rows} x {columns} pixels, got {found.size} values")
        return found.ravel()


def map_shape(start: Mapping[str, Any], rules: MapRules) -> tuple[int, int]:
    """(rows, columns) as the start document says. Raises `DocumentError`."""
    shape = look_up(start, rules.shape_key)
    sizes = [whole(size) for size in shape] if isinstance(shape, list | tuple) else []
    if len(sizes) != 2 or not all(size and size > 0 for size in sizes):
        raise DocumentError(f"expected (columns, rows) of a map under {rules.shape_key!r}, got {quoted(shape)}")
    columns, rows = (int(size or 0) for size in sizes)
    return rows, columns


def column_width(start: Mapping[str, Any], rules: MapRules, angle: float) -> float | None:
    """Micrometres across the beam at `angle` degrees; None where the rules do not say how to know.

    Raises `DocumentError`.
    """
    if not rules.range_key:
        return None
    span = look_up(start, rules.range_key)
    first, last, count = [finite(value) for value in span[:3]] if isinstance(span, list | tuple) else (None, None, None)
    if first is None or last is None or not count or first == last:
        raise DocumentError(f"expected first, last and number of columns under {rules.range_key!r}, got {quoted(span)}")
    motor = look_up(start, rules.motor_key)
    factor = 1.0
    if motor in rules.cosine_motors:
        factor = abs(math.cos(math.radians(angle)))
    elif motor in rules.sine_motors:
        factor = abs(math.sin(math.radians(angle)))
    if factor < 0.01:
        raise DocumentError(
            f"the motor {motor!r} moves along the beam at {angle:g} degrees: that is no map of the sample"
        )
    return abs(last - first) / count * factor


def _resampled(row: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """(column,) in columns of the tomogram; beyond the ends of the map its last values go on."""
    columns = np.arange(len(row), dtype=np.float64)
    middle = (len(row) - 1) / 2
    return np.interp(middle + (columns - middle) / scale, columns, row)

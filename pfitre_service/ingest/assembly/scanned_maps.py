"""Maps scanned point by point: sums over detectors, divided by the beam, as projections on one axis across the beam.

A stage that turns with the sample moves along the beam as well as across it. With x the position of the stage that
stands across the beam at 0 degrees, z of the one that stands along it, y of the upright one, and t the angle, the beam
looks along the line u = x cos(t) + z sin(t) at the height y: as PyXRF (`map_data2D_hxn`) has it for HXN. Columns of
every map run along u and rows along y, from low to high, whichever stage flew and in whichever direction. So the
volume's x axis is that of the stage x, its y axis that of the stage z, and its slices rise with the stage y.

The columns of a tomogram are as wide as those of its first map; a map with others is resampled about its middle. The
middle of a map, not the stage's zero, is the place of the axis: only the stage that flies is told, and alignment in
between moves the stages to follow the sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import DocumentError, InputError
from pfitre_service.ingest.assembly.file_references import FileRows, FileSource
from pfitre_service.ingest.document_values import finite, look_up, quoted, whole
from pfitre_service.ingest.rules import MapRules

_SAME_WIDTH = 1e-3
"""Relative: under a twentieth of a column at the edge of a hundred."""
_LEAST_FACTOR = 0.01
"""Of a stage's step, across the beam: at half a degree from the beam's direction it is no scan of the sample."""

Values = FileRows | NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelOrder:
    """How the pixels of a map came, against u and y from low to high."""

    snaked: bool = False
    """Every other row, from the second on, went against the first."""
    columns_fall: bool = False
    """The first row began at the high end of u."""
    rows_fall: bool = False
    """The highest row came first."""

    def sort(self, image: NDArray[np.float64]) -> NDArray[np.float64]:
        """(row, column) as scanned, to rows along y and columns along u, both from low to high."""
        if self.snaked:
            image = image.copy()
            image[1::2] = image[1::2, ::-1]
        return image[:: -1 if self.rows_fall else 1, :: -1 if self.columns_fall else 1]


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
    order: PixelOrder = PixelOrder()

    def evaluate(self, read: Callable[[FileRows], NDArray[np.float64]]) -> NDArray[np.float32]:
        """(1, row, column), both from low to high. `read` takes values out of files.

        A pixel without beam is NaN. Raises InputError for values that do not fit.
        """
        total = self._values(self.parts[0], read)
        for part in self.parts[1:]:
            total = total + self._values(part, read)
        if self.divisor is not None:
            beam = self._values(self.divisor, read)
            total = np.divide(total, beam, out=np.full_like(total, np.nan), where=beam > 0)
        image = self.order.sort(total.reshape(self.shape))
        if abs(self.scale - 1) > _SAME_WIDTH:
            image = np.stack([_resampled(row, self.scale) for row in image])
        return image.astype(np.float32)[np.newaxis]

    def _values(self, values: Values, read: Callable[[FileRows], NDArray[np.float64]]) -> NDArray[np.float64]:
        found = read(values) if isinstance(values, FileRows) else np.asarray(values, np.float64)
        if found.size != math.prod(self.shape):
            rows, columns = self.shape
            raise InputError(f"expected a map of {rows} x {columns} pixels, got {found.size} values")
        return found.ravel()


def source_of_pixels(source: FileSource, start: Mapping[str, Any], rules: MapRules) -> FileSource:
    """`source`, of which one index stands for no more values than a map has pixels. Raises `DocumentError`.

    HXN's resources count samples of the encoder, several a pixel, and the file has one entry a pixel.
    """
    if not rules.elements or not source.frames_per_index:
        return source
    return replace(source, frames_per_index=min(source.frames_per_index, math.prod(map_shape(start, rules))))


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
    first, last, count = _columns(start, rules)
    return abs((last - first) / count * _along_u(start, rules, angle))


def pixel_order(start: Mapping[str, Any], rules: MapRules, angle: float | None) -> PixelOrder:
    """How the pixels of a map at `angle` degrees came; without angle, or a range in the rules, only snakes are known.

    Raises `DocumentError`.
    """
    snaked = _snaked(look_up(start, rules.snake_key))
    if angle is None or not rules.range_key:
        return PixelOrder(snaked=snaked)
    first, last, _ = _columns(start, rules)
    return PixelOrder(
        snaked=snaked,
        columns_fall=(last - first) * _along_u(start, rules, angle) < 0,
        rows_fall=_rows_fall(start, rules),
    )


def _columns(start: Mapping[str, Any], rules: MapRules) -> tuple[float, float, float]:
    """First and last position, in micrometres and not the same, and number of columns."""
    span = look_up(start, rules.range_key)
    first, last, count = [finite(value) for value in span[:3]] if _is_range(span) else (None, None, None)
    if first is None or last is None or not count or count < 0 or first == last:
        raise DocumentError(f"expected first, last and number of columns under {rules.range_key!r}, got {quoted(span)}")
    return first, last, count


def _is_range(span: Any) -> bool:
    return isinstance(span, list | tuple) and len(span) >= 3


def _rows_fall(start: Mapping[str, Any], rules: MapRules) -> bool:
    """Behind the columns may stand first and last position and number of rows."""
    span = look_up(start, rules.range_key)[3:5]
    if not span:
        return False
    first, last = [finite(value) for value in span] if len(span) == 2 else (None, None)
    if first is None or last is None:
        raise DocumentError(f"expected first and last position of rows under {rules.range_key!r}, got {quoted(span)}")
    return last < first


def _along_u(start: Mapping[str, Any], rules: MapRules, angle: float) -> float:
    """By how much u grows when the fast motor moves by one."""
    motor = look_up(start, rules.motor_key)
    if not isinstance(motor, str):
        raise DocumentError(f"expected the name of the fast motor under {rules.motor_key!r}, got {quoted(motor)}")
    factor = 1.0
    if motor in rules.cosine_motors:
        factor = math.cos(math.radians(angle))
    elif motor in rules.sine_motors:
        factor = math.sin(math.radians(angle))
    if abs(factor) < _LEAST_FACTOR:
        raise DocumentError(
            f"the motor {motor!r} moves along the beam at {angle:g} degrees: that is no map of the sample"
        )
    return -factor if motor in rules.reversed_motors else factor


def _snaked(value: Any) -> bool:
    """PyXRF's `pyramid`, or Bluesky's `snaking`: a truth value for each axis, the slow one first."""
    if isinstance(value, list | tuple) and value:
        value = value[-1]
    return value is True or value == "pyramid"


def _resampled(row: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """(column,) in columns of the tomogram; beyond the ends of the map its last values go on."""
    columns = np.arange(len(row), dtype=np.float64)
    middle = (len(row) - 1) / 2
    return np.interp(middle + (columns - middle) / scale, columns, row)

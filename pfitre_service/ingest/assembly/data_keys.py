"""Which data keys of a descriptor hold the image and the rotation angle. Pure: documents in, names out.

Everything here raises `DocumentError` with what was looked for and what was found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.angle_units import DEGREES_PER, KNOWN, degrees_per
from pfitre_service.ingest.document_values import quoted
from pfitre_service.ingest.rules import DocumentRules, MapRules


@dataclass(frozen=True, slots=True)
class DataKeyMap:
    """Where the frames of one stream stand in its events."""

    images: tuple[str, ...]
    """Data keys that images are made of: one, or those of maps."""
    rotation: str | None
    """None for flats and darks, and where angles do not stand in the events."""
    frames: int
    """Frames in one event, as far as the descriptor says; pixels in one, of maps."""
    in_files: frozenset[str]
    """Those of the keys whose values lie in files."""
    by_stream: frozenset[str]
    """Those in files that are announced by `stream_datum`; the others by a datum that the event names."""
    separate: frozenset[str] = frozenset()
    """Parts that come from elsewhere, such as the angle in the event of another stream."""

    @property
    def image(self) -> str:
        """The key that events are counted by."""
        return self.images[0]

    @property
    def parts(self) -> frozenset[str]:
        """What must have come before the frames of an event are known: its document (""), references to files."""
        keys = {*self.images} | ({self.rotation} if self.rotation else set())
        return self.in_files | self.separate | (frozenset() if keys <= self.by_stream else frozenset({""}))


def columns_of(
    images: tuple[str, ...], rotation: str | None, data_keys: Mapping[str, Any], separate: frozenset[str] = frozenset()
) -> DataKeyMap:
    """Where the values under the data keys are to be looked for."""
    keys = [*images] if rotation is None else [*images, rotation]
    outside = {key: str(data_keys[key]["external"]) for key in keys if data_keys[key].get("external")}
    streamed = frozenset(key for key, where in outside.items() if where.startswith("STREAM:"))
    return DataKeyMap(images, rotation, _frames_each(data_keys[images[0]]), frozenset(outside), streamed, separate)


def map_columns(rotation: str | None, data_keys: Mapping[str, Any], rules: MapRules, size: int) -> DataKeyMap:
    """The same for maps of `size` pixels, scanned point by point. Raises `DocumentError`."""
    lacking = [key for key in rules.keys if key not in data_keys]
    if lacking:
        raise DocumentError(
            f"no data key {', '.join(map(repr, lacking))} (documents.maps); there are {_names(data_keys)}"
        )
    columns = columns_of(rules.keys, rotation, data_keys)
    shape = data_keys[columns.image].get("shape") or [1]
    pixels = math.prod(size for size in shape if isinstance(size, int) and size > 0)
    return replace(columns, frames=min(pixels, size))  # HXN says samples of the encoder there, several a pixel


def _frames_each(data_key: Mapping[str, Any]) -> int:
    shape = data_key.get("shape", ())
    return shape[0] if len(shape) > 2 and isinstance(shape[0], int) and shape[0] > 0 else 1


def find_image(data_keys: Mapping[str, Any], rules: DocumentRules) -> str:
    """The data key of the detector image."""
    if rules.image is not None:
        if rules.image not in data_keys:
            raise DocumentError(f"no data key {rules.image!r} (documents.image); there are {_names(data_keys)}")
        candidates = [rules.image]
    else:
        candidates = [key for key, entry in data_keys.items() if _rank(entry) in (2, 3)]
    if not candidates:
        raise DocumentError(f"no data key with the shape of an image (2 or 3 axes); there are {_names(data_keys)}")
    if len(candidates) > 1:
        raise DocumentError(f"several data keys hold images: {_names(candidates)}; set documents.image to one of them")
    return candidates[0]


def find_rotation(start: Mapping[str, Any], descriptor: Mapping[str, Any], rules: DocumentRules) -> str:
    """The data key of the rotation angle: the rule's, else the only angle among what the plan said it moves."""
    data_keys = descriptor["data_keys"]
    if rules.rotation is not None:
        if rules.rotation not in data_keys:
            raise DocumentError(f"no data key {rules.rotation!r} (documents.rotation); there are {_names(data_keys)}")
        return rules.rotation
    moved = list(dict.fromkeys(key for key in _moved(start, descriptor) if _is_number(data_keys.get(key))))
    candidates = [key for key in moved if _units(data_keys[key]) in DEGREES_PER]
    candidates = candidates or [key for key in moved if not _units(data_keys[key])]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise DocumentError(f"several motors may be the rotation: {_names(candidates)}; set documents.rotation")
    raise DocumentError(
        f"no rotation angle: the plan moved {_names(moved) or 'nothing that was recorded'}; there are "
        f"{_names(data_keys)}; if one of them is the angle, set documents.rotation"
    )


def unit_contradiction(key: str, entry: Any, rules: DocumentRules) -> str | None:
    """A sentence when the data key's own unit is not the profile's, or none of an angle, else None."""
    unit = _units(entry)
    factor = degrees_per(unit)
    if rules.angle_unit == "auto":
        unknown = unit and factor is None
        return f"{key!r} has the unit {quoted(unit)}, none of {KNOWN}; it is taken for degrees" if unknown else None
    if factor is not None and not math.isclose(factor, rules.degrees_per_unit):
        return f"{key!r} has the unit {unit!r}, but documents.angle_unit is {rules.angle_unit!r}, which is used"
    return None


def degrees_per_unit(entry: Any, rules: DocumentRules) -> float:
    """Of a data key's values, by what the profile says, else by the unit that the data key names."""
    factor = degrees_per(_units(entry)) if rules.angle_unit == "auto" else None
    return rules.degrees_per_unit if factor is None else factor


def _moved(start: Mapping[str, Any], descriptor: Mapping[str, Any]) -> Iterator[str]:
    """Data keys that the start document names as scan dimensions or motors."""
    hints = start.get("hints")
    dimensions = hints.get("dimensions") if isinstance(hints, Mapping) else None
    for dimension in dimensions if isinstance(dimensions, list | tuple) else ():
        fields = dimension[0] if isinstance(dimension, list | tuple) and dimension else ()
        yield from (name for name in _list(fields) if isinstance(name, str))
    for motor in _list(start.get("motors")):
        if isinstance(motor, str):
            yield motor
            yield from _hinted(motor, descriptor)


def _hinted(motor: str, descriptor: Mapping[str, Any]) -> Iterator[str]:
    """Data keys that the device `motor` names as its main ones."""
    hints = descriptor.get("hints")
    entry = hints.get(motor) if isinstance(hints, Mapping) else None
    fields = entry.get("fields") if isinstance(entry, Mapping) else None
    yield from (name for name in _list(fields) if isinstance(name, str))


def _list(value: Any) -> list[Any]:
    return list(value[:100]) if isinstance(value, list | tuple) else [value]


def _rank(entry: Any) -> int | None:
    shape = entry.get("shape") if isinstance(entry, Mapping) else None
    return len(shape) if isinstance(shape, list | tuple) else None


def _is_number(entry: Any) -> bool:
    """One number an event, or one for each frame of an event."""
    return isinstance(entry, Mapping) and (_rank(entry) or 0) <= 1 and entry.get("dtype") != "string"


def _units(entry: Any) -> str:
    unit = entry.get("units") if isinstance(entry, Mapping) else None
    return unit.strip().lower() if isinstance(unit, str) else ""


def _names(keys: Any) -> str:
    names = [repr(key)[:60] for key in keys]
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")

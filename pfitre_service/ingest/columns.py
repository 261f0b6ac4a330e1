"""Which data keys of a descriptor hold the image and the rotation angle. Pure: documents in, names out.

Everything here raises `DocumentError` with what was looked for and what was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.rules import DocumentRules

_ANGULAR_UNITS = {"deg", "degs", "degree", "degrees", "°", "rad", "rads", "radian", "radians", "mrad", "urad"}


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the frames of one stream stand in its events."""

    image: str
    rotation: str | None
    """None for flats and darks."""


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
    (image,) = candidates
    if data_keys[image].get("external"):
        where = str(data_keys[image]["external"])[:80]
        raise DocumentError(f"the images of {image!r} lie in files ({where}), which are not read yet")
    return image


def find_rotation(start: Mapping[str, Any], descriptor: Mapping[str, Any], rules: DocumentRules) -> str:
    """The data key of the rotation angle: the rule's, else the only angle among what the plan said it moves."""
    data_keys = descriptor["data_keys"]
    if rules.rotation is not None:
        if rules.rotation not in data_keys:
            raise DocumentError(f"no data key {rules.rotation!r} (documents.rotation); there are {_names(data_keys)}")
        return rules.rotation
    moved = list(dict.fromkeys(key for key in _moved(start, descriptor) if _is_number(data_keys.get(key))))
    candidates = [key for key in moved if _units(data_keys[key]) in _ANGULAR_UNITS]
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
    """A sentence when the data key's own unit is not the profile's, else None."""
    unit = _units(entry)
    if unit in _ANGULAR_UNITS and ("rad" in unit) != (rules.angle_unit == "radians"):
        return f"{key!r} has the unit {unit!r}, but documents.angle_unit is {rules.angle_unit!r}, which is used"
    return None


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

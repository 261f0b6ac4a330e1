"""What one descriptor says about the frames of its events."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.assembly.data_keys import (
    DataKeyMap,
    columns_of,
    degrees_per_unit,
    find_image,
    find_rotation,
    map_columns,
    unit_contradiction,
)
from pfitre_service.ingest.assembly.event_join import EVENT
from pfitre_service.ingest.assembly.scanned_maps import map_shape
from pfitre_service.ingest.assembly.start_document import angles_of_start
from pfitre_service.ingest.rules import DocumentRules
from pfitre_service.model import Role

ANGLE = "\0angle"
"""Name of the part of an event that is its angle from another stream; no data key begins like this."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream with frames."""

    name: str
    role: Role
    columns: DataKeyMap
    degrees_per_unit: float = 1.0
    """Of the angles in its events."""


@dataclass(frozen=True, slots=True)
class AngleStream:
    """A stream with angles alone."""

    name: str
    key: str
    in_files: bool
    degrees_per_unit: float


def stream_of(
    name: str, role: Role, start: Mapping[str, Any], document: Mapping[str, Any], rules: DocumentRules
) -> Stream:
    """Raises `DocumentError` for a stream without image or angle."""
    data_keys, with_angle = document["data_keys"], role == "projection" and rules.angle_from == "event"
    rotation = find_rotation(start, document, rules) if with_angle else None
    if rules.maps.elements:
        size = math.prod(map_shape(start, rules.maps))
        columns = map_columns(rotation, data_keys, rules.maps, size)
        return Stream(name, role, columns, _unit_of(rotation, data_keys, rules))
    image = find_image(data_keys, rules)
    separate = _separate(role, rules)
    columns = columns_of((image,), rotation, data_keys, separate)
    in_file = bool(rules.angle_dataset or rules.angle_time_dataset)
    if in_file and role == "projection" and image not in columns.in_files:
        raise DocumentError(
            f"the images of {image!r} lie in no file, but documents.angle_from asks for a dataset in it"
        )
    if rules.angle_from == "start" and role == "projection":
        angles_of_start(start, rules, 0, 1)
    return Stream(name, role, columns, _unit_of(rotation, data_keys, rules))


def angle_stream_of(name: str, document: Mapping[str, Any], rules: DocumentRules) -> AngleStream:
    """Raises `DocumentError` for a stream without the angle."""
    key = find_rotation({}, document, rules)
    entry = document["data_keys"][key]
    return AngleStream(name, key, bool(entry.get("external")), degrees_per_unit(entry, rules))


def contradicted_unit(
    start: Mapping[str, Any], document: Mapping[str, Any], rules: DocumentRules, *, of_angles: bool
) -> str | None:
    """A sentence when the descriptor gives the angle another unit than the rules do."""
    if not of_angles and rules.angle_from != "event":
        return None
    rotation = find_rotation(start, document, rules)
    return unit_contradiction(rotation, document["data_keys"][rotation], rules)


def _unit_of(rotation: str | None, data_keys: Mapping[str, Any], rules: DocumentRules) -> float:
    return rules.degrees_per_unit if rotation is None else degrees_per_unit(data_keys[rotation], rules)


def _separate(role: Role, rules: DocumentRules) -> frozenset[str]:
    if role != "projection" or rules.angle_from != "stream":
        return frozenset()
    if rules.angle_by_number:
        return frozenset({ANGLE})
    return frozenset() if rules.angle_time_dataset else frozenset({EVENT})

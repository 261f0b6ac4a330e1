"""A stored scan as the documents that it might have come in: darks, flats, projections, an event a frame."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.ingest.rules import DocumentRules
from pfitre_service.ingest.scan_files.stored_scan import StoredScan

Document = tuple[str, dict[str, Any]]


def documents_of_scan(
    scan: StoredScan, rules: DocumentRules, *, frame_s: float, axis: float | None = None
) -> Iterator[Document]:
    """One run in the words of `rules` (streams, data keys, unit of angles), a frame every `frame_s` seconds from now.

    axis: column of the rotation axis, if it is known.

    Raises `InputError` where `rules` read no images and angles in events.
    """
    if rules.angle_from != "event" or rules.maps.elements:
        raise InputError(
            "a scan file becomes events with an image and an angle each, which this profile does not read "
            f'(documents.angle_from = {rules.angle_from!r}): leave it out, or add --set documents.angle_from="event"'
        )
    return _documents(scan, rules, frame_s, axis)


def _documents(scan: StoredScan, rules: DocumentRules, frame_s: float, axis: float | None) -> Iterator[Document]:
    uid, now = str(uuid.uuid4()), time.time()
    rotation, image = rules.rotation or "rotation", rules.image or "image"
    angles = np.deg2rad(scan.angles) if rules.angle_unit == "radians" else scan.angles
    known = {"pixel_size_nm": scan.pixel_size_nm, "rotation_axis": axis}
    yield "start", _start(scan, uid, now, rotation) | {key: value for key, value in known.items() if value is not None}
    takes: list[tuple[str, NDArray[Any] | None, NDArray[np.float64] | None]] = [
        (rules.dark_streams[0] if rules.dark_streams else "", scan.darks, None),
        (rules.flat_streams[0] if rules.flat_streams else "", scan.flats, None),
        (rules.projection_streams[0], scan.projections, angles),
    ]
    counts: dict[str, int] = {}
    for stream, frames, degrees in takes:
        if not stream or frames is None:
            continue
        counts[stream] = len(frames)
        descriptor = str(uuid.uuid4())
        columns: dict[str, NDArray[Any]] = {image: frames} | ({} if degrees is None else {rotation: degrees})
        yield (
            "descriptor",
            _descriptor(
                descriptor, uid, stream, now, columns, "radians" if rules.angle_unit == "radians" else "degrees"
            ),
        )
        for number, values in enumerate(zip(*columns.values(), strict=True), start=1):
            now += frame_s
            yield "event", _event(descriptor, number, now, dict(zip(columns, values, strict=True)))
    yield (
        "stop",
        {"uid": str(uuid.uuid4()), "run_start": uid, "time": now, "exit_status": "success", "num_events": counts},
    )


def _start(scan: StoredScan, uid: str, now: float, rotation: str) -> dict[str, Any]:
    return {
        "uid": uid,
        "time": now,
        "plan_name": "stored_scan",
        "source": scan.source,
        "motors": [rotation],
        "num_projections": len(scan.projections),
    } | ({} if scan.measurement is None else {"measurement": scan.measurement})


def _descriptor(
    uid: str, run_uid: str, stream: str, now: float, columns: dict[str, NDArray[Any]], unit: str
) -> dict[str, Any]:
    keys = {
        key: {
            "source": "file",
            "dtype": "array" if values.ndim > 1 else "number",
            "dtype_numpy": values.dtype.str,
            "shape": list(values.shape[1:]),
            **({} if values.ndim > 1 else {"units": unit}),
        }
        for key, values in columns.items()
    }
    return {"uid": uid, "run_start": run_uid, "name": stream, "time": now, "data_keys": keys, "configuration": {}}


def _event(descriptor: str, number: int, now: float, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "uid": str(uuid.uuid4()),
        "descriptor": descriptor,
        "seq_num": number,
        "time": now,
        "data": data,
        "timestamps": dict.fromkeys(data, now),
    }

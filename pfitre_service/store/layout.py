"""How one tomogram lies in the catalogue (docs/reference/catalogue.md): names of nodes, columns of tables.

One writer per node: the receiving side writes `projections`, `flats`, `darks` and `frames` with its metadata; the
worker writes `volume`, `physics`, `expected_error`, `inferred`, `preview`, `progress` and, after creation, the
container's metadata.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal

from pfitre_service.errors import InputError, StoreError
from pfitre_service.model import Frame, Progress, Role, ScanGeometry, TomogramKey

VERSION = 2
"""Of this layout, in the metadata of the container of all tomograms. 1, where it stands nowhere: the expected error was
called otherwise, `frames` had no uid of the event, and frames and results had no checksums."""
ROOT = "tomograms"
FRAMES = "frames"
WITHDRAWN: Mapping[Role, str] = {
    "projection": "withdrawn",
    "flat": "withdrawn_flats",
    "dark": "withdrawn_darks",
}
"""Keys in the metadata of `frames`: rows of the array of a role that count no more, because they were taken again."""
PROGRESS = "progress"
ARRAY_OF_ROLE: Mapping[Role, str] = {"projection": "projections", "flat": "flats", "dark": "darks"}
FRAME_DIMS = ("angle", "row", "column")
VOLUME_DIMS = ("z", "y", "x")

ResultName = Literal["volume", "physics", "expected_error", "inferred", "preview"]
ENDED = ("final", "failed", "references")
"""States of a tomogram, `status` in its metadata, in which nothing more will come of it."""
AcquisitionState = Literal["receiving", "complete", "aborted", "failed", "abandoned"]
"""Of the frames; every state but the first is an end."""

FrameId = tuple[str, str, int, int, str]
"""(run uid, stream, seq_num, part, event uid): one frame, wherever it came from. The event's uid tells a point that was
taken again from one that came twice."""

FRAME_COLUMNS = ("role", "index", "angle", "run_uid", "stream", "seq_num", "part", "event_uid", "time")
ID_COLUMNS = ("run_uid", "stream", "seq_num", "part", "event_uid")
PROGRESS_COLUMNS = tuple(field.name for field in fields(Progress))
_PARTITION_ROWS = 1000
_INTEGERS = {"index", "seq_num", "part", "revision", "angles_stored", "angles_used", "iterations"}
_TEXTS = {"role", "run_uid", "stream", "event_uid", "phase"}


def check_version(metadata: Mapping[str, Any], where: str) -> None:
    """Refuses a catalogue of another layout.

    Parameters
    ----------
    metadata
        Of the container of all tomograms.
    where
        Address of the catalogue.

    Raises
    ------
    StoreError
        The layout is another one.
    """
    found = metadata.get("layout", 1)
    if found == VERSION:
        return
    older = isinstance(found, int) and found < VERSION
    raise StoreError(
        f"the catalogue at {where} has tomograms in layout {str(found)[:20]}, and this version of pfitre-service works "
        f"with layout {VERSION}. Give it a catalogue of its own (data_dir, or another container's tiled.uri), or read "
        f"this one with {'the version that wrote it' if older else 'a newer version'}"
    )


def container_path(key: TomogramKey) -> str:
    """Path of a tomogram in the catalogue.

    Parameters
    ----------
    key
        The tomogram.

    Returns
    -------
    str
        Segments with slashes between.
    """
    return f"{ROOT}/{key.id}"


def node_path(key: TomogramKey, name: str) -> str:
    """Path of a node in a tomogram.

    Parameters
    ----------
    key
        The tomogram.
    name
        Of the array or table.

    Returns
    -------
    str
        Segments with slashes between.
    """
    return f"{ROOT}/{key.id}/{name}"


def partition_of(row: int) -> int:
    """The partition of `frames` in which a batch lies. A reader that knows `row` rows finds the next ones there. A
    batch is never divided, so partitions may hold more rows than this says, or none; tables made before there were
    partitions have all their rows in the first.

    Parameters
    ----------
    row
        First row of the batch, from 0.

    Returns
    -------
    int
        From 0.
    """
    return row // _PARTITION_ROWS


def table_schema(columns: Sequence[str]) -> Any:
    """Schema of `frames` or `progress`.

    Parameters
    ----------
    columns
        `FRAME_COLUMNS` or `PROGRESS_COLUMNS`.

    Returns
    -------
    Any
        A pyarrow.Schema.
    """
    import pyarrow

    def kind(name: str) -> Any:
        if name in _TEXTS:
            return pyarrow.string()
        return pyarrow.int64() if name in _INTEGERS else pyarrow.float64()

    return pyarrow.schema([(name, kind(name)) for name in columns])


def frame_id(frame: Frame) -> FrameId:
    """What names a frame, wherever it came from.

    Parameters
    ----------
    frame
        With what its documents said of it.

    Returns
    -------
    FrameId
        See `FrameId`.
    """
    return (frame.run_uid, frame.stream, frame.seq_num, frame.part, frame.event_uid)


def frame_columns(frames: Sequence[Frame], rows: Sequence[int]) -> dict[str, list[Any]]:
    """Rows of `frames`.

    Parameters
    ----------
    frames
        To be stored.
    rows
        Where each lies in the array of its role.

    Returns
    -------
    dict[str, list[Any]]
        By the names of `FRAME_COLUMNS`.
    """
    return {
        "role": [frame.role for frame in frames],
        "index": [int(row) for row in rows],
        "angle": [float(frame.angle) for frame in frames],
        "run_uid": [frame.run_uid for frame in frames],
        "stream": [frame.stream for frame in frames],
        "seq_num": [int(frame.seq_num) for frame in frames],
        "part": [int(frame.part) for frame in frames],
        "event_uid": [frame.event_uid for frame in frames],
        "time": [float(frame.time) for frame in frames],
    }


def progress_columns(rows: Sequence[Progress]) -> dict[str, list[Any]]:
    """Rows of `progress`.

    Parameters
    ----------
    rows
        Oldest first.

    Returns
    -------
    dict[str, list[Any]]
        By the names of `PROGRESS_COLUMNS`.
    """
    return {name: [getattr(row, name) for row in rows] for name in PROGRESS_COLUMNS}


def progress_rows(columns: Mapping[str, Sequence[Any]]) -> list[Progress]:
    """What `progress_columns` made; NaN comes back from SQL as null.

    Parameters
    ----------
    columns
        By name.

    Returns
    -------
    list[Progress]
        One for each row.
    """
    names = PROGRESS_COLUMNS
    return [
        Progress(**{name: _cell(name, value) for name, value in zip(names, row, strict=True)})
        for row in zip(*(columns[name] for name in names), strict=True)
    ]


def withdrawn_rows(metadata: Mapping[str, Any]) -> dict[Role, frozenset[int]]:
    """Rows of each role's array that count no more.

    Parameters
    ----------
    metadata
        Of `frames`.

    Returns
    -------
    dict[Role, frozenset[int]]
        Rows from 0.
    """
    return {role: frozenset(int(row) for row in metadata.get(key) or ()) for role, key in WITHDRAWN.items()}


_ORIGIN = (
    "run_uids",
    "scan_id",
    "sample",
    "profile",
    "element",
    "references",
    "measurement",
    "software",
    "prior",
    "weights_sha256",
    "device",
    "frames_used",
    "frames_unusable",
    "frames_damaged",
    "geometry",
    "calibration",
    "parameters",
)


def origin(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Where a tomogram comes from and how it was made: what exported files and arrays in notebooks carry.

    Parameters
    ----------
    metadata
        Of the tomogram.

    Returns
    -------
    dict
        JSON values by name; None for what is not known.
    """
    return {name: metadata.get(name) for name in _ORIGIN}


def geometry_of(document: Mapping[str, Any], frame_shape: tuple[int, int] | None) -> ScanGeometry | None:
    """Geometry from the container's metadata; what it leaves open comes from the frames.

    Parameters
    ----------
    document
        What the run said.
    frame_shape
        (row, column) of the stored projections; None while there are none.

    Returns
    -------
    ScanGeometry | None
        None while neither tells.

    Raises
    ------
    InputError
        The geometry cannot be.
    """
    rows, columns = document.get("rows"), document.get("columns")
    if frame_shape is not None:
        rows, columns = frame_shape
    if rows is None or columns is None:
        return None
    return ScanGeometry.from_detector(
        rows=int(rows),
        columns=int(columns),
        axis=document.get("axis"),
        size=document.get("size"),
        pixel_size_nm=document.get("pixel_size_nm"),
    )


def references_of(metadata: Mapping[str, Any]) -> TomogramKey | None:
    """The tomogram that holds flats and darks for another one, if its run named one.

    Parameters
    ----------
    metadata
        Of that other one.

    Returns
    -------
    TomogramKey | None
        None for none.
    """
    uid = metadata.get("references")
    try:
        return TomogramKey(uid) if isinstance(uid, str) else None
    except InputError:  # a beamline's word for "none", perhaps
        return None


def _cell(name: str, value: Any) -> Any:
    if name in _TEXTS:
        return str(value)
    if name in _INTEGERS:
        return int(value)
    return math.nan if value is None else float(value)

"""One stream of a run that TiledWriter stored: its table, arrays and files as documents again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np

from pfitre_service.errors import InputError, StoreUnavailableError
from pfitre_service.ingest.stored_runs.event_rows import Take, takes_of

_Answer = TypeVar("_Answer")
TimedDocument = tuple[float, str, dict[str, Any]]
"""Seconds since 1970, name, document."""
_BLOCK_BYTES = 32 << 20
"""Arrays are fetched in blocks of about this size; Tiled refuses answers past 300 MB."""


@dataclass(frozen=True, slots=True)
class FileArray:
    """An array in a file that this machine may read."""

    key: str
    count: int
    """Indices that datums may name."""
    resource: dict[str, Any]
    """The `stream_resource` document."""


@dataclass(frozen=True, slots=True)
class StoredStream:
    """What Tiled holds of one stream."""

    descriptors: list[dict[str, Any]]
    takes: Sequence[Take]
    """Of the table, in order; empty where nothing but arrays was written."""
    arrays: Mapping[str, Any]
    """Data key to a Tiled client of an array with an entry for each take along its first axis."""
    files: tuple[FileArray, ...]
    told_by: frozenset[tuple[str, ...]] = frozenset()
    """Paths of the nodes that tell of new events by Tiled's stream. Arrays that TiledWriter writes are not among them:
    their messages hold the images, and their rows of the table come after them."""

    @classmethod
    def from_node(
        cls,
        name: str,
        node: Any,
        run_uid: str,
        readable: Callable[[str], bool],
        *,
        is_over: bool = True,
        events: int | None = None,
    ) -> StoredStream:
        """The stream below `node`, which had so many `events` if the run is over and said so.

        readable: whether the file at a path is announced as one; others are read through Tiled.

        Raises `InputError` where Tiled does not know which part of a file or array belongs to which event.
        """
        from bluesky_tiled_plugins.exporters import build_descriptor_docs

        descriptors = build_descriptor_docs(dict(node.metadata), stream_name=name, run_start_uid=run_uid)
        keys = descriptors[0]["data_keys"]
        parts = dict(node.items())
        outside = {part for part in parts if part in keys and keys[part].get("external")}
        told_by = {path_of(node), *(path_of(parts[part]) for part in parts if part not in keys or part in outside)}
        tables = [child.read().to_dict(orient="records") for part, child in parts.items() if part not in keys]
        takes = takes_of(tables, f"stream {name!r}", is_over=is_over)
        arrays: dict[str, Any] = {}
        files: list[FileArray] = []
        for part, child in ((part, child) for part, child in parts.items() if part in keys):
            held = count_of(tuple(child.shape), _shape_of(keys[part]))
            if events is not None:
                if part in outside:
                    _check_own(name, part, held, len(takes) or events)
                _check_takes(name, part, held, takes)
            if file := _file_of(part, child, descriptors[0], readable):
                if is_over:
                    _check_whole(file, child.shape)
                files.append(file)
            else:
                arrays[part] = child
        for data_keys in (descriptor["data_keys"] for descriptor in descriptors):
            for key in arrays:
                data_keys[key].pop("external", None)
            for file in files:
                data_keys[file.key]["external"] = "STREAM:"
        return cls(descriptors, takes, arrays, tuple(files), frozenset(told_by))

    def documents(self, first: int = 0, count: int | None = None) -> Iterator[TimedDocument]:
        """Descriptor, files, then for each event its datums and itself, with times that never go back.

        A point that was taken again has an event for each take, in their order, with the same seq_num and other uids.

        first: how many events are left out at the beginning; count: how many follow, by default all that there are.
        """
        now = float(self.descriptors[0]["time"])
        yield now, "descriptor", self.descriptors[0]
        for file in self.files:
            yield now, "stream_resource", file.resource
        keys = self.descriptors[0]["data_keys"]
        columns = {key: _entries(array, _shape_of(keys[key]), first) for key, array in self.arrays.items()}
        described = 1
        takes = self._all_takes()
        stop = len(takes) if count is None else min(len(takes), first + count)
        for place in range(first, stop):
            take = takes[place]
            now = max(now, float(take.row.get("time", now)))
            while described < len(self.descriptors) and float(self.descriptors[described]["time"]) <= now:
                yield now, "descriptor", self.descriptors[described]
                described += 1
            files = (file for file in self.files if place < file.count)
            yield from ((now, "stream_datum", self._datum(file, take, place)) for file in files)
            values = {key: value for key, column in columns.items() if (value := next(column, None)) is not None}
            if take.row or values:
                yield now, "event", self._event(take, now, values, self.descriptors[described - 1]["uid"])

    def complete(self) -> int:
        """How many events are whole while the run goes on.

        TiledWriter writes arrays before their rows of the table. What lies in files counts as far as the table goes:
        without a table nothing says whether it all belongs to this stream until the run ends.
        """
        keys = self.descriptors[0]["data_keys"]
        held = [file.count for file in self.files]
        held += [count_of(tuple(array.shape), _shape_of(keys[key])) for key, array in self.arrays.items()]
        outside = {key for key, entry in keys.items() if entry.get("external")}
        is_whole = outside <= {file.key for file in self.files}
        return min([len(self.takes), *held]) if is_whole else 0

    def _all_takes(self) -> Sequence[Take]:
        """Those of the table; without one, each entry of the longest array is a point that was taken once."""
        keys, lengths = self.descriptors[0]["data_keys"], [file.count for file in self.files]
        lengths += [count_of(tuple(array.shape), _shape_of(keys[key])) for key, array in self.arrays.items()]
        return self.takes or [Take(number, 0, {}) for number in range(1, max(lengths, default=0) + 1)]

    def _datum(self, file: FileArray, take: Take, place: int) -> dict[str, Any]:
        """The one index of a take."""
        return {
            "uid": f"{file.resource['uid']}/{take.name}",
            "stream_resource": file.resource["uid"],
            "descriptor": self.descriptors[0]["uid"],
            "indices": {"start": place, "stop": place + 1},
            "seq_nums": {"start": take.number, "stop": take.number + 1},
        }

    def _event(self, take: Take, now: float, values: dict[str, Any], descriptor: str) -> dict[str, Any]:
        keys, row = self.descriptors[0]["data_keys"], take.row
        data = {key: _plain(row[key], keys[key]) for key in row if key in keys} | values
        return {
            "uid": f"{descriptor}/{take.name}",
            "descriptor": descriptor,
            "seq_num": take.number,
            "time": now,
            "data": data,
            "timestamps": {key: float(row.get(f"ts_{key}", now)) for key in data},
        }


def path_of(node: Any) -> tuple[str, ...]:
    """Where a Tiled client's node lies. What was found through the root has a part without a name before it."""
    return tuple(part for part in node.path_parts if part)


def count_of(shape: tuple[int, ...], each: list[int]) -> int:
    """How many events an array of this shape holds, with values of the shape `each`: they were stacked along a new
    axis, or joined along their first."""
    if len(shape) == len(each) + 1 or not each:
        return shape[0]
    return shape[0] // max(1, each[0])


def _entries(array: Any, each: list[int], begin: int) -> Iterator[Any]:
    """The value of each event from number `begin`, fetched in blocks."""
    shape = tuple(array.shape)
    count, joined = count_of(shape, each), len(shape) == len(each) and bool(each)
    rows = each[0] if joined else 1
    frame_bytes = max(1, int(np.prod(shape[1:])) * rows * array.dtype.itemsize)
    block = max(1, _BLOCK_BYTES // frame_bytes)
    for first in range(begin, count, block):
        last = min(count, first + block)
        values = np.asarray(reached(partial(array.__getitem__, slice(first * rows, last * rows)), array.uri))
        yield from values.reshape(-1, rows, *values.shape[1:]) if joined else values


def reached(ask: Callable[[], _Answer], where: str) -> _Answer:
    """The answer of a Tiled client. Raises `InputError` for what it refuses, `StoreUnavailableError` where it fails."""
    import httpx

    try:
        return ask()
    except httpx.HTTPStatusError as error:
        refused = error.response.status_code < 500
        raise (InputError if refused else StoreUnavailableError)(f"Tiled refuses {where}: {error!s:.300}") from error
    except (httpx.HTTPError, OSError, ValueError) as error:
        raise StoreUnavailableError(f"Tiled does not give {where}: {error!s:.300}") from error


def _shape_of(data_key: Mapping[str, Any]) -> list[int]:
    return list(data_key.get("shape", ()))


def _check_own(stream: str, key: str, held: int, events: int) -> None:
    """TiledWriter adds up all that one file holds, in the stream that named it first."""
    if held > events:
        raise InputError(
            f"stream {stream!r} had {events} events, and Tiled holds {held} entries of {key!r} for it: several streams "
            "shared one file, or points were taken again, and which part was whose is lost; replay the run from a file "
            "of its documents"
        )


def _check_takes(stream: str, key: str, held: int, takes: Sequence[Take]) -> None:
    """Where points were taken again, nothing but the place tells which entry belongs to which take."""
    if held != len(takes) and any(take.again for take in takes):
        raise InputError(
            f"points of stream {stream!r} were taken again, {len(takes)} takes in all, and Tiled holds {held} entries "
            f"of {key!r}: which belongs to which is lost; replay the run from a file of its documents"
        )


def _file_of(key: str, child: Any, descriptor: Mapping[str, Any], readable: Callable[[str], bool]) -> FileArray | None:
    """The file behind an array that a detector wrote, if it is a single one that may be read here."""
    entry = descriptor["data_keys"][key]
    sources = child.data_sources() if entry.get("external") else None
    if not sources or len(sources[0].assets) != 1:
        return None
    source, uri = sources[0], sources[0].assets[0].data_uri
    path = unquote(urlsplit(uri).path)
    if source.mimetype != "application/x-hdf5" or not readable(path):
        return None
    resource = {
        "uid": f"{descriptor['uid']}/{key}",
        "run_start": descriptor["run_start"],
        "data_key": key,
        "mimetype": source.mimetype,
        "uri": uri,
        "parameters": dict(source.parameters),
    }
    return FileArray(key, count_of(tuple(child.shape), _shape_of(entry)), resource)


def _check_whole(array: FileArray, shape: tuple[int, ...]) -> None:
    """A file with more than the stream's frames has others too, and Tiled keeps no order of them."""
    import h5py

    path, dataset = unquote(urlsplit(array.resource["uri"]).path), str(array.resource["parameters"].get("dataset", ""))
    try:
        with h5py.File(path, "r") as file:
            held = file[dataset].shape
    except (OSError, KeyError) as error:
        raise InputError(f"{path}: cannot be read as HDF5 with the dataset {dataset!r}: {error!s:.200}") from error
    if math.prod(held) > math.prod(shape):
        raise InputError(
            f"{path}: its dataset {dataset!r} has the shape {held}, and Tiled holds {tuple(shape)} of it for one "
            "stream: several streams shared the file, or exposures were made of which no event tells, and which part "
            "was whose is lost; replay the run from a file of its documents"
        )


def _plain(value: Any, data_key: Mapping[str, Any]) -> Any:
    """A cell of a table: lists of numbers come as arrays of arrays, and out of SQLite as text."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        return np.array([_plain(item, data_key) for item in value])
    if isinstance(value, str) and data_key.get("dtype") == "array":
        return np.array(value.strip("[]").replace(",", " ").split(), dtype=data_key.get("dtype_numpy", "f8"))
    return value.item() if isinstance(value, np.generic) else value

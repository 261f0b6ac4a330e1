"""What the store does with Tiled's nodes: containers, growing arrays, blocked arrays, appendable tables.

Paths are relative to the server's root: `tomograms/{id}/projections`.
"""

from __future__ import annotations

import dataclasses
import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pfitre_service.errors import StoreConflictError, StoreError
from pfitre_service.json_values import plain
from pfitre_service.store.tiled_http.connection import Params, TiledHttp

_ARROW = "application/vnd.apache.arrow.file"
_OCTETS = "application/octet-stream"


def preload() -> None:
    """Imports now what the first write would import: half a second that belongs to the start, not to a scan."""
    logging.getLogger("numexpr").setLevel(logging.WARNING)  # it announces its threads when pandas loads it
    import pyarrow
    import tiled.structures.array
    import tiled.structures.data_source
    import tiled.structures.table  # noqa: F401

    pyarrow.table({"revision": [0]}).to_pydict()


@dataclass(frozen=True, slots=True)
class Node:
    """One node as the server describes it now."""

    key: str
    metadata: dict[str, Any]
    structure: dict[str, Any]
    data_source: dict[str, Any]
    """Where the server keeps it; empty unless it was asked for."""

    @classmethod
    def from_resource(cls, resource: Mapping[str, Any]) -> Node:
        attributes = resource["attributes"]
        sources = attributes.get("data_sources") or [{}]
        return cls(
            key=str(resource["id"]),
            metadata=dict(attributes.get("metadata") or {}),
            structure=dict(attributes.get("structure") or {}),
            data_source=dict(sources[0]),
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an array."""
        return tuple(int(n) for n in self.structure["shape"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of an array."""
        from tiled.structures.array import BuiltinDtype

        dtype: np.dtype[Any] = BuiltinDtype.from_json(self.structure["data_type"]).to_numpy_dtype()
        return dtype

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Of an array: lengths of the chunks along each axis."""
        return tuple(tuple(int(n) for n in axis) for axis in self.structure["chunks"])


def get_node(wire: TiledHttp, path: str, *, with_source: bool = False) -> Node:
    """Raises StoreMissingError where there is none."""
    return Node.from_resource(_data(wire, f"metadata/{path}", {"include_data_sources": with_source}))


def list_nodes(
    wire: TiledHttp,
    path: str,
    *,
    limit: int = 100,
    offset: int = 0,
    newest_first: bool = False,
    none_of: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[Node]:
    """Children of a container with their metadata, in order of creation.

    none_of: values that keys of their metadata must not have; at most one key.
    """
    params: dict[str, str | int | bool | list[str]] = {
        "page[limit]": limit,
        "page[offset]": offset,
        "omit_links": True,
        "sort": "-" if newest_first else "",
    }
    for key, values in none_of.items():
        params |= {"filter[notin][condition][key]": key, "filter[notin][condition][value]": json.dumps(list(values))}
    return [Node.from_resource(resource) for resource in _data(wire, f"search/{path}", params)]


def create_container(wire: TiledHttp, parent: str, key: str, metadata: Mapping[str, Any]) -> bool:
    """False where it is there already (it is left as it is)."""
    return _create(wire, parent, key, "container", metadata, [])


def create_array(
    wire: TiledHttp,
    parent: str,
    key: str,
    *,
    shape: Sequence[int],
    chunks: Sequence[Sequence[int]],
    dims: Sequence[str],
    dtype: DTypeLike,
) -> bool:
    """An empty array. False where a node of this name is there already."""
    from tiled.structures.array import ArrayStructure, BuiltinDtype
    from tiled.structures.data_source import DataSource

    structure = ArrayStructure(
        data_type=BuiltinDtype.from_numpy_dtype(np.dtype(dtype)),
        shape=tuple(shape),
        chunks=tuple(tuple(axis) for axis in chunks),
        dims=tuple(dims),
    )
    source = dataclasses.asdict(DataSource(structure_family="array", structure=structure))
    return _create(wire, parent, key, "array", {}, [source])


def create_table(wire: TiledHttp, parent: str, key: str, schema: Any, metadata: Mapping[str, Any]) -> bool:
    """An empty table that grows by rows; `schema` is a pyarrow.Schema. False where it is there already."""
    from tiled.structures.data_source import DataSource
    from tiled.structures.table import TableStructure

    source = DataSource(
        structure_family="table",
        structure=TableStructure.from_schema(schema, 1),
        mimetype="application/x-tiled-sql-table",
    )
    return _create(wire, parent, key, "table", metadata, [dataclasses.asdict(source)])


def patch_metadata(wire: TiledHttp, path: str, fields: Mapping[str, Any]) -> None:
    """Set `fields` and leave the others; a field set to None is removed."""
    body = {
        "metadata": plain(fields),
        "specs": None,
        "content-type": "application/merge-patch+json",
    }
    # Kept revisions would make a row in the catalogue of every step of every reconstruction.
    wire.send_json("PATCH", f"metadata/{path}", body, {"drop_revision": True})


def write_rows_of_array(wire: TiledHttp, path: str, data: NDArray[Any], first: int) -> None:
    """Write `data` (row, ...) from row `first` on; the array grows to hold it. dtype and shape must be the array's."""
    offset = _numbers((first, *(0 for _ in data.shape[1:])))
    params: Params = {"offset": offset, "shape": _numbers(data.shape), "extend": True}
    wire.send_bytes("PATCH", f"array/full/{path}", data.tobytes(), _OCTETS, params)


def announce_rows(
    wire: TiledHttp, path: str, source: Mapping[str, Any], shape: Sequence[int], length: int, first: int
) -> None:
    """Tell the server, and through it every subscriber, that an array of `shape` now lies in the place of `source`.

    Args:
        shape: of the whole array; rows from `first` on are new.
        length: rows of a chunk, the last of which may be shorter.
    """
    full, rest = divmod(shape[0], length)
    rows = [length] * full + ([rest] if rest else [])
    structure = {**source["structure"], "shape": list(shape), "chunks": [rows, *([n] for n in shape[1:])]}
    params = {"patch_offset": _numbers((first, 0, 0)), "patch_shape": _numbers((shape[0] - first, *shape[1:]))}
    _put_source(wire, path, {**source, "structure": structure}, params)


def write_block(wire: TiledHttp, path: str, data: NDArray[Any], block: tuple[int, ...]) -> None:
    """Write one whole chunk of an array."""
    params = {"block": _numbers(block)}
    wire.send_bytes("PUT", f"array/block/{path}", data.tobytes(), _OCTETS, params)


def read_rows_of_array(
    wire: TiledHttp, path: str, first: int, stop: int, shape: Sequence[int], dtype: np.dtype[Any]
) -> Any:
    """Rows `first` to `stop` of an array whose rows have `shape` and `dtype`; a new array.

    Raises:
        StoreError: the server holds fewer rows than that.
    """
    if stop <= first:
        return np.empty((0, *shape), dtype)
    content = wire.get_bytes(f"array/full/{path}", {"slice": f"{first}:{stop}", "format": _OCTETS})
    expected = (stop - first) * int(np.prod(shape)) * dtype.itemsize
    if len(content) != expected:
        raise StoreError(f"{path} should hold rows {first} to {stop}, {expected} bytes; the server sent {len(content)}")
    return np.frombuffer(content, dtype).reshape(stop - first, *shape).copy()


def read_cut_of_array(
    wire: TiledHttp, path: str, axis: int, place: int, shape: Sequence[int], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """What lies at `place` along `axis` of an array of three axes, where it has `shape` and `dtype`; a new array.

    Raises:
        StoreError: the server has nothing of this shape there.
    """
    chosen = ",".join(str(place) if other == axis else ":" for other in range(3))
    content = wire.get_bytes(f"array/full/{path}", {"slice": chosen, "format": _OCTETS})
    expected = int(np.prod(shape)) * dtype.itemsize
    if len(content) != expected:
        raise StoreError(f"{path} should have {expected} bytes at [{chosen}]; the server sent {len(content)}")
    return np.frombuffer(content, dtype).reshape(shape).copy()


def append_to_table(
    wire: TiledHttp, path: str, columns: Mapping[str, Sequence[Any]], schema: Any, *, partition: int = 0
) -> None:
    """Append rows to a partition. Not idempotent: after StoreUnavailableError look at the table before trying again."""
    import pyarrow

    table = pyarrow.table(dict(columns), schema=schema)
    sink = io.BytesIO()
    with pyarrow.ipc.new_file(sink, schema) as file:
        file.write_table(table)
    wire.send_bytes("PATCH", f"table/partition/{path}", sink.getvalue(), _ARROW, {"partition": partition})


def announce_partitions(wire: TiledHttp, path: str, count: int) -> None:
    """Tell the server that a table has `count` partitions: plain clients read so many."""
    source = get_node(wire, path, with_source=True).data_source
    if source["structure"]["npartitions"] < count:
        _put_source(wire, path, {**source, "structure": {**source["structure"], "npartitions": count}}, {})


def read_table(
    wire: TiledHttp, path: str, columns: Sequence[str], *, partition: int | None = None
) -> dict[str, list[Any]]:
    """Columns of a table, or of one partition of it, in the order in which rows came."""
    import pyarrow

    params: Params = {"format": _ARROW, "column": list(columns)}
    if partition is None:
        content = wire.get_bytes(f"table/full/{path}", params)
    else:
        content = wire.get_bytes(f"table/partition/{path}", {**params, "partition": partition})
    table = pyarrow.ipc.open_file(content).read_all()
    return {name: table.column(name).to_pylist() for name in columns}


def _numbers(values: Sequence[int]) -> str:
    return ",".join(map(str, values))


def _put_source(wire: TiledHttp, path: str, source: Mapping[str, Any], params: Params) -> None:
    # Its assets are registered; sent along they would be looked up one by one.
    wire.send_json("PUT", f"data_source/{path}", {"data_source": {**source, "assets": []}}, params)


def _data(wire: TiledHttp, path: str, params: Params | None = None) -> Any:
    answer = wire.get_json(path, params)
    if "data" not in answer:
        raise StoreError(f"what answers at {wire.uri} is no Tiled server: {str(answer)[:80]!r}")
    return answer["data"]


def _create(
    wire: TiledHttp, parent: str, key: str, family: str, metadata: Mapping[str, Any], sources: list[dict[str, Any]]
) -> bool:
    body = {
        "id": key,
        "structure_family": family,
        "metadata": plain(metadata),
        "specs": [],
        "data_sources": plain(sources, f"{parent}/{key}"),
    }
    try:
        wire.send_json("POST", f"metadata/{parent}", body)
    except StoreConflictError:
        return False
    return True

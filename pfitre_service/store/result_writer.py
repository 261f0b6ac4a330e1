"""The worker's writer: volume, physics and expected_error by slabs, rows of progress, the tomogram's status."""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import StoreError, StoreMissingError
from pfitre_service.model import Progress, TomogramKey
from pfitre_service.store import layout
from pfitre_service.store.layout import ResultName
from pfitre_service.store.local_arrays import folder_of, leave_uncompressed
from pfitre_service.store.tiled_http import nodes
from pfitre_service.store.tiled_http.connection import TiledHttp

# A chunk, and a request: a slice across all slabs opens few files, and one slab is written in about 60 ms.
_SLAB_BYTES = 8 << 20


def slab_depth(shape: tuple[int, int, int]) -> int:
    """Slices per slab of a float32 volume of `shape` (z, y, x)."""
    return max(1, min(shape[0], _SLAB_BYTES // (4 * shape[1] * shape[2])))


class ResultWriter:
    """The only writer of one tomogram's results. Not safe to share between threads.

    Every call may be made again after StoreUnavailableError.
    """

    def __init__(self, wire: TiledHttp, key: TomogramKey, data_dir: Path | None = None) -> None:
        """data_dir: the folder that the server works on, if it may be on this machine."""
        self.key = key
        self._wire = wire
        self._data_dir = data_dir
        self._chunks: dict[ResultName, tuple[tuple[int, ...], ...]] = {}
        self._written: dict[tuple[ResultName, int], bytes] = {}
        """What each slab holds, as a digest: hashing one takes a sixth of the time of writing it."""
        self._changed: dict[ResultName, int] = {}
        self._has_progress = False
        self._doubtful = True  # whether the table may hold rows that this writer does not know of

    def publish(
        self,
        volume: NDArray[np.float32],
        revision: int,
        *,
        physics: NDArray[np.float32] | None = None,
        expected_error: NDArray[np.float32] | None = None,
        inferred: NDArray[np.float32] | None = None,
        preview: NDArray[np.float32] | None = None,
    ) -> None:
        """Write the slabs that this writer has not written just so before, and then set each array's `revision`, and
        `changed`, the last revision that brought other values; the volume's is set last of all.

        Args:
            volume, physics, expected_error, inferred, preview: (z, y, x) float32, one shape.
            revision: of the progress row these belong to.

        Raises:
            StoreError: another shape or dtype than what is stored, or than float32 (z, y, x).
        """
        results: dict[ResultName, NDArray[np.float32] | None] = {
            "preview": preview,
            "inferred": inferred,
            "expected_error": expected_error,
            "physics": physics,
            "volume": volume,
        }
        for name, array in results.items():
            if array is not None:
                self._check(name, array, volume.shape)
        for name, array in results.items():
            if array is not None:
                self._publish_one(name, array, int(revision))

    def prepare(self, shape: tuple[int, int, int]) -> None:
        """Make the volume, of `shape` (z, y, x), and the table of progress, so that the first publication is quick."""
        self._ensure_progress()
        self._layout_of("volume", shape)

    def progress(self, rows: Sequence[Progress]) -> None:
        """Append rows to `progress`; after a failure, rows that did arrive are not written twice."""
        path = layout.node_path(self.key, layout.PROGRESS)
        schema = layout.table_schema(layout.PROGRESS_COLUMNS)
        self._ensure_progress()
        if self._doubtful:
            columns = nodes.read_table(self._wire, path, ("revision", "time"))
            there = set(zip(columns["revision"], columns["time"], strict=True))
            rows = [row for row in rows if (row.revision, row.time) not in there]
        if not rows:
            return
        self._doubtful = True
        nodes.append_to_table(self._wire, path, layout.progress_columns(rows), schema)
        self._doubtful = False

    def status(self, state: str, reason: str | None, **fields: Any) -> None:
        """Set the tomogram's `status` (idle, receiving, iterating, final, failed), its reason, and any other field."""
        document = {**fields, "status": state, "reason": reason, "status_time": time.time()}
        nodes.patch_metadata(self._wire, layout.container_path(self.key), document)

    def _ensure_progress(self) -> None:
        if not self._has_progress:
            schema = layout.table_schema(layout.PROGRESS_COLUMNS)
            nodes.create_table(self._wire, layout.container_path(self.key), layout.PROGRESS, schema, {})
            self._has_progress = True

    def _check(self, name: ResultName, array: NDArray[np.float32], shape: tuple[int, ...]) -> None:
        if array.ndim != 3 or array.dtype != np.float32 or array.shape != shape:
            raise StoreError(
                f"tomogram {self.key}: {name} must be float32 (z, y, x) of shape {shape}; "
                f"got {array.dtype} {array.shape}"
            )

    def _publish_one(self, name: ResultName, array: NDArray[np.float32], revision: int) -> None:
        depths = self._layout_of(name, array.shape)
        path = layout.node_path(self.key, name)
        starts = np.concatenate(([0], np.cumsum(depths)))
        for slab in range(len(depths)):
            block = np.ascontiguousarray(array[starts[slab] : starts[slab + 1]])
            digest = blake2b(block.data, digest_size=16).digest()
            if self._written.get((name, slab)) != digest:
                nodes.write_block(self._wire, path, block, (slab, 0, 0))
                self._written[name, slab] = digest
                self._changed[name] = revision
        metadata = {"revision": revision, "changed": self._changed[name], "time": time.time()}
        nodes.patch_metadata(self._wire, path, metadata)

    def _layout_of(self, name: ResultName, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Depths of the slabs of a stored array, which is made where it is missing."""
        if name not in self._chunks:
            self._chunks[name] = self._find_or_create(name, shape)
        return self._chunks[name][0]

    def _find_or_create(self, name: ResultName, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        path = layout.node_path(self.key, name)
        try:
            node = nodes.get_node(self._wire, path)
        except StoreMissingError:
            rows, height, width = shape
            depth = slab_depth((rows, height, width))
            depths = [min(depth, rows - first) for first in range(0, rows, depth)]
            nodes.create_array(
                self._wire,
                layout.container_path(self.key),
                name,
                shape=shape,
                chunks=(depths, (height,), (width,)),
                dims=layout.VOLUME_DIMS,
                dtype=np.float32,
            )
            node = nodes.get_node(self._wire, path, with_source=True)
            folder = folder_of(node, self._data_dir)
            if folder is not None:
                leave_uncompressed(folder)
        if node.shape != shape or node.dtype != np.float32:
            raise StoreError(
                f"tomogram {self.key}: the stored {name} is {node.dtype} {node.shape}, the new one float32 "
                f"{shape}; give the new reconstruction a tomogram of its own"
            )
        return node.chunks

"""One published array of a tomogram, read by ranges of slices: nobody needs the whole of it in memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.model import TomogramKey
from pfitre_service.store import layout, nodes
from pfitre_service.store.layout import ResultName
from pfitre_service.store.wire import Wire

# The server refuses answers of over 300 MB.
_ANSWER_BYTES = 64 << 20


class ResultArray:
    """`volume`, `physics` or `trust` as it was found: its shape and revision are those of that moment."""

    def __init__(self, wire: Wire, key: TomogramKey, name: ResultName, node: nodes.Node) -> None:
        depth, height, width = node.shape
        self.shape: tuple[int, int, int] = (depth, height, width)
        """(z, y, x)."""
        self.revision = int(node.metadata["revision"])
        """Of the progress row that the array belongs to."""
        self._wire = wire
        self._path = layout.node_path(key, name)

    def read(self, first: int, stop: int) -> NDArray[np.float32]:
        """Slices `first` to `stop` (not included): (z, y, x) float32, as they are stored now.

        Raises:
            StoreError: the server holds fewer slices than that, or is out of reach.
        """
        slices = np.empty((stop - first, *self.shape[1:]), np.float32)
        depth = max(1, _ANSWER_BYTES // (4 * math.prod(self.shape[1:])))
        for start in range(first, stop, depth):
            end = min(start + depth, stop)
            slices[start - first : end - first] = self._read(start, end)
        return slices

    def cut(self, axis: int, place: int) -> NDArray[np.float32]:
        """The slice at `place` along axis 0, 1 or 2 (z, y or x): (y, x), (z, x) or (z, y) float32.

        Raises:
            StoreError: there is no such slice, or the server is out of reach.
        """
        shape = [size for other, size in enumerate(self.shape) if other != axis]
        return nodes.read_cut_of_array(self._wire, self._path, axis, place, shape, np.dtype(np.float32))

    def _read(self, first: int, stop: int) -> Any:
        return nodes.read_rows_of_array(self._wire, self._path, first, stop, self.shape[1:], np.dtype(np.float32))

"""One result of a tomogram as it lies in the catalogue: what is known of it, and its slices on demand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pfitre_service.store.tiled_http import nodes
from pfitre_service.store.tiled_http.connection import TiledHttp

# The server refuses answers of over 300 MB.
ANSWER_BYTES = 64 << 20
"""What is asked for in one request, at most."""


@dataclass(frozen=True, slots=True)
class ResultArray:
    """(z, y, x) float32. Knows shape and revision of the moment it was asked for; slices are those of the moment they
    are read. Safe to share between threads."""

    wire: TiledHttp
    """Connection to the server."""
    path: str
    """Of the array in the catalogue."""
    shape: tuple[int, int, int]
    """(z, y, x)."""
    depths: tuple[int, ...]
    """Slices of each slab, from the first."""
    revision: int
    """Of the progress row that it belongs to."""
    answer_bytes: int = ANSWER_BYTES
    """What one request asks for, at most; one slice at least."""

    @property
    def slabs(self) -> list[tuple[int, int]]:
        """First slice of each slab and the one after its last."""
        return list(pairwise(np.cumsum([0, *self.depths]).tolist()))

    def read(self, first: int, stop: int) -> NDArray[np.float32]:
        """Some slices, as they are now.

        Parameters
        ----------
        first
            First slice.
        stop
            The one after the last.

        Returns
        -------
        NDArray[np.float32]
            (z, y, x), a new array.

        Raises
        ------
        StoreError
            There are fewer.
        """
        result = np.empty((stop - first, *self.shape[1:]), np.float32)
        depth = max(1, self.answer_bytes // (4 * math.prod(self.shape[1:])))
        for start in range(first, stop, depth):
            end = min(start + depth, stop)
            result[start - first : end - first] = nodes.read_rows_of_array(
                self.wire, self.path, start, end, self.shape[1:], result.dtype
            )
        return result

    def cut(self, axis: int, place: int) -> NDArray[np.float32]:
        """One slice along any axis, as it is now.

        Parameters
        ----------
        axis
            0, 1 or 2: z, y or x.
        place
            Index along it.

        Returns
        -------
        NDArray[np.float32]
            (y, x), (z, x) or (z, y) float32.

        Raises
        ------
        StoreError
            There is no such slice, or the server is out of reach.
        """
        shape = [size for other, size in enumerate(self.shape) if other != axis]
        return nodes.read_cut_of_array(self.wire, self.path, axis, place, shape, np.dtype(np.float32))

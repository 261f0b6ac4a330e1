"""One array of frames: through Tiled, or in the data folder itself where that is on this machine.

Through Tiled every byte is copied, compressed and sent by processes that have better things to do. Beside the server's
own folder a frame is one write into an uncompressed zarr chunk, and Tiled is told of the new length once a batch. Both
ways leave the same array, which any zarr reader and any Tiled client can open.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from io import BufferedRandom
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import StoreError
from pfitre_service.model import Role, TomogramKey
from pfitre_service.store import layout
from pfitre_service.store.local_arrays import LAYOUT_FILE, disk_failures, folder_of
from pfitre_service.store.tiled_http import nodes
from pfitre_service.store.tiled_http.connection import Wire

# A chunk of several frames: few files, and short lists of chunks in the catalogue; yet one frame of it is quickly read.
_CHUNK_BYTES = 4 << 20
# One request: large enough to hide the 60 ms that each costs, small enough for memory on both sides.
_REQUEST_BYTES = 32 << 20
_CHUNK_FILE = "c.{}.0.0"


class FrameArray(Protocol):
    """Frames of one role: (angle, row, column)."""

    shape: tuple[int, int]
    """(row, column)."""
    dtype: np.dtype[Any]

    def write(self, images: Sequence[NDArray[Any]], first: int) -> None:
        """Store `images`, each of the array's shape and dtype, as frames `first` and following; the array ends there.

        Raises StoreUnavailableError when it cannot be done now.
        """

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Frames `first` to `stop`, (angle, row, column), a new array. Raises StoreError where there are fewer.

        Only for frames that have a row: what lies beyond is not defined.
        """


class RemoteFrames:
    """Through Tiled's HTTP interface."""

    def __init__(self, wire: Wire, path: str, node: nodes.Node) -> None:
        self.shape = (node.shape[1], node.shape[2])
        self.dtype = node.dtype
        self._wire = wire
        self._path = path

    def write(self, images: Sequence[NDArray[Any]], first: int) -> None:
        each = max(1, _REQUEST_BYTES // images[0].nbytes)
        for done in range(0, len(images), each):
            rows = np.stack(images[done : done + each])
            nodes.write_rows_of_array(self._wire, self._path, rows, first + done)

    def read(self, first: int, stop: int) -> NDArray[Any]:
        rows: NDArray[Any] = nodes.read_rows_of_array(self._wire, self._path, first, stop, self.shape, self.dtype)
        return rows


class LocalFrames:
    """In `folder`, the zarr array that Tiled serves as `path`: a file a chunk, which holds values and nothing else."""

    def __init__(self, wire: Wire, path: str, node: nodes.Node, folder: Path, length: int) -> None:
        self.shape = (node.shape[1], node.shape[2])
        self.dtype = node.dtype
        self._wire = wire
        self._path = path
        self._source = node.data_source
        self._folder = folder
        self._length = length  # frames of a chunk

    def write(self, images: Sequence[NDArray[Any]], first: int) -> None:
        """Frames that stood there before are overwritten in place; no byte of the ones before `first` is touched.

        They are on the disk when this returns: a row, which is written next, never outlives its frame.
        """
        stop = first + len(images)
        with disk_failures(self._folder):
            with ExitStack() as opened:
                # All are written before the first one is waited for: so the disk has more to do at a time.
                pieces = self._pieces(first, stop)
                files = [self._write_piece(images[begin - first : end - first], begin, opened) for begin, end in pieces]
                for file in files:
                    os.fsync(file.fileno())
            array = _open(self._folder, "r+")
            if array.shape[0] != stop:
                array.resize((stop, *self.shape))
        nodes.announce_rows(self._wire, self._path, self._source, (stop, *self.shape), self._length, first)

    def read(self, first: int, stop: int) -> NDArray[Any]:
        # Not with zarr, which takes a file that is not there for zeros, and reads whole chunks for one frame.
        images = np.empty((max(0, stop - first), *self.shape), self.dtype)
        with disk_failures(self._folder):
            for begin, end in self._pieces(first, stop):
                self._read_piece(images[begin - first : end - first], begin)
        return images

    def _pieces(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """`first` to `stop`, cut where one chunk ends and the next begins."""
        while first < stop:
            end = min(stop, (first // self._length + 1) * self._length)
            yield first, end
            first = end

    def _place(self, first: int) -> tuple[Path, int]:
        """The file that frame `first` lies in, and from which byte on."""
        chunk, frame = divmod(first, self._length)
        return self._folder / _CHUNK_FILE.format(chunk), frame * self._frame_bytes

    @property
    def _frame_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def _write_piece(self, images: Sequence[NDArray[Any]], first: int, opened: ExitStack) -> BufferedRandom:
        path, offset = self._place(first)
        path.touch()
        file = opened.enter_context(path.open("r+b"))
        file.truncate(self._length * self._frame_bytes)  # zarr reads whole chunks only
        file.seek(offset)
        for image in images:
            file.write(image.data)
        file.flush()
        return file

    def _read_piece(self, images: NDArray[Any], first: int) -> None:
        path, offset = self._place(first)
        with path.open("rb") as file:
            file.seek(offset)
            found = file.readinto(images.data.cast("B"))
        if found != images.nbytes:
            raise StoreError(
                f"{self._path} should hold {len(images)} frames from {first} on, {images.nbytes} bytes; "
                f"{path} has {found} of them: the file was damaged or shortened by something else than this service"
            )


def open_frames(wire: Wire, key: TomogramKey, role: Role, data_dir: Path | None) -> FrameArray:
    """The array of `role`: in the folder that the server of `wire` keeps it in, if that lies in `data_dir`, or through
    Tiled.

    Raises:
        StoreMissingError: there is none yet.
    """
    path = layout.node_path(key, layout.ARRAY_OF_ROLE[role])
    node = nodes.get_node(wire, path, with_source=True)
    folder = folder_of(node, data_dir)
    length = None if folder is None else _frames_of_a_plain_chunk(folder, node)
    if folder is None or length is None:
        return RemoteFrames(wire, path, node)
    return LocalFrames(wire, path, node, folder, length)


def create_frames(
    wire: Wire, key: TomogramKey, role: Role, image: NDArray[Any], data_dir: Path | None
) -> FrameArray | None:
    """An empty array for frames like `image`. None where another writer made one meanwhile."""
    name = layout.ARRAY_OF_ROLE[role]
    rows, columns = image.shape
    created = nodes.create_array(
        wire,
        layout.container_path(key),
        name,
        shape=(0, rows, columns),
        # Through Tiled, a frame a chunk: no frame is ever rewritten for the sake of the next, and the array is never
        # longer than what was written (Tiled starts an array with one whole chunk, of zeros).
        chunks=((1,), (rows,), (columns,)),
        dims=layout.FRAME_DIMS,
        dtype=image.dtype,
    )
    if not created:
        return None
    folder = folder_of(nodes.get_node(wire, layout.node_path(key, name), with_source=True), data_dir)
    if folder is not None:
        with disk_failures(folder):
            _lay_out(folder, image)
    return open_frames(wire, key, role, data_dir)


def _lay_out(folder: Path, image: NDArray[Any]) -> None:
    """Let the array, empty and as Tiled made it, have uncompressed chunks of several frames like `image`."""
    import zarr

    chunk = (max(1, _CHUNK_BYTES // image.nbytes), *image.shape)
    encoding: Any = {"name": "default", "separator": "."}  # no folders: chunks are never made where none should be
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        zarr.create_array(
            fresh,
            shape=(0, *image.shape),
            chunks=chunk,
            dtype=image.dtype,
            compressors=None,
            chunk_key_encoding=encoding,
        )
        (Path(fresh) / LAYOUT_FILE).replace(folder / LAYOUT_FILE)


def _frames_of_a_plain_chunk(folder: Path, node: nodes.Node) -> int | None:
    """How many frames a chunk holds; None where chunks are anything else than whole frames as `_lay_out` wants them:
    then only Tiled may write them."""
    with disk_failures(folder):
        array = _open(folder, "r")
    plain = not array.compressors and not array.filters and array.shards is None and array.dtype == node.dtype
    whole = array.chunks[1:] == array.shape[1:] == node.shape[1:]
    named = array.metadata.encode_chunk_key((7, 0, 0)) == _CHUNK_FILE.format(7)
    return int(array.chunks[0]) if plain and whole and named else None


def _open(folder: Path, mode: Any) -> Any:
    import zarr

    return zarr.open_array(str(folder), mode=mode)

"""One array of frames: through Tiled, or in the data folder itself where that is on this machine.

Through Tiled every byte is copied, compressed and sent by processes that have better things to do. Beside the server's
own folder a frame is one write into an uncompressed zarr chunk, and Tiled is told of the new length once a batch. Both
ways leave the same array, which any zarr reader and any Tiled client can open.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import StoreError
from pfitre_service.model import Role, TomogramKey
from pfitre_service.store import layout, nodes
from pfitre_service.store.failure import StoreUnavailableError
from pfitre_service.store.wire import Wire

# A chunk of several frames: few files, and short lists of chunks in the catalogue; yet one frame of it is quickly read.
_CHUNK_BYTES = 4 << 20


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
        """Frames `first` to `stop`, (angle, row, column), a new array. Raises StoreError where there are fewer."""


class RemoteFrames:
    """Through Tiled's HTTP interface."""

    def __init__(self, wire: Wire, path: str, node: nodes.Node) -> None:
        self.shape = (node.shape[1], node.shape[2])
        self.dtype = node.dtype
        self._wire = wire
        self._path = path

    def write(self, images: Sequence[NDArray[Any]], first: int) -> None:
        nodes.write_rows_of_array(self._wire, self._path, np.stack(images), first)

    def read(self, first: int, stop: int) -> NDArray[Any]:
        rows: NDArray[Any] = nodes.read_rows_of_array(self._wire, self._path, first, stop, self.shape, self.dtype)
        return rows


class LocalFrames:
    """In `folder`, the zarr array that Tiled serves as `path`."""

    def __init__(self, wire: Wire, path: str, node: nodes.Node, folder: Path) -> None:
        self.shape = (node.shape[1], node.shape[2])
        self.dtype = node.dtype
        self._wire = wire
        self._path = path
        self._source = node.data_source
        self._folder = folder

    def write(self, images: Sequence[NDArray[Any]], first: int) -> None:
        """Frames that stood there before are overwritten in place; no byte of the ones before `first` is touched."""
        with _failures(self._folder):
            array = _open(self._folder, "r+")
            length, stop = array.chunks[0], first + len(images)
            for chunk in range(first // length, -(-stop // length)):
                begin = max(first, chunk * length)
                part = images[begin - first : (chunk + 1) * length - first]
                file = self._folder / array.metadata.encode_chunk_key((chunk, 0, 0))
                self._write_chunk(file, part, begin - chunk * length, length)
            if array.shape[0] != stop:
                array.resize((stop, *self.shape))
        nodes.announce_rows(self._wire, self._path, self._source, (stop, *self.shape), length, first)

    def read(self, first: int, stop: int) -> NDArray[Any]:
        with _failures(self._folder):
            rows: NDArray[Any] = _open(self._folder, "r")[first:stop]
        if len(rows) != max(0, stop - first):
            raise StoreError(
                f"{self._path} should hold frames {first} to {stop}; {self._folder} has {len(rows)} of them"
            )
        return rows

    def _write_chunk(self, file: Path, images: Sequence[NDArray[Any]], first: int, length: int) -> None:
        """`images` from place `first` on into the chunk of `length` frames; a new chunk is zeros elsewhere."""
        file.parent.mkdir(parents=True, exist_ok=True)
        frame_bytes = self.shape[0] * self.shape[1] * self.dtype.itemsize
        with file.open("r+b" if file.exists() else "w+b") as chunk:
            chunk.truncate(length * frame_bytes)
            chunk.seek(first * frame_bytes)
            for image in images:
                chunk.write(np.ascontiguousarray(image).data)


def open_frames(wire: Wire, key: TomogramKey, role: Role, data_dir: Path | None) -> FrameArray:
    """The array of `role`: in the folder that the server of `wire` works on, if that is `data_dir`, or through Tiled.

    Raises:
        StoreMissingError: there is none yet.
    """
    path = layout.node_path(key, layout.ARRAY_OF_ROLE[role])
    node = nodes.get_node(wire, path, with_source=True)
    folder = None if data_dir is None else _folder(data_dir, path)
    if folder is None or not _is_plain(folder):
        return RemoteFrames(wire, path, node)
    return LocalFrames(wire, path, node, folder)


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
    folder = None if data_dir is None else _folder(data_dir, layout.node_path(key, name))
    if folder is not None:
        with _failures(folder):
            _lay_out(folder, image)
    return open_frames(wire, key, role, data_dir)


def _folder(data_dir: Path, path: str) -> Path | None:
    """Where Tiled keeps the array `path` below `data_dir`; None where it does not, or this process may not write there.

    Only the server makes these folders, and a tomogram's name is used once: an array that is found here is the one
    that the server answers for.
    """
    storage = (data_dir / "data").resolve()
    folder = (storage / path).resolve()
    usable = folder.is_relative_to(storage) and os.access(folder / "zarr.json", os.R_OK | os.W_OK)
    return folder if usable and os.access(folder, os.W_OK) else None


def _lay_out(folder: Path, image: NDArray[Any]) -> None:
    """Let the array, empty and as Tiled made it, have uncompressed chunks of several frames like `image`."""
    import zarr

    chunk = (max(1, _CHUNK_BYTES // image.nbytes), *image.shape)
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        zarr.create_array(fresh, shape=(0, *image.shape), chunks=chunk, dtype=image.dtype, compressors=None)
        (Path(fresh) / "zarr.json").replace(folder / "zarr.json")


def _is_plain(folder: Path) -> bool:
    """Whether chunks hold whole frames and nothing but their values: otherwise only Tiled may write them."""
    with _failures(folder):
        array = _open(folder, "r")
    whole = array.chunks[1:] == array.shape[1:] and array.shards is None
    return bool(whole and not array.compressors and not array.filters)


def _open(folder: Path, mode: Any) -> Any:
    import zarr

    return zarr.open_array(str(folder), mode=mode)


@contextmanager
def _failures(folder: Path) -> Iterator[None]:
    """What the disk refuses may work later."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailableError(
            f"the data folder cannot be used: {error.strerror or error} ({folder}); is there space left?"
        ) from error

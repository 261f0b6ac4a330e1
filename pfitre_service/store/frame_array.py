"""One array of frames: through Tiled, or in the data folder itself where that is on this machine.

Through Tiled every byte is copied, compressed and sent by processes that have better things to do. Beside the server's
own folder a frame is one write of an uncompressed zarr chunk and its checksum, and Tiled is told of the new length once
a batch. Both ways leave the same array, which any zarr reader and any Tiled client can open.

A frame that can be read no more is named, and never zeros. Arrays made before there were checksums have several frames
a chunk and none of these: there, only what is missing is noticed.
"""

from __future__ import annotations

import errno
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import StoreDamagedError
from pfitre_service.model import Role, TomogramKey
from pfitre_service.store import checksums, layout
from pfitre_service.store.local_arrays import LAYOUT_FILE, disk_failures, folder_of, sync_folder, write_layout
from pfitre_service.store.tiled_http import nodes
from pfitre_service.store.tiled_http.connection import TiledHttp

# What Tiled is told that a chunk is: several frames, each a file of its own. So lists of chunks in the catalogue are
# short, and plain clients need few requests.
_CHUNK_BYTES = 4 << 20
# Files that are open at a time; of small frames a batch may have ten thousands.
_OPEN_FILES = 128
# One request: large enough to hide the 60 ms that each costs, small enough for memory on both sides.
_REQUEST_BYTES = 32 << 20
_CHUNK_FILE = "c.{}.0.0"


class FrameArray(Protocol):
    """Frames of one role: (angle, row, column)."""

    shape: tuple[int, int]
    """(row, column)."""
    dtype: np.dtype[Any]

    def write(self, images: Sequence[NDArray[Any]], first: int) -> None:
        """Store `images`, each of the array's shape and dtype, as frames `first` and following. What lay beyond them
        counts no more, and may be gone: the array is as long as they need at least.

        Raises StoreUnavailableError when it cannot be done now.
        """

    def read(self, first: int, stop: int) -> tuple[NDArray[Any], dict[int, str]]:
        """Frames `first` to `stop`, (angle, row, column), a new array; and which of them are damaged, with the reason.
        These are zeros.

        Only for frames that have a row: what lies beyond is not defined. Raises StoreUnavailableError when they cannot
        be read now, StoreError where the server holds fewer.
        """


class RemoteFrames:
    """Through Tiled's HTTP interface."""

    def __init__(self, wire: TiledHttp, path: str, node: nodes.Node) -> None:
        self.shape = (node.shape[1], node.shape[2])
        self.dtype = node.dtype
        self._wire = wire
        self._path = path

    def write(self, images: Sequence[NDArray[Any]], first: int) -> None:
        each = max(1, _REQUEST_BYTES // images[0].nbytes)
        for done in range(0, len(images), each):
            rows = np.stack(images[done : done + each])
            nodes.write_rows_of_array(self._wire, self._path, rows, first + done)

    def read(self, first: int, stop: int) -> tuple[NDArray[Any], dict[int, str]]:
        try:
            return self._read(first, stop), {}
        except StoreDamagedError as error:
            if stop - first == 1:
                return np.zeros((1, *self.shape), self.dtype), {first: str(error)}
        images, damaged = np.zeros((stop - first, *self.shape), self.dtype), dict[int, str]()
        for row in range(first, stop):
            images[row - first : row - first + 1], bad = self.read(row, row + 1)
            damaged |= bad
        return images, damaged

    def _read(self, first: int, stop: int) -> NDArray[Any]:
        rows: NDArray[Any] = nodes.read_rows_of_array(self._wire, self._path, first, stop, self.shape, self.dtype)
        return rows


@dataclass(frozen=True, slots=True)
class _Form:
    """How chunks hold frames: values as they are, and nothing else but a checksum."""

    frames: int
    """Of a chunk, which is a file."""
    checksum: bool
    """Whether it ends in one: then it holds a single frame."""
    layout: Mapping[str, Any]
    """What zarr knows of the array."""


class LocalFrames:
    """In `folder`, the zarr array that Tiled serves as `path`."""

    def __init__(self, wire: TiledHttp, path: str, node: nodes.Node, folder: Path, form: _Form) -> None:
        self.shape = (node.shape[1], node.shape[2])
        self.dtype = node.dtype
        self._wire = wire
        self._path = path
        self._source = node.data_source
        self._folder = folder
        self._form = form

    def write(self, images: Sequence[NDArray[Any]], first: int) -> None:
        """Frames that stood there before are overwritten in place; no byte of the ones before `first` is touched.

        They are on the disk when this returns: a row, which is written next, never outlives its frame.
        """
        stop = first + len(images)
        with disk_failures(self._folder):
            pieces = list(self._pieces(first, stop))
            for start in range(0, len(pieces), _OPEN_FILES):
                self._write_pieces(images, first, pieces[start : start + _OPEN_FILES])
            sync_folder(self._folder)
            # Written anew each time, from what was known when the array was opened: so damage to it does not last.
            write_layout(self._folder, {**self._form.layout, "shape": [stop, *self.shape]})
        length = max(1, _CHUNK_BYTES // self._frame_bytes) if self._form.checksum else self._form.frames
        nodes.announce_rows(self._wire, self._path, self._source, (stop, *self.shape), length, first)

    def read(self, first: int, stop: int) -> tuple[NDArray[Any], dict[int, str]]:
        # Not with zarr, which takes a file that is not there for zeros, and gives up all frames for one.
        images, damaged = np.zeros((max(0, stop - first), *self.shape), self.dtype), dict[int, str]()
        with disk_failures(self._folder):
            for begin, end in self._pieces(first, stop):
                damaged |= self._read_piece(images[begin - first : end - first], begin)
        return images, damaged

    def _pieces(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """`first` to `stop`, cut where one chunk ends and the next begins."""
        while first < stop:
            end = min(stop, (first // self._form.frames + 1) * self._form.frames)
            yield first, end
            first = end

    def _place(self, first: int) -> tuple[Path, int]:
        """The file that frame `first` lies in, and from which byte on."""
        chunk, frame = divmod(first, self._form.frames)
        return self._folder / _CHUNK_FILE.format(chunk), frame * self._frame_bytes

    @property
    def _frame_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def _write_pieces(self, images: Sequence[NDArray[Any]], first: int, pieces: Sequence[tuple[int, int]]) -> None:
        """Images of which the first is frame `first`. All are written before the first one is waited for: so the disk
        has more to do at a time."""
        with ExitStack() as opened:
            files = [self._write_piece(images[begin - first : end - first], begin, opened) for begin, end in pieces]
            for file in files:
                os.fsync(file.fileno())

    def _write_piece(self, images: Sequence[NDArray[Any]], first: int, opened: ExitStack) -> BufferedRandom:
        path, offset = self._place(first)
        file = opened.enter_context(os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b"))
        file.truncate(self._file_bytes)  # zarr reads whole chunks only
        file.seek(offset)
        for image in images:
            file.write(image.data)
            if self._form.checksum:
                file.write(checksums.checksum(image))
        file.flush()
        return file

    @property
    def _file_bytes(self) -> int:
        return self._form.frames * self._frame_bytes + (checksums.CHECKSUM_BYTES if self._form.checksum else 0)

    def _read_piece(self, images: NDArray[Any], first: int) -> dict[int, str]:
        """Fills `images`, which lie in one file and begin with frame `first`; what is damaged, and why."""
        path, offset = self._place(first)
        try:
            with path.open("rb") as file:
                file.seek(offset)
                found = file.readinto(images.data.cast("B"))
                stored = file.read() if self._form.checksum else b""
        except OSError as error:
            # Without its folder the disk is not mounted, perhaps: that passes.
            if error.errno not in (errno.ENOENT, errno.EIO) or not self._folder.is_dir():
                raise
            found, reason = 0, f"{path} cannot be read: {error.strerror}"
        else:
            reason = f"{path} is too short: it ends {images.nbytes - found} bytes before the frame does"
            if found == images.nbytes and self._form.checksum and stored != checksums.checksum(images):
                found, reason = 0, f"{path} was changed after it was written: its checksum does not fit"
        whole = found // self._frame_bytes
        images[whole:] = 0
        return dict.fromkeys(range(first + whole, first + len(images)), reason)


def open_frames(wire: TiledHttp, key: TomogramKey, role: Role, data_dir: Path | None) -> FrameArray:
    """The array of `role`: in the folder that the server of `wire` keeps it in, if that lies in `data_dir`, or through
    Tiled.

    Raises:
        StoreMissingError: there is none yet.
        StoreDamagedError: what zarr knows of it cannot be read.
    """
    path = layout.node_path(key, layout.ARRAY_OF_ROLE[role])
    node = nodes.get_node(wire, path, with_source=True)
    folder = folder_of(node, data_dir)
    form = None if folder is None else _form_of(folder, node)
    if folder is None or form is None:
        return RemoteFrames(wire, path, node)
    return LocalFrames(wire, path, node, folder, form)


def create_frames(
    wire: TiledHttp, key: TomogramKey, role: Role, image: NDArray[Any], data_dir: Path | None
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
    """Let the array, empty and as Tiled made it, have uncompressed chunks of one frame like `image`, with checksums."""
    import zarr
    from zarr.codecs import Crc32cCodec

    encoding: Any = {"name": "default", "separator": "."}  # no folders: chunks are never made where none should be
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        zarr.create_array(
            fresh,
            shape=(0, *image.shape),
            chunks=(1, *image.shape),
            dtype=image.dtype,
            compressors=[Crc32cCodec()],
            chunk_key_encoding=encoding,
        )
        (Path(fresh) / LAYOUT_FILE).replace(folder / LAYOUT_FILE)


def _form_of(folder: Path, node: nodes.Node) -> _Form | None:
    """How chunks lie; None where they are anything else than whole frames as `_lay_out` wants them, or wanted them
    before there were checksums: then only Tiled may write them."""
    import zarr
    from zarr.codecs import Crc32cCodec

    with disk_failures(folder):
        try:
            layout = json.loads((folder / LAYOUT_FILE).read_bytes())
            array = zarr.open_array(str(folder), mode="r")
        except OSError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreDamagedError(
                f"{folder / LAYOUT_FILE} is damaged, and with it every frame in its folder: {error}"
            ) from error
    checksum = array.compressors == (Crc32cCodec(),)
    plain = checksum or not array.compressors
    plain = plain and not array.filters and array.shards is None and array.dtype == node.dtype
    whole = array.chunks[1:] == array.shape[1:] == node.shape[1:] and (array.chunks[0] == 1 or not checksum)
    named = array.metadata.encode_chunk_key((7, 0, 0)) == _CHUNK_FILE.format(7)
    return _Form(int(array.chunks[0]), checksum, layout) if plain and whole and named else None

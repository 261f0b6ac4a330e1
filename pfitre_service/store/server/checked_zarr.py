"""The embedded server's way to zarr arrays: what is damaged is an error, where zarr and Tiled would give zeros.

An array whose last codec is `crc32c` has every one of its chunks written, those that hold zeros alone too. So a chunk
that is not there is damage, and so is one that does not fit its checksum. Of other arrays, which other clients or
earlier versions made, only what zarr cannot decode is noticed: their missing chunks may be zeros by right.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tiled.adapters.zarr import ZarrAdapter, ZarrArrayAdapter
from tiled.catalog.adapter import STORAGE_ADAPTERS_BY_MIMETYPE, ZARR_MIMETYPE
from tiled.ndslice import NDBlock, NDSlice
from tiled.structures.core import StructureFamily
from tiled.utils import path_from_uri

from pfitre_service.store import checksums, layout
from pfitre_service.store.local_arrays import LAYOUT_FILE, add_checksums, folder_of_uri

# What zarr and its codecs raise over bytes that are not what they should be.
_UNDECODABLE = (ValueError, KeyError, TypeError, AttributeError, RuntimeError)
_NAMED = 3


class DamagedArrayError(Exception):
    """Stored data that can be read no more; the message says which, and what to do."""


class CheckedArray(ZarrArrayAdapter):  # type: ignore[misc]  # Tiled's adapters have no types
    """Tiled's adapter of one zarr array on a disk."""

    @classmethod
    def init_storage(cls, storage: Any, data_source: Any, path_parts: list[str]) -> Any:
        """Makes an empty array; those of tomograms get checksums."""
        made = super().init_storage(storage, data_source, path_parts)
        if path_parts[0] == layout.ROOT:
            add_checksums(folder_of_uri(made.assets[-1].data_uri), made.structure.shape)
        return made

    @classmethod
    def from_catalog(cls, data_source: Any, node: Any, /, **parameters: Any) -> Any:
        """The adapter of a node of the catalogue; of groups, and of what is not on a disk, Tiled's own."""
        uri = data_source.assets[0].data_uri
        if urlsplit(uri).scheme != "file" or node.structure_family == StructureFamily.container:
            return ZarrAdapter.from_catalog(data_source, node, **parameters)
        folder, structure = Path(path_from_uri(uri)), data_source.structure
        array = _opened(folder)
        if _has_checksums(array):
            wanted, fits = structure.data_type.to_numpy_dtype(), map(int.__ge__, array.shape, structure.shape)
            if array.dtype != wanted or not all(fits):
                raise _damaged(folder, f"{LAYOUT_FILE} says otherwise than the catalogue, {wanted} {structure.shape}")
        return cls(array, structure, metadata=node.metadata_, specs=node.specs, **parameters)

    def read(self, slice: NDSlice = NDSlice(...)) -> Any:  # noqa: B008  Tiled gives it by this name
        """What lies at `slice`. Raises DamagedArrayError where that is not whole."""
        with self._whole(self._stencil[slice]):
            return super().read(slice)

    def read_block(self, block: NDBlock, slice: NDSlice = NDSlice(...)) -> Any:  # noqa: B008
        """One block of the array, or what lies at `slice` in it. Raises DamagedArrayError where that is not whole."""
        within = block.slice_from_chunks(self.structure().chunks)
        with self._whole(self._stencil[within]):
            return super().read_block(block, slice)

    def write_block(self, data: Any, block: NDBlock) -> None:
        """Raises DamagedArrayError where a chunk is to be changed in part, and can not be read."""
        within = block.slice_from_chunks(self.structure().chunks)
        with self._decodable(within):
            super().write_block(data, block)

    def patch(self, data: Any, offset: tuple[int, ...], extend: bool = False) -> Any:
        """As `write_block`."""
        with self._decodable(NDSlice(...)):
            return super().patch(data, offset, extend)

    @contextmanager
    def _whole(self, index: NDSlice) -> Iterator[None]:
        """For a read of `index`: an error where a chunk of it is damaged, or is not there and should be."""
        with self._decodable(index):
            yield
        if _has_checksums(self._array):
            # Afterwards: a chunk that vanished while it was read is missing now.
            missing = [path for path in self._files(index) if not path.exists()]
            if missing:
                raise _damaged(self._folder, f"{self._named(missing)} is missing")

    @contextmanager
    def _decodable(self, index: NDSlice) -> Iterator[None]:
        try:
            yield
        except _UNDECODABLE as error:
            raise _damaged(self._folder, self._reason(index) or str(error)) from error

    def _reason(self, index: NDSlice) -> str:
        """Which of the chunks at `index` do not fit their checksums; empty where that is not known."""
        if not _has_checksums(self._array):
            return ""
        files = [path for path in self._files(index) if path.exists()]
        bad = [path for path in files if not checksums.is_whole(path.read_bytes())]
        return f"{self._named(bad)} does not fit its checksum: shortened or changed" if bad else ""

    def _files(self, index: NDSlice) -> list[Path]:
        """The chunks that a read of `index` needs."""
        shape, chunks = self._array.shape, self._array.chunks
        axes = []
        for chosen, length, chunk in zip(index.expand_for_shape(shape), shape, chunks, strict=True):
            places = range(length)[chosen]
            axes.append(sorted({place // chunk for place in ([places] if isinstance(places, int) else places)}))
        encode = self._array.metadata.encode_chunk_key
        return [self._folder / encode(place) for place in itertools.product(*axes)]

    def _named(self, files: list[Path]) -> str:
        more = len(files) - _NAMED
        names = ", ".join(str(file.relative_to(self._folder)) for file in files[:_NAMED])
        return names + (f" (and {more} more)" if more > 0 else "")

    @property
    def _folder(self) -> Path:
        return Path(self._array.store.root) / self._array.path


def make_tiled_check() -> dict[str, type[CheckedArray]]:
    """Lets Tiled make new zarr arrays by this adapter; what its catalogue needs to open them by it too."""
    STORAGE_ADAPTERS_BY_MIMETYPE.set(ZARR_MIMETYPE, lambda: CheckedArray)
    return {ZARR_MIMETYPE: CheckedArray}


def _opened(folder: Path) -> Any:
    import zarr

    try:
        # Not `zarr.open`, which makes a group where there is nothing.
        array = zarr.open_array(str(folder), mode="r+")
    except FileNotFoundError as error:
        if folder.is_dir():  # else the disk is not mounted, perhaps
            raise _damaged(folder, f"{LAYOUT_FILE} is missing") from error
        raise
    except _UNDECODABLE as error:
        raise _damaged(folder, f"{LAYOUT_FILE} cannot be understood: {error}") from error
    return array.with_config({"write_empty_chunks": True}) if _has_checksums(array) else array


def _has_checksums(array: Any) -> bool:
    from zarr.codecs import Crc32cCodec

    return bool(array.compressors) and array.compressors[-1] == Crc32cCodec()


def _damaged(folder: Path, reason: str) -> DamagedArrayError:
    return DamagedArrayError(
        f"the stored array {folder} is damaged: {reason}. Put its files back from a copy, or reconstruct the scan again"
    )

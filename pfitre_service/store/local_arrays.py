"""Arrays of the catalogue that lie in a folder of this machine: where, and how their chunks are laid out."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pfitre_service.errors import StoreUnavailableError
from pfitre_service.store import checksums
from pfitre_service.store.tiled_http import nodes

LAYOUT_FILE = "zarr.json"
_VALUES_AND_CHECKSUM = [{"name": "bytes", "configuration": {"endian": "little"}}, checksums.CODEC]


def folder_of(node: nodes.Node, data_dir: Path | None) -> Path | None:
    """Where the server says that it keeps the array; None where that is not in `data_dir`, links resolved, or this
    process may not write there."""
    assets = node.data_source.get("assets") or []
    if data_dir is None or len(assets) != 1:
        return None
    folder = folder_of_uri(assets[0]["data_uri"]).resolve()
    inside = folder.is_relative_to((data_dir / "data").resolve())
    usable = inside and os.access(folder, os.W_OK) and os.access(folder / LAYOUT_FILE, os.R_OK | os.W_OK)
    return folder if usable else None


def folder_of_uri(uri: str) -> Path:
    """The path in a `file:` address, which is not looked at."""
    return Path(unquote(urlsplit(uri).path))


def leave_uncompressed(folder: Path) -> None:
    """Let chunks of the array, which is new and empty, hold plain values and their checksum.

    A slice across all chunks is then read in a sixth of the time, which the server has for others; volumes of floats
    would not shrink by much.
    """
    with disk_failures(folder):
        layout = json.loads((folder / LAYOUT_FILE).read_text())
        write_layout(folder, layout | {"codecs": _VALUES_AND_CHECKSUM})


def add_checksums(folder: Path, shape: Sequence[int]) -> None:
    """Let each chunk of the array, which is new and empty, end in its checksum, and the array have `shape`.

    Tiled makes it as large as its chunks. Then its last chunk is never written as a whole, but read first, which a
    damaged one could not be.
    """
    layout = json.loads((folder / LAYOUT_FILE).read_text())
    codecs = [*layout["codecs"], checksums.CODEC]
    write_layout(folder, layout | {"codecs": codecs, "shape": list(shape)})


def write_layout(folder: Path, layout: Mapping[str, Any]) -> None:
    """Put `layout` in the place of the array's own, whole or not at all; it is on the disk when this returns."""
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        changed = Path(fresh) / LAYOUT_FILE
        with changed.open("w") as file:
            json.dump(layout, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        changed.replace(folder / LAYOUT_FILE)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Let the names of the files in it be on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_failures(folder: Path) -> Iterator[None]:
    """What the disk refuses may work later."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailableError(
            f"the data folder cannot be used: {error.strerror or error} ({folder}); is there space left?"
        ) from error

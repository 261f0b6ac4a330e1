"""Arrays of the catalogue that lie in a folder of this machine: where, and how their chunks are laid out."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pfitre_service.errors import StoreUnavailableError
from pfitre_service.store.tiled_http import nodes

LAYOUT_FILE = "zarr.json"
_VALUES_ALONE = [{"name": "bytes", "configuration": {"endian": "little"}}]


def folder_of(node: nodes.Node, data_dir: Path | None) -> Path | None:
    """Where the server says that it keeps the array; None where that is not in `data_dir`, links resolved, or this
    process may not write there."""
    assets = node.data_source.get("assets") or []
    if data_dir is None or len(assets) != 1:
        return None
    folder = Path(unquote(urlsplit(assets[0]["data_uri"]).path)).resolve()
    inside = folder.is_relative_to((data_dir / "data").resolve())
    usable = inside and os.access(folder, os.W_OK) and os.access(folder / LAYOUT_FILE, os.R_OK | os.W_OK)
    return folder if usable else None


def leave_uncompressed(folder: Path) -> None:
    """Let chunks of the array, which is new and empty, hold plain values.

    A slice across all chunks is then read in a sixth of the time, which the server has for others; volumes of floats
    would not shrink by much.
    """
    with disk_failures(folder):
        layout = json.loads((folder / LAYOUT_FILE).read_text())
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            changed = Path(fresh) / LAYOUT_FILE
            changed.write_text(json.dumps(layout | {"codecs": _VALUES_ALONE}))
            changed.replace(folder / LAYOUT_FILE)


@contextmanager
def disk_failures(folder: Path) -> Iterator[None]:
    """What the disk refuses may work later."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailableError(
            f"the data folder cannot be used: {error.strerror or error} ({folder}); is there space left?"
        ) from error

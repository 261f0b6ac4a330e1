"""The embedded server's data folder: checked, locked, with its API key.

data_dir/
  api_key        the key that writing needs, mode 0600
  catalog.db     Tiled's catalogue (SQLite)
  tables.db      rows of `frames` and `progress` (SQLite)
  data/          arrays (zarr)
  lock           held while a server runs on the folder
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pfitre_service.errors import StoreError

logger = logging.getLogger(__name__)

_LEFTOVER_AGE_S = 10.0


def prepare(data_dir: Path) -> None:
    """Make the folder and try to write in it.

    Raises:
        StoreError: it cannot be made or written; the message names folder, reason and remedy.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        (data_dir / "data").mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=data_dir) as probe:
            probe.write(b"pfitre")
    except OSError as error:
        raise _unusable(data_dir, error) from error


def ensure_api_key(data_dir: Path) -> str:
    """The folder's API key: letters and digits, made once, readable by its owner alone.

    Raises:
        StoreError: the file cannot be read or made, or holds something else.
    """
    path = data_dir / "api_key"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _write_new_key(path)
        key = path.read_text().strip()
    except OSError as error:
        raise _unusable(data_dir, error) from error
    if not key.isalnum() or not key.isascii():
        raise StoreError(f"{path} should hold an API key of letters and digits; remove the file to have a new one made")
    return key


def _write_new_key(path: Path) -> None:
    """Whole or not at all, and never over one that another process made meanwhile."""
    descriptor, name = tempfile.mkstemp(dir=path.parent)  # mkstemp's mode is 0600
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    try:
        os.link(name, path)
    except FileExistsError:
        logger.debug("another process made %s first", path)
    finally:
        Path(name).unlink()


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold the folder for one server; the system lets go of it when the process dies, however it dies."""
    try:
        descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unusable(data_dir, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreError(
                f"another server works on the data folder {data_dir}; stop it, or name another data folder"
            ) from error
        yield
    finally:
        os.close(descriptor)


def remove_leftovers(data_dir: Path) -> int:
    """Remove empty arrays that the catalogue does not know: their creation was interrupted between disk and database.

    Such a folder makes Tiled refuse the same name for ever. Only arrays without a single chunk are removed.
    """
    with closing(sqlite3.connect(f"file:{data_dir / 'catalog.db'}?mode=ro", uri=True, timeout=5.0)) as database:
        known = {
            str(uri).rstrip("/").rsplit("/data/", 1)[-1] for (uri,) in database.execute("select data_uri from assets")
        }
    removed = 0
    for document in (data_dir / "data").glob("*/*/*/zarr.json"):
        folder = document.parent
        young = time.time() - document.stat().st_mtime < _LEFTOVER_AGE_S
        if young or (folder / "c").exists() or str(folder.relative_to(data_dir / "data")) in known:
            continue
        shutil.rmtree(folder)
        removed += 1
        logger.warning("removed the empty array %s, left by an interrupted creation", folder)
    return removed


def _unusable(data_dir: Path, error: OSError) -> StoreError:
    reason = error.strerror or str(error)
    return StoreError(
        f"the data folder {data_dir} cannot be written: {reason}; "
        "name a folder that this user may write, with space left"
    )

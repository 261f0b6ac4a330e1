"""Whether the databases of a data folder are there and whole, before a server opens it and while it runs.

SQLite makes an empty database of a file that is missing, and a server on one would serve nothing beside a full folder.
While it runs it goes on in a file that has no name any more, and what it stores there ends with it.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from pfitre_service.errors import StoreError

CATALOG, TABLES = "catalog.db", "tables.db"
_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_TABLES_KNOWN = "select count(*) from assets where data_uri like 'sqlite:%'"


def check_databases(data_dir: Path) -> None:
    """Catalogue and tables of a folder that has been used hold what they should.

    Raises:
        StoreError: one is missing, empty or damaged while arrays or the catalogue need it. Nothing is made or changed.
    """
    catalog, tables = data_dir / CATALOG, data_dir / TABLES
    arrays = next((data_dir / "data").rglob("zarr.json"), None)
    if not catalog.exists():
        if arrays is not None:
            raise _damaged(catalog, f"it is missing, yet there are arrays ({arrays})")
        return
    known = _tables_of(catalog)
    if arrays is not None and not known >= {"nodes", "assets"}:
        raise _damaged(catalog, f"it holds no catalogue, yet there are arrays ({arrays})")
    if "assets" in known and _ask(catalog, _TABLES_KNOWN)[0][0]:
        if not tables.exists():
            raise _damaged(tables, "it is missing, yet the catalogue has tables in it")
        if not _tables_of(tables):
            raise _damaged(tables, "it is empty, yet the catalogue has tables in it")


class DatabaseWatch:
    """Looks, once in `every_s` seconds, whether the files that a running server has open are still there and as long as
    they say. Not safe to share between threads; `problem` may be read by any."""

    def __init__(self, data_dir: Path, *, every_s: float = 1.0) -> None:
        self.problem = ""
        """What is wrong, and what to do; empty while all is well."""
        self._files = [_Watched(data_dir / name) for name in (CATALOG, TABLES)]
        self._every_s = every_s
        self._next = 0.0
        self.look()

    def look(self) -> None:
        """Cheap to call often."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._every_s
            self.problem = next(filter(None, [file.look() for file in self._files]), "")


class _Watched:
    """One file of a database, from the first time that anything was in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode: int | None = None
        self._before: tuple[str, int] | None = None

    def look(self) -> str:
        """What is wrong now, and was the last time; empty for nothing: SQLite writes the first page first, so for a
        moment a file that grows is shorter than it says."""
        reason, size = self._reason()
        lasts = self._before == (reason, size)
        self._before = (reason, size)
        told = str(_damaged(self._path, f"{reason} while the server runs; stop the service"))
        return told if reason and lasts else ""

    def _reason(self) -> tuple[str, int]:
        try:
            with self._path.open("rb") as file:
                header, state = file.read(_HEADER_BYTES), os.fstat(file.fileno())
        except FileNotFoundError:
            return "it was removed" if self._inode is not None else "", 0
        except OSError as error:
            return f"it cannot be read ({error.strerror})", 0
        if self._inode is None:
            self._inode = state.st_ino if header else None
            return "", state.st_size
        if state.st_ino != self._inode:
            return "another file was put in its place", state.st_size
        return _shortened(header, state.st_size), state.st_size


def _shortened(header: bytes, size: int) -> str:
    """What the first bytes of an SQLite file, and its size, tell of its being whole; empty for nothing."""
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        return "it was overwritten" if header[:16] != _MAGIC[: len(header)] else "it was shortened"
    page = int.from_bytes(header[16:18], "big")
    known = header[24:28] == header[92:96]  # else an old version of SQLite wrote it, and the number means nothing
    pages = int.from_bytes(header[28:32], "big") if known else 0
    return "it was shortened" if pages * (65536 if page == 1 else page) > size else ""


def _tables_of(database: Path) -> set[str]:
    """Names of the tables in `database`, whose pages are all looked at first."""
    found = _ask(database, "pragma quick_check(1)")
    if found != [("ok",)]:
        raise _damaged(database, "; ".join(str(line) for (line,) in found))
    return {str(name) for (name,) in _ask(database, "select name from sqlite_master where type = 'table'")}


def _ask(database: Path, query: str) -> list[tuple[object, ...]]:
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.DatabaseError as error:
        raise _damaged(database, str(error)) from error


def _damaged(database: Path, reason: str) -> StoreError:
    return StoreError(
        f"the database {database} is damaged: {reason}; put back a copy of it from the same time as {database.parent}, "
        "or name another data folder"
    )

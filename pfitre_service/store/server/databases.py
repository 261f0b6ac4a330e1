"""Whether the databases of a data folder are there and whole, before a server opens it.

SQLite makes an empty database of a file that is missing, and a server on one would serve nothing beside a full folder.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from pfitre_service.errors import StoreError

_TABLES_KNOWN = "select count(*) from assets where data_uri like 'sqlite:%'"


def check_databases(data_dir: Path) -> None:
    """Catalogue and tables of a folder that has been used hold what they should.

    Raises:
        StoreError: one is missing, empty or damaged while arrays or the catalogue need it. Nothing is made or changed.
    """
    catalog, tables = data_dir / "catalog.db", data_dir / "tables.db"
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

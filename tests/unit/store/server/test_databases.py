"""Databases whose files are changed by something else while a server has them open."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest

from pfitre_service.store.server import databases
from pfitre_service.store.server.databases import DatabaseWatch


@pytest.fixture(params=["wal", "delete"])
def folder(tmp_path, request):
    """Two databases of some pages each, with this way of keeping a journal."""
    for name in (databases.CATALOG, databases.TABLES):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            connection.execute(f"pragma journal_mode={request.param}")
            fill(connection)
    return tmp_path


def fill(connection, rows=200):
    connection.execute("create table if not exists rows (text)")
    connection.executemany("insert into rows values (?)", [("x" * 500,)] * rows)
    connection.commit()


def seen_after_two_looks(watch):
    watch.look()
    first = watch.problem
    watch.look()
    return first, watch.problem


@pytest.mark.parametrize("name", [databases.CATALOG, databases.TABLES])
@pytest.mark.parametrize(
    ("hurt", "said"),
    [
        ("deleted", "it was removed"),
        ("emptied", "it was shortened"),
        ("cut in its header", "it was shortened"),
        ("cut by a page", "it was shortened"),
        ("overwritten", "it was overwritten"),
        ("replaced", "another file was put in its place"),
    ],
)
def test_what_happened_to_it_is_said_at_the_second_look(folder, name, hurt, said):
    path, watch = folder / name, DatabaseWatch(folder, every_s=0.0)
    if hurt == "deleted":
        path.unlink()
    elif hurt == "replaced":
        copy = folder / "copy"
        copy.write_bytes(path.read_bytes())
        copy.replace(path)
    elif hurt == "overwritten":
        with path.open("r+b") as file:
            file.write(b"nothing that SQLite knows")
    else:
        size = path.stat().st_size
        os.truncate(path, {"emptied": 0, "cut in its header": 50, "cut by a page": size - 4096}[hurt])
    first, second = seen_after_two_looks(watch)
    assert first == ""
    assert f"the database {path} is damaged: {said} while the server runs; stop the service" in second


def test_one_that_grows_is_whole_at_every_look(folder):
    watch = DatabaseWatch(folder, every_s=0.0)
    with closing(sqlite3.connect(folder / databases.TABLES)) as connection:
        for _ in range(30):
            fill(connection, 50)
            assert seen_after_two_looks(watch) == ("", "")
        connection.execute("delete from rows")
        connection.commit()
        connection.execute("vacuum")
        assert seen_after_two_looks(watch) == ("", "")


def test_one_that_is_still_to_be_made_is_not_missed(tmp_path):
    watch = DatabaseWatch(tmp_path, every_s=0.0)
    assert seen_after_two_looks(watch) == ("", "")
    (tmp_path / databases.TABLES).touch()
    assert seen_after_two_looks(watch) == ("", "")
    with closing(sqlite3.connect(tmp_path / databases.TABLES)) as connection:
        fill(connection)
    assert seen_after_two_looks(watch) == ("", "")


def test_one_that_comes_back_is_well_again(folder):
    path, watch = folder / databases.CATALOG, DatabaseWatch(folder, every_s=0.0)
    aside = path.rename(folder / "aside")
    assert seen_after_two_looks(watch)[1] != ""
    aside.rename(path)
    assert seen_after_two_looks(watch) == ("", "")

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import pytest
import zarr

from pfitre_service.errors import StoreError, StoreUnavailableError
from pfitre_service.model import Progress
from pfitre_service.store.catalog import Catalog
from pfitre_service.store.server import data_folder
from pfitre_service.store.server.server import build_app, run_server
from pfitre_service.store.writer_thread import StoreThread


def start_in_vain(data_dir: Path, port: int = 0) -> None:
    run_server(data_dir, host="127.0.0.1", port=port, anonymous_read=True, stop=threading.Event())


def test_after_a_restart_the_same_frames_and_volume_are_there(own_server, key, make_frames):
    volume = np.arange(5 * 6 * 6, dtype=np.float32).reshape(5, 6, 6)
    with own_server.catalog() as catalog:
        catalog.create(key, {"sample": "cu23"})
        catalog.acquisition_writer(key).append(make_frames(4))
        catalog.result_writer(key).publish(volume, 3)
        own_server.stop()
        own_server.start()
        np.testing.assert_array_equal(catalog.reader(key).volume(), volume)
        assert catalog.reader(key).revision() == 3
        assert catalog.acquisition_writer(key).append(make_frames(6)).stored == 2


def test_it_stops_within_three_seconds_with_connections_and_websockets_open(own_server, key):
    from websockets.sync.client import connect

    with own_server.catalog() as catalog, httpx.Client() as idle:
        catalog.create(key, {})
        idle.get(f"{own_server.url}/healthz")
        address = own_server.url.replace("http", "ws")
        with connect(f"{address}/api/v1/stream/single/tomograms/{key.id}?envelope_format=json"):
            began = time.monotonic()
            own_server.stop()
            assert time.monotonic() - began < 3.5


def test_with_anonymous_reading_off_nothing_is_read_without_the_key(own_server, key):
    own_server.stop()
    own_server.anonymous_read = False
    own_server.start()
    with own_server.catalog() as catalog:
        catalog.create(key, {})
    with pytest.raises(StoreError, match="API key"):
        Catalog.connect(own_server.url, None, timeout_s=5)


def test_two_servers_never_share_a_data_folder(server):
    with pytest.raises(StoreError, match="another server works on the data folder"):
        start_in_vain(server.data_dir)


def test_a_port_in_use_is_named_before_anything_else_is_done(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StoreError, match=rf"127\.0\.0\.1:{port}.*in use.*another one"):
            start_in_vain(tmp_path, port)


@pytest.mark.parametrize("below", ["a file", "proc"])
def test_a_data_folder_that_cannot_be_made_is_named_with_the_reason(tmp_path, below):
    (tmp_path / "file").write_text("")
    data_dir = tmp_path / "file" / "data" if below == "a file" else Path("/proc/pfitre")
    with pytest.raises(StoreError, match=rf"{data_dir} cannot be written: .+; name a folder"):
        start_in_vain(data_dir)


def test_the_key_is_made_once_readable_by_its_owner_alone_and_never_logged(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    first = data_folder.ensure_api_key(tmp_path)
    assert first.isalnum()
    assert len(first) >= 32
    assert data_folder.ensure_api_key(tmp_path) == first
    assert stat.S_IMODE((tmp_path / "api_key").stat().st_mode) == 0o600
    assert first not in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["api_key"]


def test_a_key_file_with_anything_else_is_refused(tmp_path):
    (tmp_path / "api_key").write_text("two words")
    with pytest.raises(StoreError, match="remove the file"):
        data_folder.ensure_api_key(tmp_path)


def test_an_array_left_by_an_interrupted_creation_does_not_block_its_name(own_server, key, make_frames):
    with own_server.catalog() as catalog:
        catalog.create(key, {})
        left = own_server.data_dir / "data" / "tomograms" / key.id / "projections"
        zarr.create_array(str(left), shape=(1, 6, 10), chunks=(1, 6, 10), dtype="uint16")
        old = time.time() - 60
        os.utime(left / "zarr.json", (old, old))
        writer = catalog.acquisition_writer(key)
        with pytest.raises(StoreUnavailableError, match="1 removed, try again"):
            writer.append(make_frames(2))
        assert writer.append(make_frames(2)).stored == 2


SERVE = """
import sys, threading
from pathlib import Path
from pfitre_service.store.server.server import run_server
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
run_server(Path(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), anonymous_read=True, stop=stop,
           on_ready=lambda url: print(url, flush=True))
"""


def serve_in_a_process(data_dir: Path, port: int) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(data_dir), str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.slow
def test_a_server_killed_in_mid_run_loses_no_frame_that_had_a_row(tmp_path, key, make_frames):
    process, url = serve_in_a_process(tmp_path, 0)
    with Catalog.connect(url, data_folder.ensure_api_key(tmp_path), timeout_s=20) as catalog:
        thread = StoreThread(catalog)
        thread.create(key, {})
        for number in range(1, 60):
            thread.append(key, make_frames(1, first=number))
            if number == 30:
                process.kill()
                process.communicate()
                process, again = serve_in_a_process(tmp_path, int(url.rsplit(":", 1)[1]))
                assert again == url
        left = thread.close(30)
        assert (left.waiting_frames, left.refused_frames, left.failed_jobs) == (0, 0, 0)
        images = [int(image[0, 0]) for batch in catalog.reader(key).batches("projection") for image in batch.images]
        assert images == list(range(1, 60))
    process.communicate(timeout=10)
    assert process.returncode == 0


def test_frames_results_and_readers_do_not_disturb_each_other(server, key, make_frames):
    failures: list[Exception] = []

    def guarded(work: Callable[[Catalog], None]) -> None:
        with server.catalog() as catalog:
            try:
                work(catalog)
            except StoreError as error:
                failures.append(error)

    def receive(catalog: Catalog) -> None:
        writer = catalog.acquisition_writer(key)
        for number in range(1, 13):
            writer.append(make_frames(1, first=number))

    def reconstruct(catalog: Catalog) -> None:
        writer = catalog.result_writer(key)
        for revision in range(1, 9):
            writer.publish(np.full((4, 8, 8), revision, np.float32), revision)
            writer.progress([Progress(revision, "iterating", 1.0, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1)])
            writer.status("iterating", None, revision=revision)

    def watch(catalog: Catalog) -> None:
        for _ in range(12):
            catalog.summary(key)
            reader = catalog.reader(key)
            stored = reader.counts()["projection"]
            assert sum(len(batch.images) for batch in reader.batches("projection")) >= stored

    with server.catalog() as catalog:
        catalog.create(key, {})
        threads = [threading.Thread(target=guarded, args=(work,)) for work in (receive, reconstruct, watch)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failures == []
        assert catalog.reader(key).counts()["projection"] == 12
        assert [row.revision for row in catalog.reader(key).progress()] == list(range(1, 9))
        assert catalog.reader(key).volume().min() == 8


@pytest.mark.parametrize("hurt", ["deleted", "emptied", "cut"])
@pytest.mark.parametrize("database", ["catalog.db", "tables.db"])
def test_a_folder_whose_database_is_gone_or_damaged_is_refused_and_left_as_it_is(
    own_server, key, make_frames, database, hurt
):
    with own_server.catalog() as catalog:
        catalog.create(key, {})
        catalog.acquisition_writer(key).append(make_frames(2))
    own_server.stop()
    path = own_server.data_dir / database
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    for other in own_server.data_dir.glob(f"{database}-*"):
        other.unlink()
    if hurt == "deleted":
        path.unlink()
    else:
        os.truncate(path, 0 if hurt == "emptied" else path.stat().st_size // 2)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(StoreError, match=database):
        build_app(own_server.data_dir, "a" * 64, anonymous_read=False)
    assert (path.read_bytes() if path.exists() else None) == before


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, f"{what} did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize(("database", "hurt"), [("catalog.db", "deleted"), ("catalog.db", "cut"), ("tables.db", "cut")])
def test_a_database_damaged_under_a_running_server_is_an_error_and_never_an_empty_catalogue(
    own_server, key, make_frames, database, hurt
):
    path = own_server.data_dir / database
    with own_server.catalog() as catalog:
        catalog.create(key, {})
        catalog.acquisition_writer(key).append(make_frames(2))
        own_server.stop()  # so that all is in the file, and the next one looks at it as it starts
        own_server.start()
        if hurt == "deleted":
            path.unlink()
        else:
            os.truncate(path, path.stat().st_size // 2)
        wait_for(lambda: own_server.troubles, "a word about it")
        assert f"the database {path} is damaged: " in own_server.troubles[0]
        for ask in (catalog.keys, catalog.summaries, catalog.reader(key).angles):
            with pytest.raises(StoreUnavailableError, match=f"{database} is damaged.*stop the service"):
                ask()
        with pytest.raises(StoreUnavailableError, match="stop the service"):
            catalog.acquisition_writer(key).append(make_frames(3))
        assert httpx.get(f"{own_server.url}/api/v1/search/tomograms").status_code == 503
    assert len(own_server.troubles) == 1


def test_a_database_that_is_put_back_where_it_was_is_served_again(own_server, key, make_frames):
    path = own_server.data_dir / "tables.db"
    with own_server.catalog() as catalog:
        catalog.create(key, {})
        own_server.stop()
        own_server.start()
        aside = path.rename(path.with_name("aside"))
        wait_for(lambda: own_server.troubles, "a word about it")
        aside.rename(path)
        wait_for(lambda: own_server.troubles[1:] == [""], "peace")
        assert catalog.acquisition_writer(key).append(make_frames(2)).stored == 2

from __future__ import annotations

import socket
import threading
import time

import httpx
import numpy as np
import pytest

from pfitre_service.errors import StoreError, StoreMissingError, StoreUnavailableError
from pfitre_service.model import TomogramKey
from pfitre_service.store import layout
from pfitre_service.store.catalog import Catalog
from pfitre_service.store.result_writer import ResultWriter
from pfitre_service.store.tiled_http import nodes
from pfitre_service.store.tiled_http.connection import TiledHttp


def test_tomograms_are_listed_newest_last(catalog, key):
    for name in ("z-first", "a-second"):
        catalog.create(TomogramKey(f"{key.id}-{name}"), {})
    assert [found.id for found in catalog.keys()[-2:]] == [f"{key.id}-z-first", f"{key.id}-a-second"]
    assert [s.key.id for s in catalog.summaries(2)] == [f"{key.id}-z-first", f"{key.id}-a-second"]


def test_the_newest_entry_is_no_run_of_flats_and_darks(catalog, key):
    shown, references = TomogramKey(f"{key.id}-shown"), TomogramKey(f"{key.id}-references")
    catalog.create(shown, {"sample": "cu23"})
    catalog.create(references, {})
    assert catalog.newest_entry()[0] == references
    catalog.result_writer(references).status("references", "2 flats and 2 darks")
    newest, metadata = catalog.newest_entry()
    assert (newest, metadata["sample"]) == (shown, "cu23")
    assert catalog.newest_entry(search=1) is None


def test_an_old_tomogram_that_is_open_is_found_among_many_newer_ones_that_ended(catalog, key):
    catalog.create(key, {})
    newer = [TomogramKey(f"{key.id}-newer-{number}") for number in range(21)]
    for other in newer:
        catalog.create(other, {"status": "final"})
    assert key not in {summary.key for summary in catalog.summaries()}
    found = [summary.key for summary in catalog.unfinished()]
    assert key in found
    assert not set(newer) & set(found)


def test_a_summary_tells_frames_acquisition_status_and_revision(catalog, key, make_frames):
    catalog.create(key, {"sample": "cu23"}, expected_frames=9)
    before = catalog.summary(key)
    assert (before.status, before.acquisition, before.revision) == ("receiving", "receiving", None)
    assert before.frames == {"projection": 0, "flat": 0, "dark": 0}
    writer = catalog.acquisition_writer(key)
    writer.append(make_frames(3) + make_frames(1, role="flat"))
    summary = catalog.summary(key)
    assert summary.frames == {"projection": 3, "flat": 1, "dark": 0}
    assert summary.expected_frames == 9
    publish(catalog.result_writer(key), 4)
    assert catalog.summary(key).revision == 4


def publish(writer: ResultWriter, revision: int) -> None:
    writer.publish(np.zeros((2, 4, 4), np.float32), revision)


def test_a_summary_of_a_finished_tomogram_follows_when_it_is_reconstructed_again(catalog, key, make_frames):
    catalog.create(key, {})
    frames, results = catalog.acquisition_writer(key), catalog.result_writer(key)
    frames.append(make_frames(1))
    frames.close("complete", None)
    publish(results, 1)
    results.status("final", None, revision=1)
    assert catalog.summary(key).revision == catalog.summary(key).revision == 1
    results.status("iterating", None)
    publish(results, 2)
    assert (catalog.summary(key).status, catalog.summary(key).revision) == ("iterating", 2)


def test_creating_a_tomogram_again_changes_nothing(catalog, key):
    assert catalog.create(key, {"sample": "a"}) is True
    assert catalog.create(key, {"sample": "b"}) is False
    assert catalog.reader(key).metadata()["sample"] == "a"


def test_a_creation_interrupted_before_its_table_is_completed_the_next_time(catalog, wire, key, make_frames):
    nodes.create_container(wire, layout.ROOT, key.id, {"sample": "a"})
    catalog.create(key, {"sample": "a"})
    assert catalog.acquisition_writer(key).append(make_frames(1)).stored == 1


def test_what_is_not_there_is_said_to_be_missing(catalog):
    with pytest.raises(StoreMissingError):
        catalog.reader(TomogramKey("never-made")).acquisition()
    with pytest.raises(StoreMissingError):
        catalog.summary(TomogramKey("never-made"))


def test_a_server_that_is_not_there_is_noticed_within_the_deadline():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match=rf"no Tiled server became ready at http://127.0.0.1:{port}"):
            Catalog.connect(f"http://127.0.0.1:{port}", "key", timeout_s=0.5)
        assert time.monotonic() - began < 2


def test_a_server_that_never_answers_is_given_up_after_the_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        wire = TiledHttp(f"http://127.0.0.1:{silent.getsockname()[1]}", None, timeout_s=0.3)
        with pytest.raises(StoreUnavailableError, match="does not answer"):
            wire.get_json("metadata/")
        wire.close()


def test_something_else_that_answers_is_not_taken_for_tiled():
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            for _ in range(2):
                connection, _ = other.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")

        thread = threading.Thread(target=answer, name="something-else")
        thread.start()
        with pytest.raises(StoreError, match="no Tiled server"):
            Catalog.connect(f"http://127.0.0.1:{other.getsockname()[1]}", None, timeout_s=5)
        thread.join(5)


def test_an_address_that_is_none_is_refused():
    with pytest.raises(StoreError, match="Tiled"):
        Catalog.connect("not an address", "key", timeout_s=1)


def test_a_wrong_key_is_refused_when_connecting(server):
    with pytest.raises(StoreError, match="API key"):
        Catalog.connect(server.url, "0123456789abcdef", timeout_s=5)


def test_without_a_key_everything_is_read_and_nothing_is_written(server, catalog, key, make_frames):
    catalog.create(key, {"sample": "cu23"})
    catalog.acquisition_writer(key).append(make_frames(2))
    with Catalog.connect(server.url, None, timeout_s=5) as visitor:
        assert visitor.summary(key).frames["projection"] == 2
        assert next(visitor.reader(key).batches("projection")).images.shape == (2, 6, 10)
        with pytest.raises(StoreError, match="API key"):
            visitor.create(TomogramKey(f"{key.id}-visitor"), {})
        with pytest.raises(StoreError, match="API key"):
            visitor.acquisition_writer(key).append(make_frames(1, first=3))
        with pytest.raises(StoreError, match="API key"):
            visitor.result_writer(key).status("final", "by a visitor")
    assert httpx.delete(f"{server.url}/api/v1/metadata/tomograms/{key.id}").status_code in (401, 403)
    assert catalog.summary(key).frames["projection"] == 2


@pytest.mark.parametrize(("found", "advice"), [({}, "the version that wrote it"), ({"layout": 3}, "a newer version")])
def test_a_catalogue_of_another_layout_is_refused_by_readers_and_writers(start_server, found, advice):
    server = start_server()
    with server.catalog() as catalog:
        wire = TiledHttp(server.url, server.api_key)
        nodes.patch_metadata(wire, layout.ROOT, {"layout": found.get("layout")})
        wire.close()
        assert catalog.answers()
    for key in (server.api_key, None):
        with pytest.raises(StoreError, match=f"layout .* works with layout {layout.VERSION}.*{advice}"):
            Catalog.connect(server.url, key, timeout_s=20)

"""Frames written beside Tiled, in its own data folder: what every other reader sees of them."""

from __future__ import annotations

import shutil
import threading
from functools import partial

import numpy as np
import pytest
import zarr

from pfitre_service.errors import StoreError, StoreUnavailableError
from pfitre_service.model import TomogramKey
from pfitre_service.store import layout
from pfitre_service.store.frame_array import LocalFrames, RemoteFrames, open_frames
from pfitre_service.store.tiled_http import nodes
from pfitre_service.store.tiled_http.connection import TiledHttp


@pytest.fixture
def beside(server):
    with server.catalog() as catalog:
        yield catalog


@pytest.fixture
def remote(server):
    with server.catalog(beside=False) as catalog:
        yield catalog


THREE_A_CHUNK = (1024, 640)
"""(row, column) of uint16 frames of which three fit into what Tiled is told that a chunk is, and four do not."""


@pytest.fixture
def make_large(make_frames):
    return partial(make_frames, shape=THREE_A_CHUNK)


def folder_of(server, key):
    return server.data_dir / "data" / layout.node_path(key, "projections")


def numbers(reader, start=0):
    return [int(image[0, 0]) for batch in reader.batches("projection", start) for image in batch.images]


def test_both_ways_read_what_the_other_one_wrote_into_the_same_chunks(beside, remote, key, make_large):
    beside.create(key, {})
    beside.acquisition_writer(key).append(make_large(4))
    remote.acquisition_writer(key).append(make_large(4, first=5))
    beside.acquisition_writer(key).append(make_large(2, first=9))
    for catalog in (beside, remote):
        assert numbers(catalog.reader(key)) == list(range(1, 11))


def test_tiled_knows_the_length_and_the_chunks_of_what_was_written_beside_it(server, wire, beside, key, make_large):
    beside.create(key, {})
    writer = beside.acquisition_writer(key)
    for first in (1, 3, 4):
        writer.append(make_large(2 if first == 1 else 1, first=first))
    node = nodes.get_node(wire, layout.node_path(key, "projections"))
    assert node.shape == (4, *THREE_A_CHUNK)
    assert node.chunks == ((3, 1), (1024,), (640,))
    array = zarr.open_array(str(folder_of(server, key)), mode="r")
    assert (array.shape, array.chunks) == ((4, *THREE_A_CHUNK), (1, *THREE_A_CHUNK))
    assert [int(frame[0, 0]) for frame in array] == [1, 2, 3, 4]


@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")  # Tiled's client
def test_subscribers_of_tiled_are_told_which_frames_are_new(server, beside, key, make_frames):
    from tiled.client import from_uri

    beside.create(key, {})
    writer = beside.acquisition_writer(key)
    writer.append(make_frames(1))
    client = from_uri(server.url, api_key=server.api_key)
    told, enough = [], threading.Event()

    def on_data(update):
        told.append((update.patch.offset[0], update.patch.shape[0], int(update.data()[-1, 0, 0])))
        enough.set()

    subscription = client["tomograms", key.id, "projections"].subscribe()
    subscription.new_data.add_callback(on_data)
    subscription.start_in_thread()
    try:
        writer.append(make_frames(3, first=2))
        assert enough.wait(20)
    finally:
        subscription.disconnect()
        client.context.close()
    assert told[-1] == (1, 3, 4)


def test_a_frame_that_has_a_row_is_never_read_half_written(server, beside, key, make_frames):
    beside.create(key, {})
    failures: list[object] = []
    done = threading.Event()

    def watch() -> None:
        with server.catalog() as own:
            reader, seen = own.reader(key), 0
            while not (done.is_set() and seen == 40):
                for batch in reader.batches("projection", seen):
                    found = batch.images.reshape(len(batch.images), -1)
                    wanted = batch.angles[:, np.newaxis]
                    failures.extend(found[(found != wanted).any(axis=1)])
                    seen += len(found)

    watcher = threading.Thread(target=watch)
    watcher.start()
    writer = beside.acquisition_writer(key)
    for first in range(1, 41, 2):
        writer.append(make_frames(2, first=first))
    done.set()
    watcher.join(30)
    assert not watcher.is_alive()
    assert failures == []


def test_after_a_crash_before_the_rows_the_frames_without_rows_are_overwritten(server, wire, beside, key, make_large):
    beside.create(key, {})
    beside.acquisition_writer(key).append(make_large(2))
    array = open_frames(wire, key, "projection", server.data_dir)
    array.write([np.full(THREE_A_CHUNK, 99, np.uint16)] * 7, 2)
    assert numbers(beside.reader(key)) == [1, 2]
    beside.acquisition_writer(key).append(make_large(3, first=3))
    assert numbers(beside.reader(key)) == [1, 2, 3, 4, 5]
    assert nodes.get_node(wire, layout.node_path(key, "projections")).shape[0] == 5


def test_an_array_with_compressed_chunks_is_left_to_tiled(server, wire, beside, remote, key, make_frames):
    beside.create(key, {})
    remote.acquisition_writer(key).append(make_frames(2))
    assert isinstance(open_frames(wire, key, "projection", server.data_dir), RemoteFrames)
    beside.acquisition_writer(key).append(make_frames(2, first=3))
    assert numbers(beside.reader(key)) == [1, 2, 3, 4]


def test_another_folder_than_the_servers_is_left_alone(server, wire, beside, key, make_frames, tmp_path):
    beside.create(key, {})
    beside.acquisition_writer(key).append(make_frames(1))
    shutil.copytree(server.data_dir / "data", tmp_path / "data")
    assert isinstance(open_frames(wire, key, "projection", tmp_path), RemoteFrames)
    assert isinstance(open_frames(wire, key, "projection", server.data_dir), LocalFrames)


def test_a_link_out_of_the_data_folder_is_not_followed(server, wire, beside, key, make_frames, tmp_path):
    beside.create(key, {})
    beside.acquisition_writer(key).append(make_frames(1))
    outside = folder_of(server, key).rename(tmp_path / "outside")
    folder_of(server, key).symlink_to(outside)
    assert isinstance(open_frames(wire, key, "projection", server.data_dir), RemoteFrames)


def test_a_folder_that_cannot_be_written_is_waited_for(beside, key, make_frames, server):
    beside.create(key, {})
    writer = beside.acquisition_writer(key)
    writer.append(make_frames(1))
    chunk = folder_of(server, key) / "c.1.0.0"
    chunk.mkdir()
    with pytest.raises(StoreUnavailableError, match="the data folder cannot be used: Is a directory"):
        writer.append(make_frames(1, first=2))
    chunk.rmdir()
    assert writer.append(make_frames(1, first=2)).stored == 1
    assert numbers(beside.reader(key)) == [1, 2]


def test_an_array_whose_folder_is_gone_is_not_made_again_elsewhere(beside, key, make_frames, server, tmp_path):
    beside.create(key, {})
    writer = beside.acquisition_writer(key)
    writer.append(make_frames(1))
    away = folder_of(server, key).rename(tmp_path / "away")  # as when a disk is not mounted any more
    with pytest.raises(StoreUnavailableError, match="No such file or directory"):
        writer.append(make_frames(1, first=2))
    assert not folder_of(server, key).exists()
    away.rename(folder_of(server, key))
    assert writer.append(make_frames(1, first=2)).stored == 1


PARTITION = 1000
"""Rows after which the next batch begins a partition of its own (docs/reference/catalogue.md)."""


@pytest.fixture
def make_pixels(make_frames):
    """Frames of one pixel: many rows, few bytes."""
    return partial(make_frames, shape=(1, 1))


def test_rows_are_read_once_and_lie_in_partitions_that_plain_clients_see(server, catalog, make_pixels, monkeypatch):
    from tiled.client import from_uri

    key = TomogramKey(f"partitions-{id(catalog)}")
    catalog.create(key, {})
    reader, writer = catalog.reader(key), catalog.acquisition_writer(key)
    read: list[int] = []
    whole = nodes.read_table

    def counted(*arguments, **options):
        table = whole(*arguments, **options)
        read.append(len(table["role"]) if "role" in table else 0)
        return table

    monkeypatch.setattr(nodes, "read_table", counted)
    for first, count in ((1, 3), (4, PARTITION - 4), (PARTITION, 2), (PARTITION + 2, 9), (PARTITION + 11, 3)):
        writer.append(make_pixels(count, first=first))
        assert list(reader.angles()) == list(range(1, first + count))
        if first < PARTITION:
            read.clear()
    assert sum(read) <= (PARTITION + 1) + 9 + 12
    assert list(catalog.reader(key).angles()) == list(range(1, PARTITION + 14))
    assert catalog.acquisition_writer(key).append(make_pixels(PARTITION + 14)).stored == 1
    client = from_uri(server.url, api_key=server.api_key)
    assert list(client["tomograms", key.id, "frames"].read()["angle"]) == list(range(1, PARTITION + 15))
    client.context.close()


@pytest.mark.parametrize("stored", [PARTITION, 2 * PARTITION + 1])
def test_a_new_writer_begins_a_partition_that_plain_clients_know_of(stored, wire, beside, key, make_pixels):
    beside.create(key, {})
    beside.acquisition_writer(key).append(make_pixels(stored))  # all in the first partition, which is full now
    beside.acquisition_writer(key).append(make_pixels(2, first=stored + 1))
    frames = nodes.get_node(wire, layout.node_path(key, "frames"))
    assert frames.structure["npartitions"] == stored // PARTITION + 1
    assert len(beside.reader(key).frame_ids()) == stored + 2
    assert beside.acquisition_writer(key).append(make_pixels(stored + 2)).duplicates == stored + 2


def test_a_key_that_may_not_announce_partitions_stores_all_rows_and_says_what_is_not_seen(
    remote, key, make_pixels, monkeypatch, caplog
):
    remote.create(key, {})
    send = TiledHttp.send_json

    def without_the_scope(wire, method, path, *arguments):
        if path.startswith("data_source/"):
            raise StoreError(f"Tiled answered 403 to {method} {path}: Not enough permissions")
        send(wire, method, path, *arguments)

    monkeypatch.setattr(TiledHttp, "send_json", without_the_scope)
    writer = remote.acquisition_writer(key)
    for first, count in ((1, PARTITION), (PARTITION + 1, 2), (PARTITION + 3, 1)):
        writer.append(make_pixels(count, first=first))
    assert numbers(remote.reader(key)) == list(range(1, PARTITION + 4))
    assert len(remote.reader(key).frame_ids()) == PARTITION + 3
    assert caplog.text.count("will not see all rows") == 1

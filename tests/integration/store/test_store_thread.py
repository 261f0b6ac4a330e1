from __future__ import annotations

import errno
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pfitre_service.errors import StoreError
from pfitre_service.store.writer_thread import StoreThread


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.02)


def angles_of(catalog, key):
    return list(catalog.reader(key).angles())


def test_jobs_are_done_in_order_and_closing_flushes_them(catalog, key, make_frames):
    thread = StoreThread(catalog)
    thread.create(key, {"sample": "cu23"}, expected_frames=4)
    for number in range(1, 5):
        thread.append(key, make_frames(1, first=number))
    thread.finish(key, "complete", None, {"late": 0})
    left = thread.close(20)
    assert (left.waiting_jobs, left.stored_frames, left.refused_frames) == (0, 4, 0)
    assert angles_of(catalog, key) == [1, 2, 3, 4]
    assert catalog.reader(key).acquisition().state == "complete"
    assert not [t for t in threading.enumerate() if t.name == "pfitre-store"]


def test_frames_that_wait_behind_each_other_go_out_in_one_write(catalog, key, make_frames, writes):
    thread = StoreThread(catalog)
    thread.create(key, {})
    for number in range(1, 31):
        thread.append(key, make_frames(1, first=number))
    thread.close(20)
    assert sum(frames for _, frames in writes) == 30
    assert len(writes) <= 5
    assert angles_of(catalog, key) == list(range(1, 31))


def test_a_frame_that_does_not_fit_is_counted_and_the_next_ones_are_stored(catalog, key, make_frames):
    thread = StoreThread(catalog)
    thread.create(key, {})
    thread.append(key, make_frames(1))
    thread.append(key, make_frames(1, first=2, shape=(9, 9)))
    thread.append(key, make_frames(1, first=3))
    left = thread.close(20)
    assert (left.stored_frames, left.refused_frames) == (2, 1)
    assert "9 x 9" in left.last_error
    assert angles_of(catalog, key) == [1, 3]


def test_frames_of_an_unknown_tomogram_are_refused_and_counted_and_the_thread_lives_on(catalog, key, make_frames):
    thread = StoreThread(catalog)
    thread.append(type(key)(f"{key.id}-unknown"), make_frames(2))
    thread.create(key, {})
    thread.append(key, make_frames(1))
    left = thread.close(20)
    assert (left.failed_jobs, left.refused_frames, left.stored_frames) == (1, 2, 1)


def test_a_server_that_goes_and_comes_back_loses_nothing(own_server, key, make_frames):
    with own_server.catalog() as catalog:
        thread = StoreThread(catalog)
        thread.create(key, {})
        thread.append(key, make_frames(3))
        wait_for(lambda: thread.state.stored_frames == 3)
        own_server.stop()
        began = time.monotonic()
        for number in range(4, 8):
            thread.append(key, make_frames(1, first=number))
        wait_for(lambda: thread.state.retrying_since is not None)
        assert time.monotonic() - began < 3
        assert "does not answer" in thread.state.last_error
        assert thread.state.waiting_frames == 4
        own_server.start()
        wait_for(lambda: thread.state.stored_frames == 7)
        left = thread.close(10)
        assert (left.duplicate_frames, left.refused_frames, left.retrying_since) == (0, 0, None)
        assert angles_of(catalog, key) == [1, 2, 3, 4, 5, 6, 7]


def test_a_data_folder_that_cannot_be_written_is_named_and_all_frames_arrive_once_it_can(own_server, key, make_frames):
    data = own_server.data_dir / "data"
    with own_server.catalog() as catalog:
        thread = StoreThread(catalog)
        thread.create(key, {})
        thread.append(key, make_frames(3))
        wait_for(lambda: thread.state.stored_frames == 3)
        data.rename(data.with_name("moved"))
        data.write_text("in the way")
        for number in range(4, 8):
            thread.append(key, make_frames(1, first=number))
        wait_for(lambda: thread.state.retrying_since is not None)
        assert str(own_server.data_dir) in thread.state.last_error
        assert "Not a directory" in thread.state.last_error
        assert catalog.reader(key).counts()["projection"] == 3
        data.unlink()
        data.with_name("moved").rename(data)
        wait_for(lambda: thread.state.stored_frames == 7)
        thread.close(10)
        images = [int(image[0, 0]) for batch in catalog.reader(key).batches("projection") for image in batch.images]
        assert images == [1, 2, 3, 4, 5, 6, 7]


def test_a_tomogram_at_which_the_server_always_fails_is_given_up_and_the_others_go_on(own_server, key, make_frames):
    other = type(key)(f"{key.id}-other")
    with own_server.catalog(beside=False) as catalog:
        thread = StoreThread(catalog, give_up_s=1.0)
        thread.create(key, {})
        thread.append(key, make_frames(2))
        wait_for(lambda: thread.state.stored_frames == 2)
        # Of an array that nothing can read any more the server says 500, whatever is asked of it.
        with closing(sqlite3.connect(own_server.data_dir / "catalog.db")) as database, database:
            database.execute("update data_sources set mimetype = 'x/unknown' where mimetype = 'application/x-zarr'")
        thread.append(key, make_frames(3, first=3))
        thread.create(other, {})
        thread.append(other, make_frames(4))
        wait_for(lambda: thread.state.retrying_since is not None)
        assert thread.state.given_up == 0
        wait_for(lambda: thread.state.stored_frames == 6)
        assert (thread.state.given_up, thread.state.refused_frames, thread.state.retrying_since) == (1, 3, None)
        assert thread.state.given_up_last.startswith(f"tomogram {key}: given up after 1 s in which")
        began = time.monotonic()
        thread.append(key, make_frames(1, first=6))
        thread.finish(key, "complete", None)
        thread.finish(other, "complete", None)
        left = thread.close(20)
        assert time.monotonic() - began < 10
        assert (left.given_up, left.refused_frames, left.stored_frames, left.waiting_jobs) == (1, 4, 6, 0)
        broken, whole = catalog.summary(key), catalog.summary(other)
        assert broken.acquisition == "failed"
        assert "Tiled answered 500" in broken.reason
        assert (whole.acquisition, whole.frames["projection"]) == ("complete", 4)


def test_a_tomogram_whose_array_is_damaged_is_given_up_at_once_and_ends_as_failed(own_server, key, make_frames):
    with own_server.catalog(beside=False) as catalog:
        thread = StoreThread(catalog)
        thread.create(key, {})
        thread.append(key, make_frames(2))
        wait_for(lambda: thread.state.stored_frames == 2)
        (own_server.data_dir / "data" / "tomograms" / key.id / "projections" / "zarr.json").write_text("damaged")
        thread.append(key, make_frames(3, first=3))
        thread.finish(key, "complete", None)
        left = thread.close(20)
        assert (left.given_up, left.refused_frames, left.stored_frames, left.waiting_jobs) == (1, 3, 2, 0)
        summary = catalog.summary(key)
        assert summary.acquisition == "failed"
        assert "zarr.json cannot be understood" in summary.reason


def test_a_server_that_is_gone_for_longer_than_that_is_waited_for(own_server, key, make_frames):
    with own_server.catalog() as catalog:
        thread = StoreThread(catalog, give_up_s=0.2)
        thread.create(key, {})
        thread.append(key, make_frames(1))
        wait_for(lambda: thread.state.stored_frames == 1)
        own_server.stop()
        thread.append(key, make_frames(2, first=2))
        wait_for(lambda: thread.state.retrying_since is not None and time.time() - thread.state.retrying_since > 1)
        own_server.start()
        wait_for(lambda: thread.state.stored_frames == 3)
        left = thread.close(10)
        assert (left.given_up, left.refused_frames, left.failed_jobs) == (0, 0, 0)


def test_a_disk_that_cannot_be_written_for_longer_than_that_is_waited_for(own_server, key, make_frames):
    data = own_server.data_dir / "data"
    with own_server.catalog(beside=False) as catalog:
        thread = StoreThread(catalog, give_up_s=0.2)
        thread.create(key, {})
        thread.append(key, make_frames(1))
        wait_for(lambda: thread.state.stored_frames == 1)
        data.rename(data.with_name("moved"))
        data.write_text("in the way")
        thread.append(key, make_frames(2, first=2))
        wait_for(lambda: thread.state.retrying_since is not None and time.time() - thread.state.retrying_since > 1)
        data.unlink()
        data.with_name("moved").rename(data)
        wait_for(lambda: thread.state.stored_frames == 3)
        left = thread.close(10)
        assert (left.given_up, left.refused_frames, left.failed_jobs) == (0, 0, 0)


def fill(path: Path) -> None:
    """Leave no room on the file system of `path`."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017


def test_on_a_full_disk_frames_wait_and_all_arrive_once_there_is_room(server_on_small_disk, key, make_frames):
    big = (512, 512)
    full = server_on_small_disk.data_dir.parent / "full"
    other = type(key)(f"{key.id}-made-while-full")
    with server_on_small_disk.catalog() as catalog:
        thread = StoreThread(catalog)
        thread.create(key, {})
        thread.append(key, make_frames(2, shape=big))
        wait_for(lambda: thread.state.stored_frames == 2)
        fill(full)
        thread.append(key, make_frames(2, first=3, shape=big) + make_frames(1, role="flat", shape=big))
        thread.create(other, {})
        thread.append(other, make_frames(2, shape=big))
        wait_for(lambda: thread.state.retrying_since is not None)
        assert "No space left on device" in thread.state.last_error
        assert catalog.reader(key).counts()["projection"] == 2
        full.unlink()
        wait_for(lambda: thread.state.stored_frames == 7, 40)
        assert thread.close(10).refused_frames == 0
        for one, numbers in ((key, [1, 2, 3, 4]), (other, [1, 2])):
            batches = catalog.reader(one).batches("projection")
            assert [int(image[0, 0]) for batch in batches for image in batch.images] == numbers


def test_a_full_queue_holds_up_the_sender_for_the_stated_time_and_then_refuses(own_server, key, make_frames):
    frame_bytes = make_frames(1)[0].image.nbytes
    with own_server.catalog() as catalog:
        own_server.stop()
        thread = StoreThread(catalog, queue_bytes=3 * frame_bytes, submit_timeout_s=0.3)
        for number in (1, 2, 3):
            thread.append(key, make_frames(1, first=number))
        began = time.monotonic()
        with pytest.raises(StoreError, match=r"1 frames refused.*full.*last error: the Tiled server"):
            thread.append(key, make_frames(1, first=4))
        assert 0.25 < time.monotonic() - began < 2
        assert thread.state.refused_frames == 1
        began = time.monotonic()
        left = thread.close(0.5)
        assert time.monotonic() - began < 4
        assert left.waiting_frames == 3
        with pytest.raises(StoreError, match="closed"):
            thread.append(key, make_frames(1, first=5))

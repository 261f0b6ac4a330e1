"""What every array of frames holds to, written and read by itself, and what other readers see of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiled.client import from_uri

from pfitre_service.errors import StoreError
from pfitre_service.store import layout
from pfitre_service.store.frame_array import FrameArray, LocalFrames, RemoteFrames, create_frames, open_frames
from pfitre_service.store.tiled_http import nodes

WAYS: dict[str, tuple[type, Callable[[Any], Path | None]]] = {
    "over HTTP": (RemoteFrames, lambda server: None),
    "beside the folder": (LocalFrames, lambda server: server.data_dir),
}
"""A new way has a line here: its class, and the folder that it is told of the server."""

SHAPE = (6, 10)


@pytest.fixture(params=WAYS)
def way(request) -> tuple[type, Callable[[Any], Path | None]]:
    return WAYS[request.param]


@pytest.fixture
def data_dir(way, server) -> Path | None:
    return way[1](server)


@pytest.fixture
def array(way, server, wire, key, data_dir) -> FrameArray:
    """A new one for uint16 frames, in a tomogram of its own."""
    with server.catalog() as catalog:
        catalog.create(key, {})
    made = create_frames(wire, key, "projection", np.zeros(SHAPE, np.uint16), data_dir)
    assert type(made) is way[0]
    return made


def images(*numbers: int) -> list[np.ndarray]:
    """Frames whose pixels differ from one another and from those of all other numbers."""
    return [np.arange(60, dtype=np.uint16).reshape(SHAPE) + 100 * number for number in numbers]


def test_frames_come_back_as_a_new_array_of_the_kind_that_is_stated(array):
    array.write(images(1, 2, 3), 0)
    assert (array.shape, array.dtype) == (SHAPE, np.dtype("uint16"))
    read, damaged = array.read(0, 3)
    np.testing.assert_array_equal(read, np.stack(images(1, 2, 3)))
    assert (read.dtype, damaged) == (np.dtype("uint16"), {})
    read[:] = 0
    np.testing.assert_array_equal(array.read(0, 3)[0], np.stack(images(1, 2, 3)))


@pytest.mark.parametrize(("first", "stop"), [(0, 1), (2, 5), (4, 5), (0, 5), (3, 3)])
def test_any_range_is_read_alone(array, first, stop):
    array.write(images(1, 2, 3, 4, 5), 0)
    read, damaged = array.read(first, stop)
    assert (read.shape, damaged) == ((stop - first, *SHAPE), {})
    for place, image in enumerate(images(*range(first + 1, stop + 1))):
        np.testing.assert_array_equal(read[place], image)


def test_what_is_written_again_takes_the_place_of_what_was_there(array, wire, key):
    array.write(images(1, 2, 3, 4, 5), 0)
    array.write(images(8, 9), 2)
    np.testing.assert_array_equal(array.read(0, 4)[0], np.stack(images(1, 2, 8, 9)))
    assert nodes.get_node(wire, layout.node_path(key, "projections")).shape[0] in (4, 5)
    array.write(images(10), 4)
    np.testing.assert_array_equal(array.read(3, 5)[0], np.stack(images(9, 10)))
    assert nodes.get_node(wire, layout.node_path(key, "projections")).shape[0] == 5


def test_what_it_is_given_stays(array):
    given = images(1, 2)
    array.write(given, 0)
    for image, kept in zip(given, images(1, 2), strict=True):
        np.testing.assert_array_equal(image, kept)


def test_one_that_is_opened_later_goes_on_and_reads_what_is_there(way, array, wire, key, data_dir):
    array.write(images(1, 2), 0)
    later = open_frames(wire, key, "projection", data_dir)
    assert type(later) is way[0]
    assert (later.shape, later.dtype) == (array.shape, array.dtype)
    later.write(images(3), 2)
    for one in (array, later):
        np.testing.assert_array_equal(one.read(0, 3)[0], np.stack(images(1, 2, 3)))


@pytest.mark.parametrize("reader", WAYS)
def test_every_way_reads_what_every_way_wrote(array, wire, server, key, reader):
    array.write(images(1, 2, 3), 0)
    other = open_frames(wire, key, "projection", WAYS[reader][1](server))
    read, damaged = other.read(0, 3)
    np.testing.assert_array_equal(read, np.stack(images(1, 2, 3)))
    assert damaged == {}


def test_tiled_s_own_client_reads_the_same(array, server, key):
    array.write(images(1, 2, 3), 0)
    array.write(images(4, 5), 3)
    client = from_uri(server.url, api_key=server.api_key)
    seen = client["tomograms", key.id, "projections"]
    assert (seen.shape, seen.dims) == ((5, *SHAPE), layout.FRAME_DIMS)
    np.testing.assert_array_equal(seen.read(), np.stack(images(1, 2, 3, 4, 5)))
    client.context.close()


def test_a_frame_that_something_else_changed_is_named_and_zeros_and_the_others_are_whole(array, server, key):
    array.write(images(1, 2, 3), 0)
    folder = server.data_dir / "data" / layout.node_path(key, "projections")
    chunks = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "zarr.json")
    assert len(chunks) == 3
    spoiled = bytearray(chunks[1].read_bytes())
    spoiled[len(spoiled) // 3] ^= 4
    chunks[1].write_bytes(spoiled)
    read, damaged = array.read(0, 3)
    assert list(damaged) == [1]
    assert damaged[1]
    np.testing.assert_array_equal(read, np.stack([images(1)[0], np.zeros(SHAPE, np.uint16), images(3)[0]]))
    array.write(images(2, 3), 1)
    assert array.read(0, 3)[1] == {}


def test_one_that_was_never_made_cannot_be_opened(wire, key, data_dir):
    with pytest.raises(StoreError):
        open_frames(wire, key, "projection", data_dir)


def test_only_one_writer_makes_it(array, wire, key, data_dir):
    assert create_frames(wire, key, "projection", np.zeros(SHAPE, np.uint16), data_dir) is None

"""Arrays read by ranges and cuts, and connections that only read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pfitre_service.errors import InputError, StoreError, StoreForbiddenError
from pfitre_service.export.load_tomogram import find_tomogram, load_tomogram
from pfitre_service.model import TomogramKey
from pfitre_service.store.catalog import Catalog
from pfitre_service.store.tiled_http import nodes


@pytest.fixture
def stored(catalog, key):
    """(key, volume) of a published tomogram of seven slices."""
    volume = np.random.default_rng(7).random((7, 6, 5), np.float32)
    catalog.create(key, {"sample": f"sample of {key}", "scan_id": 1000 + len(catalog.keys())})
    catalog.result_writer(key).publish(volume, 3, physics=volume + 1)
    return key, volume


def test_ranges_and_cuts_are_parts_of_the_volume(catalog, stored):
    key, volume = stored
    array = replace(catalog.reader(key).result("volume"), answer_bytes=4 * 2 * 6 * 5)  # two slices an answer
    assert (array.shape, array.revision) == ((7, 6, 5), 3)
    np.testing.assert_array_equal(array.read(0, 7), volume)
    np.testing.assert_array_equal(array.read(2, 5), volume[2:5])
    for axis in range(3):
        np.testing.assert_array_equal(array.cut(axis, 4), volume.take(4, axis))
    assert catalog.reader(key).result("expected_error") is None
    with pytest.raises(StoreError):
        array.read(6, 8)


def test_a_reading_connection_makes_nothing_even_with_the_key(own_server):
    with own_server.catalog() as catalog:
        catalog.create(TomogramKey("made"), {})
    with Catalog.connect_to_read(own_server.url, own_server.api_key, timeout_s=5) as catalog:
        assert [key.id for key in catalog.entries()] == ["made"]
    nothing = type(own_server)(own_server.data_dir.with_name("empty")).start()
    try:
        with pytest.raises(StoreError), Catalog.connect_to_read(nothing.url, nothing.api_key, timeout_s=5):
            pass
    finally:
        nothing.stop()


def test_a_wrong_key_is_told_apart_from_what_is_missing(server):
    with pytest.raises(StoreForbiddenError):
        Catalog.connect_to_read(server.url, "0123456789abcdef", timeout_s=5)


def test_people_name_a_tomogram_by_uid_beginning_scan_sample_or_newest(catalog, stored):
    key, _ = stored
    scan = catalog.reader(key).metadata()["scan_id"]
    for wanted in (key.id, f"sample of {key}", str(scan), "newest"):
        assert find_tomogram(catalog, wanted) == key
    catalog.create(TomogramKey(f"{key.id}-b"), {})
    with pytest.raises(InputError, match=r"tomograms are called 'scan-'; give one's uid"):
        find_tomogram(catalog, "scan-")
    with pytest.raises(InputError, match=f"no tomogram .*the nearest of .*{key.id}-b"):
        find_tomogram(catalog, f"{key.id}-c")


def test_what_has_no_volume_says_what_it_is(catalog, key, stored):
    empty = TomogramKey(f"{key.id}-empty")
    catalog.create(empty, {})
    with pytest.raises(InputError, match="has no volume to export: it is receiving"):
        load_tomogram(catalog, empty)
    with pytest.raises(InputError, match="has no expected_error to export"):
        load_tomogram(catalog, key, "expected_error")
    physics = load_tomogram(catalog, key, "physics")
    assert list(physics.arrays) == ["physics"]
    assert list(load_tomogram(catalog, key).arrays) == ["volume", "physics"]


def test_an_answer_of_another_size_is_refused(wire, stored):
    key, _ = stored
    path = f"tomograms/{key}/volume"
    with pytest.raises(StoreError, match="should have 4 bytes"):
        nodes.read_cut_of_array(wire, path, 0, 1, (1, 1), np.dtype(np.float32))

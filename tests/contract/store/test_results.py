from __future__ import annotations

import numpy as np
import pytest
import zarr
from tiled.client import from_uri
from zarr.codecs import Crc32cCodec

from pfitre_service.errors import StoreError
from pfitre_service.model import Progress
from pfitre_service.store import layout
from pfitre_service.store.result_writer import slab_depth
from pfitre_service.store.tiled_http import nodes

NAN = float("nan")


def volume_of(value, shape=(5, 6, 6)):
    return np.full(shape, value, np.float32)


def progress_row(revision, **other):
    values = {
        "revision": revision,
        "phase": "iterating",
        "time": 1000.0 + revision,
        "angles_stored": 10,
        "angles_used": 9,
        "iterations": revision,
        "residual": 0.1,
        "heldout_error": NAN,
        "heldout_error_physics": NAN,
        "change": 0.01,
        "prior_gap": 0.2,
        "seconds": 1.5,
    }
    return Progress(**{**values, **other})


def test_a_published_volume_comes_back_with_its_revision(catalog, key):
    catalog.create(key, {})
    reader = catalog.reader(key)
    assert reader.volume() is None
    assert reader.revision() is None
    rng = np.random.default_rng(1)
    volume, physics, expected_error = rng.normal(size=(3, 5, 6, 6)).astype(np.float32)
    catalog.result_writer(key).publish(volume, 7, physics=physics, expected_error=expected_error)
    np.testing.assert_array_equal(reader.volume(), volume)
    np.testing.assert_array_equal(reader.physics(), physics)
    np.testing.assert_array_equal(reader.expected_error(), expected_error)
    assert reader.revision() == 7


def test_a_volume_in_this_machines_folder_is_left_uncompressed_for_quick_slices(server, key):
    shape = (70, 256, 256)  # two slabs and a half
    volume = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    with server.catalog() as beside:
        beside.create(key, {})
        for revision, values in enumerate((volume, volume + 1), 1):
            beside.result_writer(key).publish(values, revision)
        array = beside.reader(key).result("volume")
        np.testing.assert_array_equal(array.cut(1, 100), volume[:, 100] + 1)
        np.testing.assert_array_equal(array.read(30, 70), volume[30:] + 1)
    stored = zarr.open_array(server.data_dir / "data" / layout.node_path(key, "volume"), mode="r")
    assert stored.compressors == (Crc32cCodec(),)
    np.testing.assert_array_equal(stored[: len(volume)], volume + 1)


def test_a_later_writer_reuses_the_arrays(catalog, key):
    catalog.create(key, {})
    catalog.result_writer(key).publish(volume_of(1), 1)
    catalog.result_writer(key).publish(volume_of(2), 2)
    assert catalog.reader(key).volume().max() == catalog.reader(key).volume().min() == 2
    assert catalog.reader(key).revision() == 2


def test_a_volume_of_another_shape_is_refused_naming_both(catalog, key):
    catalog.create(key, {})
    catalog.result_writer(key).publish(volume_of(1), 1)
    with pytest.raises(StoreError, match=r"\(5, 6, 6\).*\(5, 8, 8\)"):
        catalog.result_writer(key).publish(volume_of(1, (5, 8, 8)), 2)
    assert catalog.reader(key).revision() == 1


def test_a_volume_that_is_not_float32_or_does_not_match_is_refused_before_anything_is_written(catalog, key):
    catalog.create(key, {})
    writer = catalog.result_writer(key)
    with pytest.raises(StoreError, match="float64"):
        writer.publish(volume_of(1).astype(np.float64), 1)
    with pytest.raises(StoreError, match="expected_error must be"):
        writer.publish(volume_of(1), 1, expected_error=volume_of(1, (4, 6, 6)))
    assert catalog.reader(key).volume() is None


def test_only_slabs_that_changed_are_written_and_the_last_one_may_be_thinner(catalog, wire, key, monkeypatch):
    shape, written, write = (7, 1024, 600), [], nodes.write_block
    assert slab_depth(shape) == 3
    monkeypatch.setattr(nodes, "write_block", lambda *args: [written.append(args[-1][0]), write(*args)])
    catalog.create(key, {})
    writer, volume = catalog.result_writer(key), volume_of(1, shape)
    writer.publish(volume, 1)
    volume[6] = 2
    writer.publish(volume, 2, physics=volume)
    np.testing.assert_array_equal(catalog.reader(key).volume()[:, 0, 0], [1, 1, 1, 1, 1, 1, 2])
    assert written == [0, 1, 2, 0, 1, 2, 2]
    writer.publish(volume, 3)
    assert len(written) == 7
    node = nodes.get_node(wire, layout.node_path(key, "volume"))
    assert (node.metadata["revision"], node.metadata["changed"]) == (3, 2)


def test_the_volume_of_an_interrupted_first_publication_does_not_count(catalog, wire, key):
    catalog.create(key, {})
    chunks = ((5,), (6,), (6,))
    nodes.create_array(
        wire,
        layout.container_path(key),
        "volume",
        shape=(5, 6, 6),
        chunks=chunks,
        dims=layout.VOLUME_DIMS,
        dtype=np.float32,
    )
    assert catalog.reader(key).volume() is None
    catalog.result_writer(key).publish(volume_of(3), 1)
    assert catalog.reader(key).volume().max() == 3


def test_progress_comes_back_in_order_with_nan_where_nothing_was_measured(catalog, key):
    catalog.create(key, {})
    assert catalog.reader(key).progress() == []
    writer = catalog.result_writer(key)
    writer.progress([progress_row(1, phase="preview"), progress_row(2)])
    writer.progress([progress_row(3, phase="final", heldout_error=0.25)])
    rows = catalog.reader(key).progress()
    assert [(row.revision, row.phase) for row in rows] == [(1, "preview"), (2, "iterating"), (3, "final")]
    assert np.isnan(rows[0].heldout_error)
    assert rows[2].heldout_error == 0.25
    assert isinstance(rows[0].angles_used, int)


def test_a_row_of_progress_sent_again_after_a_restart_is_stored_once(catalog, key):
    catalog.create(key, {})
    catalog.result_writer(key).progress([progress_row(1)])
    catalog.result_writer(key).progress([progress_row(1), progress_row(2)])
    assert [row.revision for row in catalog.reader(key).progress()] == [1, 2]


def test_status_changes_its_fields_and_leaves_the_others(catalog, key):
    catalog.create(key, {"sample": "cu23"})
    writer = catalog.result_writer(key)
    writer.status("iterating", None, prior="tv", heldout_error=NAN)
    metadata = catalog.reader(key).metadata()
    assert (metadata["status"], metadata["sample"], metadata["prior"]) == ("iterating", "cu23", "tv")
    assert metadata.get("heldout_error") is None
    writer.status("failed", "out of memory")
    assert catalog.reader(key).metadata()["reason"] == "out of memory"


def test_a_plain_tiled_client_without_a_key_reads_while_the_tomogram_grows(catalog, server, key, make_frames):
    catalog.create(key, {"sample": "cu23"})
    frames, results = catalog.acquisition_writer(key), catalog.result_writer(key)
    client = from_uri(server.url)
    plain = client["tomograms"][key.id]
    assert plain.metadata["sample"] == "cu23"
    for number in (1, 2, 3):
        frames.append(make_frames(2, first=2 * number - 1))
        results.publish(volume_of(number), number)
        results.progress([progress_row(number)])
        assert plain["projections"].shape == (2 * number, 6, 10)
        assert plain["projections"].read()[-1, 0, 0] == 2 * number
        assert list(plain["frames"].read()["seq_num"]) == list(range(1, 2 * number + 1))
        assert plain["volume"].read().min() == number
        assert plain["volume"].metadata["revision"] == number
        assert len(plain["progress"].read()) == number
    assert plain["volume"].dims == ("z", "y", "x")
    client.context.close()

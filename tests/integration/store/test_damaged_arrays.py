"""Stored arrays that something else than this service has damaged: never zeros, never values that were not written."""

from __future__ import annotations

import json
import logging
import os

import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec

from pfitre_service.client import connect
from pfitre_service.errors import InputError, StoreDamagedError
from pfitre_service.preprocess import PreprocessParameters
from pfitre_service.service.worker.session import stored_references
from pfitre_service.store import layout
from pfitre_service.store.frame_array import LocalFrames, open_frames
from pfitre_service.store.tiled_http import nodes

VOLUME = np.random.default_rng(4).normal(size=(70, 256, 256)).astype(np.float32)
"""Two slabs and a part of one."""
DAMAGE = ("deleted", "emptied", "shortened", "flipped")


def damage(path, how):
    if how == "deleted":
        path.unlink()
    elif how == "emptied":
        os.truncate(path, 0)
    elif how == "shortened":
        os.truncate(path, path.stat().st_size // 2)
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 4
        path.write_bytes(content)


def folder_of(server, key, name="projections"):
    return server.data_dir / "data" / layout.node_path(key, name)


def chunk_files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "zarr.json")


def intact(reader, role="projection"):
    """Numbers of the frames that are given, and the rows that are not."""
    given, damaged = [], {}
    for batch in reader.batches(role):
        damaged |= batch.damaged
        for row, image in enumerate(batch.images, batch.first):
            if row in batch.damaged:
                assert not image.any()
            else:
                assert (image == image[0, 0]).all()
                given.append(int(image[0, 0]))
    return given, damaged


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_frame_alone_is_left_out_and_named(how, catalog, server, key, make_frames, caplog):
    catalog.create(key, {})
    frames = make_frames(5)
    catalog.acquisition_writer(key).append(frames)
    damage(chunk_files(folder_of(server, key))[2], how)
    caplog.set_level(logging.WARNING)
    reader = catalog.reader(key)
    for _ in range(2):
        given, damaged = intact(reader)
        assert given == [1, 2, 4, 5]
        assert list(damaged) == [2]
    assert damaged[2].startswith(f"run {frames[2].run_uid[:8]}, seq_num {frames[2].seq_num}: ")
    assert str(folder_of(server, key)) in damaged[2]
    assert caplog.text.count("projection 2 is damaged and left out") == 1


def test_frames_of_zeros_are_no_damage(catalog, server, key, make_frames):
    from dataclasses import replace

    catalog.create(key, {})
    dark = [replace(frame, image=np.zeros_like(frame.image)) for frame in make_frames(3)]
    catalog.acquisition_writer(key).append(dark)
    assert len(chunk_files(folder_of(server, key))) == 3
    assert intact(catalog.reader(key)) == ([0, 0, 0], {})


def test_plain_zarr_reads_the_frames_and_refuses_a_damaged_one(catalog, server, key, make_frames):
    catalog.create(key, {})
    catalog.acquisition_writer(key).append(make_frames(3))
    array = zarr.open_array(folder_of(server, key), mode="r")
    assert array.compressors[-1] == Crc32cCodec()
    assert [int(frame[0, 0]) for frame in array] == [1, 2, 3]
    damage(chunk_files(folder_of(server, key))[1], "flipped")
    with pytest.raises(ValueError, match="checksum"):
        array[1]


def test_the_client_leaves_damaged_projections_out_with_a_warning(catalog, server, key, make_frames):
    catalog.create(key, {})
    catalog.acquisition_writer(key).append(make_frames(4))
    damage(chunk_files(folder_of(server, key))[1], "flipped")
    told = r"damaged in the store and left out: projection 1, run .*, seq_num 2"
    with connect(server.url, server.api_key) as client, pytest.warns(UserWarning, match=told):
        projections = client.open_projections(key.id)
    assert projections[:, 0, 0].values.tolist() == [1, 3, 4]
    assert "projection 1" in projections.attrs["damaged"]


@pytest.mark.parametrize("how", DAMAGE)
def test_the_layout_is_mended_by_the_writer_that_has_it_open(how, server, key, make_frames):
    with server.catalog() as beside:
        beside.create(key, {})
        writer = beside.acquisition_writer(key)
        writer.append(make_frames(3))
        before = (folder_of(server, key) / "zarr.json").read_text()
        damage(folder_of(server, key) / "zarr.json", how)
        writer.append(make_frames(2, first=4))
        assert json.loads((folder_of(server, key) / "zarr.json").read_text()) == json.loads(before) | {
            "shape": [5, 6, 10]
        }
        assert intact(beside.reader(key)) == ([1, 2, 3, 4, 5], {})


@pytest.mark.parametrize("how", ["deleted", "emptied", "shortened"])
def test_without_its_layout_no_frame_is_given(how, catalog, server, key, make_frames):
    catalog.create(key, {})
    catalog.acquisition_writer(key).append(make_frames(3))
    damage(folder_of(server, key) / "zarr.json", how)
    try:
        given, damaged = intact(catalog.reader(key))
    except StoreDamagedError as error:  # where the reader finds it itself
        given, damaged = [], dict.fromkeys(range(3), str(error))
    assert given == []
    assert len(damaged) == 3
    assert all("zarr.json" in reason for reason in damaged.values())


def old_form(folder, shape):
    """As arrays were laid out before there were checksums: three frames a chunk, values alone."""
    (folder / "zarr.json").unlink()
    zarr.create_array(
        folder,
        shape=(0, *shape),
        chunks=(3, *shape),
        dtype="uint16",
        compressors=None,
        chunk_key_encoding={"name": "default", "separator": "."},
    )


@pytest.fixture
def made_before(server, wire, key, make_frames):
    """Catalogue, and the chunk files of a tomogram that an earlier version made: five frames in two files."""
    with server.catalog() as beside:
        beside.create(key, {})
        writer = beside.acquisition_writer(key)
        writer.append(make_frames(1))
        old_form(folder_of(server, key), (6, 10))
        for path in chunk_files(folder_of(server, key)):
            path.unlink()
        array = open_frames(wire, key, "projection", server.data_dir)
        assert isinstance(array, LocalFrames)
        array.write([frame.image for frame in make_frames(1)], 0)
        assert beside.acquisition_writer(key).append(make_frames(5)).stored == 4
        yield beside, chunk_files(folder_of(server, key))


def test_frames_without_checksums_are_read_and_continued_as_before(made_before, server, wire, key, make_frames):
    catalog, files = made_before
    assert [path.stat().st_size for path in files] == [3 * 120, 3 * 120]
    assert not zarr.open_array(folder_of(server, key), mode="r").compressors
    assert nodes.get_node(wire, layout.node_path(key, "projections")).chunks[0] == (3, 2)
    catalog.acquisition_writer(key).append(make_frames(1, first=6))
    with server.catalog(beside=False) as remote:
        for one in (catalog, remote):
            assert intact(one.reader(key)) == ([1, 2, 3, 4, 5, 6], {})


@pytest.mark.parametrize(("left", "lost"), [(None, [0, 1, 2]), (0, [0, 1, 2]), (240, [2]), (130, [1, 2])])
def test_of_frames_without_checksums_what_is_missing_is_named(made_before, key, left, lost):
    catalog, files = made_before
    if left is None:
        files[0].unlink()
    else:
        os.truncate(files[0], left)
    given, damaged = intact(catalog.reader(key))
    assert sorted(damaged) == lost
    assert given == [row + 1 for row in range(5) if row not in lost]


@pytest.mark.parametrize("role", ["flat", "dark"])
def test_damaged_references_are_left_out_and_named_until_none_is_left(role, catalog, server, key, make_frames):
    catalog.create(key, {})
    catalog.acquisition_writer(key).append(make_frames(3, role=role))
    files = chunk_files(folder_of(server, key, layout.ARRAY_OF_ROLE[role]))
    damage(files[0], "flipped")
    references, notes = stored_references(catalog.reader(key), PreprocessParameters())
    field = references.flat if role == "flat" else references.dark
    assert (field == 2.5).all()
    assert [note.partition(":")[0] for note in notes] == [f"{role} 0 was left out"]
    for path in files[1:]:
        damage(path, "deleted")
    with pytest.raises(InputError, match=f"all 3 {role}s are damaged in the store, the first: run "):
        stored_references(catalog.reader(key), PreprocessParameters())


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("slab", [0, -1])
def test_a_damaged_part_of_a_result_is_an_error_by_every_read_and_written_over_by_the_next_revision(
    how, slab, catalog, server, key
):
    catalog.create(key, {})
    catalog.result_writer(key).publish(VOLUME, 1)
    path = chunk_files(folder_of(server, key, "volume"))[slab]
    damage(path, how)
    array, words = catalog.reader(key).result("volume"), str(path.relative_to(folder_of(server, key, "volume")))
    with pytest.raises(StoreDamagedError, match=f"{words} .*reconstruct the scan again"):
        array.read(0, len(VOLUME))
    with pytest.raises(StoreDamagedError, match=words):
        array.cut(1, 100)
    with connect(server.url, server.api_key) as client, pytest.raises(StoreDamagedError, match=words):
        client.open_volume(key.id, lazy=True).compute()
    np.testing.assert_array_equal(array.read(32, 64), VOLUME[32:64])
    catalog.result_writer(key).publish(VOLUME, 2)
    np.testing.assert_array_equal(catalog.reader(key).volume(), VOLUME)


def test_slabs_of_zeros_are_written_and_read(catalog, server, key):
    catalog.create(key, {})
    catalog.result_writer(key).publish(np.zeros_like(VOLUME), 1)
    assert len(chunk_files(folder_of(server, key, "volume"))) == 3
    assert not catalog.reader(key).volume().any()


def test_a_result_without_checksums_is_read_with_its_slabs_of_zeros_left_out(server, key):
    folder = folder_of(server, key, "volume")
    with server.catalog() as catalog:
        catalog.create(key, {})
        catalog.result_writer(key).prepare(VOLUME.shape)
        known = json.loads((folder / "zarr.json").read_text())
        (folder / "zarr.json").write_text(json.dumps(known | {"codecs": known["codecs"][:1]}))
        expected = VOLUME.copy()
        expected[32:64] = 0
        catalog.result_writer(key).publish(expected, 1)
        assert len(chunk_files(folder)) == 2
        np.testing.assert_array_equal(catalog.reader(key).volume(), expected)
        damage(chunk_files(folder)[0], "shortened")
        with pytest.raises(StoreDamagedError, match="volume is damaged"):
            catalog.reader(key).volume()


@pytest.mark.parametrize("how", ["deleted", "emptied", "shortened"])
def test_without_its_layout_a_result_is_an_error_and_no_group_is_made_in_its_place(how, catalog, server, key):
    catalog.create(key, {})
    catalog.result_writer(key).publish(VOLUME, 1)
    path = folder_of(server, key, "volume") / "zarr.json"
    damage(path, how)
    left = path.read_bytes() if path.exists() else None
    with pytest.raises(StoreDamagedError, match=r"zarr\.json"):
        catalog.reader(key).volume()
    with pytest.raises(StoreDamagedError, match=r"zarr\.json"):
        catalog.result_writer(key).publish(VOLUME, 2)
    assert (path.read_bytes() if path.exists() else None) == left

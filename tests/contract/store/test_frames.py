from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pfitre_service.errors import StoreMissingError
from pfitre_service.model import ScanGeometry
from pfitre_service.store import layout
from pfitre_service.store.acquisition_writer import FramesRefusedError
from pfitre_service.store.tiled_http import nodes


def stored_numbers(reader, role="projection", **limits):
    """The first pixel of every stored frame, which is its number."""
    return [int(image[0, 0]) for batch in reader.batches(role, **limits) for image in batch.images]


def test_frames_come_back_as_they_were_with_their_angles(catalog, key, make_frames):
    catalog.create(key, {"sample": "cu23"})
    frames = make_frames(5)
    done = catalog.acquisition_writer(key).append(frames)
    assert (done.stored, done.duplicates) == (5, 0)
    (batch,) = catalog.reader(key).batches("projection")
    assert batch.first == 0
    assert batch.images.dtype == np.uint16
    np.testing.assert_array_equal(batch.images, np.stack([frame.image for frame in frames]))
    np.testing.assert_array_equal(batch.angles, [1, 2, 3, 4, 5])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", ">u2", "int32", "float32", ">f4", "float64", "uint64"])
def test_every_real_dtype_keeps_its_values(catalog, key, make_frames, dtype):
    catalog.create(key, {})
    frames = make_frames(2, dtype=dtype)
    catalog.acquisition_writer(key).append(frames)
    (batch,) = catalog.reader(key).batches("projection")
    assert batch.images.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(batch.images, np.stack([frame.image for frame in frames]))


def test_roles_go_to_arrays_of_their_own(catalog, key, make_frames):
    catalog.create(key, {})
    mixed = make_frames(2, role="dark") + make_frames(3) + make_frames(1, role="flat")
    catalog.acquisition_writer(key).append(mixed)
    reader = catalog.reader(key)
    assert reader.counts() == {"projection": 3, "flat": 1, "dark": 2}
    (flats,) = reader.batches("flat")
    assert np.isnan(flats.angles).all()


def test_a_frame_that_is_stored_already_is_skipped_and_counted(catalog, key, make_frames):
    catalog.create(key, {})
    writer = catalog.acquisition_writer(key)
    writer.append(make_frames(3))
    done = writer.append(make_frames(4) + make_frames(1, first=4))
    assert (done.stored, done.duplicates) == (1, 4)
    assert stored_numbers(catalog.reader(key)) == [1, 2, 3, 4]
    assert ("run-1", "projection", 4, 0, "") in catalog.reader(key).frame_ids()


def test_frames_of_one_event_are_frames_of_their_own(catalog, key, make_frames):
    catalog.create(key, {})
    writer = catalog.acquisition_writer(key)
    event = [replace(frame, seq_num=1, part=part) for part, frame in enumerate(make_frames(3))]
    assert writer.append(event).stored == 3
    assert writer.append(event).duplicates == 3


def test_another_take_of_an_event_is_another_frame_and_the_first_counts_no_more(catalog, key, make_frames):
    catalog.create(key, {})
    writer = catalog.acquisition_writer(key)
    first, *others = (replace(frame, event_uid=f"take-1-{frame.seq_num}") for frame in make_frames(3))
    again = replace(first, event_uid="take-2-1")
    writer.append([first, *others])
    writer.retake("run-1", "projection", 1, "take-2-1")
    assert writer.append([again]).stored == 1
    writer.retake("run-1", "projection", 1, "take-2-1")
    reader = catalog.reader(key)
    assert (reader.withdrawn("projection"), reader.withdrawn("flat")) == ({0}, frozenset())
    assert catalog.summary(key).withdrawn == (0,)


def test_the_same_seq_num_of_another_run_is_another_frame(catalog, key, make_frames):
    catalog.create(key, {})
    writer = catalog.acquisition_writer(key)
    writer.append(make_frames(2))
    assert writer.append(make_frames(2, run_uid="run-2")).stored == 2
    assert catalog.reader(key).counts()["projection"] == 4


def test_a_frame_of_another_shape_is_refused_by_name_and_the_others_are_stored(catalog, key, make_frames):
    catalog.create(key, {})
    writer = catalog.acquisition_writer(key)
    odd = make_frames(1, first=3, shape=(7, 10))
    with pytest.raises(FramesRefusedError, match=r"run run-1, projection 3: .*6 x 10.*7 x 10") as refusal:
        writer.append(make_frames(2) + odd + make_frames(1, first=4))
    assert [frame.seq_num for frame in refusal.value.frames] == [3]
    assert stored_numbers(catalog.reader(key)) == [1, 2, 4]


def test_a_frame_of_another_dtype_of_the_same_size_is_refused_not_reinterpreted(catalog, key, make_frames):
    catalog.create(key, {})
    catalog.acquisition_writer(key).append(make_frames(1, dtype="uint16"))
    with pytest.raises(FramesRefusedError, match=r"uint16.*int16"):
        catalog.acquisition_writer(key).append(make_frames(1, first=2, dtype="int16"))


def test_a_complex_or_three_dimensional_frame_is_refused(catalog, key, make_frames):
    catalog.create(key, {})
    with pytest.raises(FramesRefusedError, match="two-dimensional and real"):
        catalog.acquisition_writer(key).append(make_frames(1, dtype="complex64"))
    with pytest.raises(FramesRefusedError, match="two-dimensional and real"):
        catalog.acquisition_writer(key).append(make_frames(1, shape=(1, 6, 10)))


def test_after_a_crash_between_frames_and_rows_the_frames_without_rows_are_overwritten(catalog, wire, key, make_frames):
    catalog.create(key, {})
    catalog.acquisition_writer(key).append(make_frames(3))
    orphans = np.full((2, 6, 10), 99, np.uint16)
    nodes.write_rows_of_array(wire, layout.node_path(key, "projections"), orphans, 3)
    reader = catalog.reader(key)
    assert reader.counts()["projection"] == 3
    assert stored_numbers(reader) == [1, 2, 3]
    catalog.acquisition_writer(key).append(make_frames(3, first=4))
    assert stored_numbers(reader) == [1, 2, 3, 4, 5, 6]


def test_a_new_writer_goes_on_where_the_last_one_stopped(catalog, key, make_frames):
    catalog.create(key, {})
    catalog.acquisition_writer(key).append(make_frames(3))
    assert catalog.create(key, {"sample": "ignored"}) is False
    assert catalog.acquisition_writer(key).append(make_frames(5)).stored == 2
    assert stored_numbers(catalog.reader(key)) == [1, 2, 3, 4, 5]


def test_two_tomograms_interleaved_keep_apart(catalog, key, make_frames):
    other = type(key)(f"{key.id}-other")
    for one in (key, other):
        catalog.create(one, {})
    writers = {one: catalog.acquisition_writer(one) for one in (key, other)}
    for number in range(1, 5):
        writers[key].append(make_frames(1, first=number))
        writers[other].append(make_frames(1, first=100 + number))
    assert stored_numbers(catalog.reader(key)) == [1, 2, 3, 4]
    assert stored_numbers(catalog.reader(other)) == [101, 102, 103, 104]


def test_batches_split_and_start_where_asked(catalog, key, make_frames):
    catalog.create(key, {})
    catalog.acquisition_writer(key).append(make_frames(7))
    batches = list(catalog.reader(key).batches("projection", 2, max_frames=2))
    assert [(batch.first, len(batch.images)) for batch in batches] == [(2, 2), (4, 2), (6, 1)]
    np.testing.assert_array_equal(np.concatenate([batch.angles for batch in batches]), [3, 4, 5, 6, 7])
    frame_bytes = 6 * 10 * 2
    assert [len(b.images) for b in catalog.reader(key).batches("projection", max_bytes=3 * frame_bytes)] == [3, 3, 1]
    assert list(catalog.reader(key).batches("projection", 7)) == []
    assert list(catalog.reader(key).batches("flat")) == []


def test_geometry_comes_from_the_metadata_and_the_first_frame(catalog, key, make_frames):
    catalog.create(key, {"geometry": {"axis": 4.0, "pixel_size_nm": 20.0}, "measurement": "line_integral"})
    reader = catalog.reader(key)
    assert reader.acquisition().geometry is None
    catalog.acquisition_writer(key).append(make_frames(1))
    acquisition = reader.acquisition()
    assert acquisition.geometry == ScanGeometry(rows=6, columns=10, axis=4.0, size=10, pixel_size_nm=20.0)
    assert acquisition.measurement == "line_integral"


def test_the_end_of_an_acquisition_says_how_and_why(catalog, key, make_frames):
    catalog.create(key, {}, expected_frames=3, documents={"start": {"uid": "run-1", "shape": np.array([6, 10])}})
    writer = catalog.acquisition_writer(key)
    writer.append(make_frames(2))
    before = catalog.reader(key).acquisition()
    assert (before.state, before.ended, before.expected_frames) == ("receiving", False, 3)
    assert before.documents == {"start": {"uid": "run-1", "shape": [6, 10]}}
    writer.close("aborted", "beam lost", {"late": 1})
    after = catalog.reader(key).acquisition()
    assert (after.state, after.reason, after.ended, after.received) == ("aborted", "beam lost", True, {"late": 1})


def test_frames_of_a_tomogram_that_was_never_made_are_refused(catalog, key, make_frames):
    with pytest.raises(StoreMissingError, match="404"):
        catalog.acquisition_writer(key).append(make_frames(1))


def test_metadata_that_has_no_json_form_is_refused_with_its_place(catalog, key):
    with pytest.raises(TypeError, match=r"metadata\.sample\.made"):
        catalog.create(key, {"sample": {"made": object()}})

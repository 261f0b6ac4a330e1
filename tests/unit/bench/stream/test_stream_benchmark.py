"""The parts of the stream benchmark; the whole of it runs in tests/system/test_bench_stream.py."""

from __future__ import annotations

import event_model
import h5py
import numpy as np
import pytest

from pfitre_service.bench.stream.benchmark import StreamParameters, bare_write, count_wrong, lag_seconds
from pfitre_service.bench.stream.detectors import FileDetector, InlineDetector, stamp
from pfitre_service.bench.stream.paced_run import publish_run
from pfitre_service.errors import ServiceError

SHAPE = (4, 6)


def published(detector, frames):
    """Documents of one run, as its publisher sends them, and what it says of them."""
    documents, started = [], []

    def publish(name, document):
        event_model.schema_validators[event_model.DocumentNames[name]].validate(document)
        image = document["data"].get("image") if name == "event" else None
        documents.append((name, document if image is None else {**document, "image": image.copy()}))

    sent = publish_run(publish, detector, frames, 1e6, started.append)
    assert started == [sent.run_uid]
    return documents, sent


def test_inline_frames_stand_in_valid_events_with_their_number_and_time():
    documents, sent = published(InlineDetector(SHAPE), 20)
    events = [document for name, document in documents if name == "event"]
    assert [tuple(event["image"][0, :2]) for event in events] == [stamp(number) for number in range(20)]
    assert [event["time"] for event in events] == list(sent.times)
    assert [name for name, _ in documents[:2]] == ["start", "descriptor"]
    assert documents[-1][0] == "stop"
    angles = [event["data"]["theta"] for event in events]
    assert (angles[0], angles[-1]) == (-70.0, 70.0)


def test_frames_in_a_file_are_there_when_their_datum_announces_them(tmp_path):
    detector, seen = FileDetector(SHAPE, tmp_path), []

    class Publish(list):
        def __call__(self, name, document):
            self.append(name)
            if name == "stream_datum":
                first, stop = document["indices"]["start"], document["indices"]["stop"]
                with h5py.File(tmp_path / "frames.h5", "r", libver="latest", swmr=True) as file:
                    seen.append((first, tuple(file["/entry/data/data"][first:stop][0, 0, :2])))

    publish = Publish()
    publish_run(publish, detector, 5, 1e6)
    detector.close()
    assert seen == [(number, stamp(number)) for number in range(5)]
    assert publish == ["start", "descriptor", "stream_resource", *["stream_datum", "event"] * 5, "stop"]


def test_documents_of_frames_in_a_file_are_valid_and_name_it(tmp_path):
    detector = FileDetector(SHAPE, tmp_path)
    documents, _ = published(detector, 3)
    detector.close()
    (resource,) = [document for name, document in documents if name == "stream_resource"]
    assert resource["uri"] == f"file://localhost{tmp_path}/frames.h5"
    assert all("image" not in document["data"] for name, document in documents if name == "event")


def test_lag_is_counted_to_the_look_that_first_showed_a_frame():
    looks = np.array([(9.0, 0), (10.0, 1), (11.0, 1), (12.0, 4)])
    lag = lag_seconds(looks, np.array([9.5, 9.5, 10.0, 11.9]))
    assert lag["median"] == pytest.approx(1.25)
    assert (lag["max"], lag["at_end"]) == pytest.approx((2.5, 0.1))


def test_frames_that_were_never_stored_do_not_count_as_fast():
    looks = np.array([(9.0, 0), (10.0, 1)])
    assert lag_seconds(looks, np.array([9.5, 9.6, 9.7]))["max"] == pytest.approx(0.5)
    with pytest.raises(ServiceError, match="no frame was stored"):
        lag_seconds(looks[:1], np.array([9.5]))


def test_stored_frames_out_of_their_place_are_counted():
    class Stored:
        def first_pixels(self, run_uid, first, stop):
            numbers = np.arange(first, stop)
            numbers[numbers == 600] = 601
            return np.array([stamp(int(number)) for number in numbers], np.uint16).tobytes()

    assert count_wrong(Stored(), "run", 600) == 0
    assert count_wrong(Stored(), "run", 1000) == 1


def test_every_frame_has_a_stamp_of_its_own():
    stamps = {stamp(number) for number in (0, 1, 0xFFFF, 0x10000, 0x10001, 0x20000)}
    assert len(stamps) == 6


def test_a_bare_write_writes_the_frames_and_no_more_than_so_many_bytes(tmp_path):
    bare = bare_write(tmp_path / "few", SHAPE, 3)
    assert (tmp_path / "few").stat().st_size == 3 * 4 * 6 * 2
    assert bare["megabytes_per_second"] > 0
    bare_write(tmp_path / "many", SHAPE, 1000, most_bytes=5 * 4 * 6 * 2)
    assert (tmp_path / "many").stat().st_size == 5 * 4 * 6 * 2


def test_a_benchmark_has_one_frame_at_least():
    assert StreamParameters(rate=500.0, seconds=60.0).frames == 30_000
    assert StreamParameters(rate=0.1, seconds=0.1).frames == 1

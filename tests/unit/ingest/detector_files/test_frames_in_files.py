"""Documents that point to HDF5 files, through the assembler and the reader of files."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from pfitre_service.errors import InputError
from pfitre_service.ingest import (
    DocumentRules,
    FrameFiles,
    NotReadableYetError,
    ReadFrames,
    RetakeFrames,
    TomogramAssembler,
)
from pfitre_service.ingest.assembly.file_references import FileRows, FileSource

RULES = DocumentRules(angle_from="start")
START = {"uid": "run", "time": 1.0, "min_theta": -10.0, "max_theta": 10.0, "num_projections": 5}
KEYS = {"camera": {"dtype": "array", "shape": [1, 4, 6], "external": "STREAM:"}}


def documents(path):
    yield "start", START
    yield "descriptor", {"uid": "d", "run_start": "run", "name": "primary", "data_keys": KEYS}
    parameters = {"dataset": "/data", "chunk_shape": [1, 4, 6]}
    resource = {"uid": "r", "run_start": "run", "data_key": "camera", "mimetype": "application/x-hdf5"}
    yield "stream_resource", {**resource, "uri": f"file://localhost{path}", "parameters": parameters}
    for first, stop in ((0, 2), (2, 5)):
        numbers = {"start": first + 1, "stop": stop + 1}
        span = {"start": first, "stop": stop}
        yield "stream_datum", {"stream_resource": "r", "descriptor": "d", "indices": span, "seq_nums": numbers}


def reads(order):
    assembler = TomogramAssembler(RULES)
    actions = [action for name, document in order for action in assembler.handle(name, document)]
    return [action for action in actions if isinstance(action, ReadFrames)]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as handle:
        handle["data"] = np.arange(5)[:, None, None] * np.ones((1, 4, 6))
    return path


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [0, 3, 2, 1, 4], [1, 2, 4, 3, 0]])
def test_streamed_frames_get_their_file_and_angle_in_any_order(file, tmp_path, order):
    every = list(documents(file))
    found = {read.seq_num: read for read in reads([every[place] for place in order])}
    assert sorted(found) == [1, 2, 3, 4, 5]
    files = FrameFiles([str(tmp_path)])
    for number, read in found.items():
        assert read.angles == pytest.approx((-10.0 + 5.0 * (number - 1),))
        np.testing.assert_array_equal(files.images(read.images), np.full((1, 4, 6), number - 1))


def test_a_file_outside_the_roots_is_refused_through_links_and_dots_too(file, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link.h5").symlink_to(file)
    files = FrameFiles([str(inside)])
    for path in (str(file), str(inside / ".." / "scan.h5"), str(inside / "link.h5")):
        with pytest.raises(InputError, match=r"documents\.roots"):
            files.images(FileRows(FileSource("hdf5", path, dataset="/data"), 0, 1))


def test_frames_that_were_not_written_yet_are_waited_for(file, tmp_path):
    files = FrameFiles([str(tmp_path)])
    source = FileSource("hdf5", str(file), dataset="/data")
    with pytest.raises(NotReadableYetError, match="5 frames so far, 6 were announced"):
        files.images(FileRows(source, 5, 6))
    with pytest.raises(NotReadableYetError, match="not there yet"):
        files.images(FileRows(FileSource("hdf5", str(tmp_path / "later.h5"), dataset="/data"), 0, 1))


@pytest.mark.parametrize("written", [r"Z:\data\day 1\scan.h5", "/Z:/data/day 1/scan.h5", "Z:/data/day 1/scan.h5"])
def test_paths_of_another_machine_are_translated_and_still_kept_inside_the_roots(tmp_path, written):
    (tmp_path / "day 1").mkdir()
    (tmp_path / "day 1" / "scan.h5").touch()
    files = FrameFiles([str(tmp_path)], {"Z:/data": str(tmp_path), "Z:": "/elsewhere"})
    assert files.allowed(written) == tmp_path / "day 1" / "scan.h5"
    with pytest.raises(InputError, match=r"documents\.roots"):
        files.allowed("Z:/data/../secret.h5")


def named_by_datums(path, *events):
    """Documents of a detector that announces frames by datums; events are (seq_num, uid, row in the file or None)."""
    yield "start", START
    keys = {"camera": {"dtype": "array", "shape": [1, 4, 6], "external": "FILESTORE:"}}
    yield "descriptor", {"uid": "d", "run_start": "run", "name": "primary", "data_keys": keys}
    arguments = {"frame_per_point": 1}
    where = {"root": "/", "resource_path": str(path)[1:], "resource_kwargs": arguments, "path_semantics": "posix"}
    yield "resource", {"uid": "r", "run_start": "run", "spec": "AD_HDF5", **where}
    for number, uid, point in events:
        data = {"camera": f"r/{uid}"}
        yield "event", {"uid": uid, "descriptor": "d", "seq_num": number, "time": 1.0, "data": data}
        if point is not None:
            datum = {"datum_id": f"r/{uid}", "resource": "r", "datum_kwargs": {"point_number": point}}
            yield "datum", datum


def retakes(documents):
    assembler = TomogramAssembler(RULES)
    actions = [action for name, document in documents for action in assembler.handle(name, document)]
    kept = [action for action in actions if isinstance(action, ReadFrames | RetakeFrames)]
    short = [(one.seq_num, one.images.first) if isinstance(one, ReadFrames) else ("again", one.seq_num) for one in kept]
    return short, assembler.counts


def test_a_frame_in_a_file_that_is_taken_again_is_read_from_where_the_later_event_says(tmp_path):
    path = tmp_path / "scan.h5"
    whole = named_by_datums(path, (1, "a", 0), (2, "b", 1), (2, "c", 2), (3, "d", 3))
    assert retakes(whole)[0] == [(1, 0), (2, 1), ("again", 2), (2, 2), (3, 3)]


def test_a_take_whose_datum_never_came_before_the_next_is_forgotten_whatever_comes_of_it_later(tmp_path):
    late = {"datum_id": "r/b", "resource": "r", "datum_kwargs": {"point_number": 1}}
    order = [*named_by_datums(tmp_path / "scan.h5", (1, "a", 0), (2, "b", None), (2, "c", 2)), ("datum", late)]
    assert retakes(order)[0] == [(1, 0), (2, 2)]


def test_a_retake_that_never_became_whole_takes_the_first_out_all_the_same_and_is_told_of(tmp_path):
    end = ("stop", {"uid": "s", "run_start": "run", "exit_status": "success", "num_events": {"primary": 1}})
    short, counts = retakes([*named_by_datums(tmp_path / "scan.h5", (1, "a", 0), (1, "b", None)), end])
    assert short == [(1, 0), ("again", 1)]
    assert (counts.retaken, counts.refused) == (1, {"incomplete": 1})


def test_streamed_frames_that_are_taken_again_are_read_from_the_later_rows(file):
    again = {"stream_resource": "r", "descriptor": "d", "uid": "again"}
    spans = {"indices": {"start": 5, "stop": 7}, "seq_nums": {"start": 2, "stop": 4}}
    short, counts = retakes([*documents(file), ("stream_datum", {**again, **spans})])
    assert short[5:] == [("again", 2), (2, 5), ("again", 3), (3, 6)]
    assert (counts.retaken, counts.duplicates) == (2, 0)

"""Documents in, actions out."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from pfitre_service.ingest import (
    AbandonTomogram,
    AddDocument,
    AddFrames,
    AddReferences,
    CloseTomogram,
    DocumentRules,
    Note,
    OpenTomogram,
    RetakeFrames,
    TomogramAssembler,
)


@pytest.fixture
def assembler() -> TomogramAssembler:
    return TomogramAssembler(DocumentRules())


def feed(assembler: TomogramAssembler, *documents: Any) -> list[Any]:
    return [action for name, document in documents for action in assembler.handle(name, document)]


def of_kind(kind: type, actions: list[Any]) -> list[Any]:
    return [action for action in actions if isinstance(action, kind)]


def frames(actions: list[Any]) -> list[Any]:
    return [frame for action in of_kind(AddFrames, actions) for frame in action.frames]


def notes(actions: list[Any]) -> str:
    return "\n".join(note.message for note in of_kind(Note, actions))


def test_a_scan_opens_adds_its_frames_and_closes(assembler, scan):
    actions = feed(assembler, *scan.whole(3))

    opened, *added, closed = actions
    assert isinstance(opened, OpenTomogram)
    assert (opened.key.id, opened.run_uid, opened.scan_id, opened.measurement) == ("run-1", "run-1", 7, "transmission")
    assert [(f.seq_num, f.angle, f.role, f.time, f.run_uid) for f in frames(added)] == [
        (1, 10.0, "projection", 101.0, "run-1"),
        (2, 20.0, "projection", 102.0, "run-1"),
        (3, 30.0, "projection", 103.0, "run-1"),
    ]
    assert all((f.image == f.seq_num).all() and f.image.shape == (4, 6) for f in frames(added))
    assert isinstance(closed, CloseTomogram)
    assert (closed.exit_status, closed.counts.projections, closed.counts.missing) == ("success", 3, {})
    assert [(run.uid, run.state) for run in assembler.counts.recent_runs] == [("run-1", "complete")]
    assert assembler.counts.open_runs == ()


def test_the_start_document_tells_what_is_known_beforehand(assembler, scan):
    start = scan.start(
        sample={"name": "chip"},
        num_points=np.int64(40),
        rotation_axis=2.5,
        pixel_size_nm=20,
        measurement="line_integral",
        odd={"array": np.arange(3), "nan": math.nan, "huge": 2**80, "set": {1}, 5: b"bytes"},
    )
    (opened,) = feed(assembler, start, scan.descriptor())

    assert (opened.sample, opened.expected_frames, opened.axis, opened.pixel_size_nm) == ("chip", 40, 2.5, 20.0)
    assert opened.measurement == "line_integral"
    assert json.loads(json.dumps(opened.start, allow_nan=False))["odd"]["array"] == [0, 1, 2]
    json.dumps(opened.descriptors, allow_nan=False)


def test_start_keys_that_make_no_sense_are_left_aside_and_told_of(assembler, scan):
    start = scan.start(measurement="phase", rotation_axis="middle", pixel_size_nm=math.inf, num_points="many")
    actions = feed(assembler, start, scan.descriptor())

    (opened,) = of_kind(OpenTomogram, actions)
    assert (opened.measurement, opened.axis, opened.pixel_size_nm) == ("transmission", None, None)
    assert opened.expected_frames is None
    assert all(key in notes(actions) for key in ("measurement", "rotation_axis", "pixel_size_nm"))


def test_flats_and_darks_are_references_without_an_angle(assembler, scan):
    actions = feed(
        assembler,
        scan.start(),
        scan.descriptor("dark", theta=None),
        scan.event(1, "dark"),
        scan.descriptor(),
        scan.event(1),
        scan.descriptor("flats"),
        scan.event(1, "flats"),
        scan.event(2, "flats"),
        scan.stop(),
    )
    assert [(a.role, a.stream, len(a.frames)) for a in of_kind(AddReferences, actions)] == [
        ("dark", "dark", 1),
        ("flat", "flats", 1),
        ("flat", "flats", 1),
    ]
    assert all(math.isnan(a.frames[0].angle) for a in of_kind(AddReferences, actions))
    assert [a.document["name"] for a in of_kind(AddDocument, actions)] == ["primary", "flats"]
    counts = actions[-1].counts
    assert (counts.projections, counts.flats, counts.darks) == (1, 2, 1)


def test_two_interleaved_runs_stay_apart(assembler, scan_named):
    first, second = scan_named("run-a"), scan_named("run-b", shape=(2, 3))
    pairs = zip(first.whole(4), second.whole(4), strict=True)
    actions = feed(assembler, *(document for pair in pairs for document in pair))

    for uid, shape in (("run-a", (4, 6)), ("run-b", (2, 3))):
        own = [f for f in frames(actions) if f.run_uid == uid]
        assert [f.seq_num for f in own] == [1, 2, 3, 4]
        assert {f.image.shape for f in own} == {shape}
    assert [a.counts.projections for a in of_kind(CloseTomogram, actions)] == [4, 4]


def test_an_event_page_is_read_like_its_events(assembler, scan):
    page = {
        "descriptor": "run-1-primary",
        "seq_num": [1, 2, 3],
        "time": [1.0, 2.0, 3.0],
        "data": {"camera": np.arange(72.0).reshape(3, 4, 6), "theta": np.array([0.0, 5.0, 10.0])},
    }
    actions = feed(assembler, scan.start(), scan.descriptor(), ("event_page", page), scan.stop())
    assert [(f.seq_num, f.angle, f.image[0, 0]) for f in frames(actions)] == [(1, 0, 0), (2, 5, 24), (3, 10, 48)]


def test_a_page_with_a_short_column_loses_only_the_rows_that_lack_a_value(assembler, scan):
    image = np.zeros((4, 6)).tolist()
    page = {"descriptor": "run-1-primary", "seq_num": [1, 2], "data": {"camera": [image], "theta": [1.0, 2.0]}}
    actions = feed(assembler, scan.start(), scan.descriptor(), ("event_page", page), scan.stop())
    assert [f.seq_num for f in frames(actions)] == [1]
    assert actions[-1].counts.refused == {"missing key": 1}


@pytest.mark.parametrize(
    ("image", "angle", "angles"),
    [
        (np.ones((1, 4, 6)), 3.0, [3.0]),
        (np.ones((1, 4, 6)), [3.0], [3.0]),
        (np.ones((4, 6)).tolist(), 3, [3.0]),
        (np.ones((4, 6), dtype=">u2"), np.float32(3), [3.0]),
        (np.ones((4, 6), dtype=bool), 3.0, [3.0]),
        (np.ones((3, 4, 6)), np.array([1.0, 2.0, 3.0]), [1.0, 2.0, 3.0]),
        (np.ones((3, 4, 6)), 5.0, [5.0, 5.0, 5.0]),
        (np.full((4, 6), np.nan), 3.0, [3.0]),
    ],
)
def test_images_come_as_arrays_lists_and_several_an_event(assembler, scan, image, angle, angles):
    actions = feed(assembler, scan.start(), scan.descriptor(), scan.event(1, camera=image, theta=angle))
    assert [f.angle for f in frames(actions)] == angles
    assert all(f.image.shape == (4, 6) and f.image.dtype.isnative for f in frames(actions))
    assert all(f.image.dtype.kind in "iuf" for f in frames(actions))


def test_radians_become_degrees(scan):
    assembler = TomogramAssembler(DocumentRules(angle_unit="radians"))
    actions = feed(assembler, scan.start(), scan.descriptor(), scan.event(1, theta=math.pi / 2))
    assert frames(actions)[0].angle == pytest.approx(90.0)


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        ("shape", {"camera": np.zeros((4, 7))}),
        ("shape", {"camera": np.zeros(24)}),
        ("shape", {"camera": [[1, 2], [3]]}),
        ("dtype", {"camera": np.array([["a"] * 6] * 4)}),
        ("dtype", {"camera": np.zeros((4, 6), complex)}),
        ("dtype", {"camera": np.full((4, 6), None)}),
        ("dtype", {"camera": 3.0}),
        ("in a file", {"camera": "resource-1/0"}),
        ("angle", {"theta": math.nan}),
        ("angle", {"theta": -math.inf}),
        ("angle", {"theta": "ninety"}),
        ("angle", {"theta": [1.0, 2.0]}),
        ("angle", {"theta": None}),
    ],
)
def test_a_frame_that_cannot_be_used_is_refused_and_the_scan_goes_on(assembler, scan, reason, data):
    actions = feed(
        assembler, scan.start(), scan.descriptor(), scan.event(1), scan.event(2, **data), scan.event(3), scan.stop()
    )
    assert [f.seq_num for f in frames(actions)] == [1, 3]
    assert actions[-1].counts.refused == {reason: 1}
    assert actions[-1].counts.missing == {}, "a refused frame did arrive"
    assert "event 2" in notes(actions)
    assert assembler.counts.refused == {reason: 1}


def test_only_the_frame_with_a_bad_angle_is_refused_of_several_in_one_event(assembler, scan):
    several = scan.event(1, camera=np.ones((3, 4, 6)), theta=[1.0, math.nan, 3.0])
    actions = feed(assembler, scan.start(), scan.descriptor(), several, scan.stop())
    assert [f.angle for f in frames(actions)] == [1.0, 3.0]
    assert actions[-1].counts.refused == {"angle": 1}


def test_missing_keys_and_numbers_are_refused(assembler, scan):
    _, no_data = scan.event(2)
    del no_data["data"]["camera"]
    _, no_table = scan.event(3)
    no_table["data"] = None
    _, no_number = scan.event(4)
    no_number["seq_num"] = "four"
    bad = [("event", document) for document in (no_data, no_table, no_number)]
    actions = feed(assembler, scan.start(), scan.descriptor(), scan.event(1), *bad, scan.stop())
    assert actions[-1].counts.refused == {"missing key": 2, "malformed": 1}


def test_what_comes_again_is_counted_and_left_out(assembler, scan):
    twice = [document for document in scan.whole(2) for _ in range(2)]
    actions = feed(assembler, *twice)
    assert [f.seq_num for f in frames(actions)] == [1, 2]
    assert len(of_kind(OpenTomogram, actions)) == len(of_kind(CloseTomogram, actions)) == 1
    assert assembler.counts.duplicates == 5


def test_gaps_are_counted_and_a_late_frame_fills_its_gap(assembler, scan):
    feed(assembler, scan.start(), scan.descriptor(), scan.event(1), scan.event(4))
    assert assembler.counts.missing == 2
    actions = feed(assembler, scan.event(2))
    assert [f.seq_num for f in frames(actions)] == [2]
    assert (assembler.counts.missing, assembler.counts.late) == (1, 1)


def test_events_lost_at_the_end_show_when_the_stop_document_numbers_them(assembler, scan):
    actions = feed(assembler, scan.start(), scan.descriptor(), scan.event(1), scan.stop(num_events={"primary": 5}))
    assert actions[-1].counts.missing == {"primary": 4}
    assert "never came: 4 of 'primary'" in notes(actions)
    assert assembler.counts.missing == 4


def test_a_stream_that_was_lost_whole_shows_too(assembler, scan):
    counted = scan.stop(num_events={"primary": 1, "flat": 3, "baseline": 2})
    actions = feed(assembler, scan.start(), scan.descriptor(), scan.event(1), counted)
    assert actions[-1].counts.missing == {"flat": 3}


@pytest.mark.parametrize("descriptors", [0, 1])
def test_an_empty_run_ends_without_harm(assembler, scan, descriptors):
    actions = feed(assembler, scan.start(), *[scan.descriptor()] * descriptors, scan.stop())
    if descriptors:
        assert actions[-1].counts.projections == 0
    else:
        assert of_kind(OpenTomogram, actions) == []
        assert assembler.counts.recent_runs[-1].state == "empty"
    assert assembler.counts.open_runs == ()


@pytest.mark.parametrize(("status", "state"), [("abort", "aborted"), ("fail", "failed")])
def test_an_aborted_run_keeps_its_frames_and_says_why(assembler, scan, status, state):
    actions = feed(assembler, scan.start(), scan.descriptor(), scan.event(1), scan.stop(status, reason="beam lost"))
    assert (actions[-1].exit_status, actions[-1].reason, actions[-1].counts.projections) == (status, "beam lost", 1)
    assert (assembler.counts.recent_runs[-1].state, assembler.counts.recent_runs[-1].reason) == (state, "beam lost")


def test_a_stop_without_a_status_is_a_failure_that_says_so(assembler, scan):
    actions = feed(assembler, scan.start(), scan.descriptor(), scan.stop(None))
    assert actions[-1].exit_status == "fail"
    assert "exit_status is None" in actions[-1].reason


def test_documents_wait_for_the_start_and_descriptor_they_refer_to(assembler, scan):
    actions = feed(assembler, scan.event(1), scan.descriptor(), scan.event(2))
    assert frames(actions) == []
    assert assembler.counts.held == 3
    actions = feed(assembler, scan.start(), scan.event(3), scan.stop())
    assert [f.seq_num for f in frames(actions)] == [1, 2, 3]
    assert (assembler.counts.held, assembler.counts.orphans) == (0, 0)
    assert assembler.counts.documents == {"start": 1, "descriptor": 1, "event": 3, "stop": 1}


def test_a_run_joined_too_late_is_counted_and_leaves_room_for_the_next(scan, scan_named):
    assembler = TomogramAssembler(DocumentRules(max_held=3))
    actions = feed(assembler, *(scan.event(n) for n in range(5, 12)), scan.stop(), *scan_named("next").whole(2))
    assert [f.run_uid for f in frames(actions)] == ["next", "next"]
    assert (assembler.counts.held, assembler.counts.orphans) == (3, 5)
    assert "joined late" in notes(actions)
    assembler.expire(0.0)
    assert assembler.counts.held == 3
    assembler.expire(10.0)
    assert (assembler.counts.held, assembler.counts.orphans) == (0, 8)


def test_events_after_the_stop_are_counted_and_left_out(assembler, scan):
    actions = feed(assembler, *scan.whole(1), scan.event(2), scan.event(3))
    assert [f.seq_num for f in frames(actions)] == [1]
    assert assembler.counts.after_stop == 2


def test_a_silent_run_is_given_up(scan):
    assembler = TomogramAssembler(DocumentRules(abandon_after_s=60))
    feed(assembler, scan.start(), scan.descriptor(), scan.event(1))
    assert assembler.expire(1000.0) == []
    feed(assembler, scan.event(2))
    assert assembler.expire(1061.0) == [], "it spoke since the last check"
    actions = assembler.expire(1121.0)
    (abandoned,) = of_kind(AbandonTomogram, actions)
    assert (abandoned.key.id, abandoned.counts.projections) == ("run-1", 2)
    assert assembler.counts.recent_runs[-1].state == "abandoned"
    assert assembler.expire(5000.0) == []


def test_only_so_many_runs_are_open_at_once(scan_named):
    assembler = TomogramAssembler(DocumentRules(max_open_runs=2))
    first, second, third = (scan_named(f"run-{name}") for name in "abc")
    actions = feed(assembler, first.start(), first.descriptor(), second.start(), first.event(1), third.start())
    assert [run.uid for run in assembler.counts.open_runs] == ["run-a", "run-c"]
    assert assembler.counts.recent_runs[-1].uid == "run-b"
    assert "silent the longest" in notes(actions)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"camera": None}, "shape of an image"),
        ({"second": {"dtype": "array", "shape": [4, 6]}}, "'camera', 'second'; set documents.image"),
        ({"theta": None}, "no rotation angle"),
        ({"theta": {"dtype": "number", "shape": [], "units": "mm"}}, "no rotation angle"),
    ],
)
def test_a_run_that_is_no_tomogram_is_ignored_with_a_reason(assembler, scan, keys, says):
    actions = feed(assembler, scan.start(), scan.descriptor(**keys), scan.event(1), scan.stop())
    assert {type(action) for action in actions} == {Note}
    assert says in notes(actions)
    assert assembler.counts.recent_runs[-1].state == "ignored"


def test_flats_that_are_followed_by_no_tomogram_are_given_up(assembler, scan):
    camera_only = scan.descriptor(theta=None)
    actions = feed(assembler, scan.start(), scan.descriptor("flat"), scan.event(1, "flat"), camera_only, scan.stop())
    assert len(of_kind(OpenTomogram, actions)) == len(of_kind(AbandonTomogram, actions)) == 1
    assert of_kind(CloseTomogram, actions) == []


def test_the_rotation_is_found_from_hints_or_motors_and_by_its_unit(assembler, scan):
    x = {"dtype": "number", "shape": [], "units": "mm"}
    theta = {"dtype": "number", "shape": [], "units": "deg"}
    start = scan.start(motors=["stage", "x"], hints={"dimensions": [[["x"], "primary"], [["time"], "primary"]]})
    name, descriptor = scan.descriptor(x=x, theta=theta)
    descriptor["hints"] = {"stage": {"fields": ["theta"]}}
    actions = feed(assembler, start, (name, descriptor), scan.event(1, x=55.0))
    assert frames(actions)[0].angle == 10.0


def test_two_possible_rotations_are_not_guessed_between(assembler, scan):
    other = {"dtype": "number", "shape": []}
    actions = feed(assembler, scan.start(motors=["theta", "phi"]), scan.descriptor(phi=other))
    assert "'theta', 'phi'; set documents.rotation" in notes(actions)


def test_a_profile_names_the_keys_and_streams(scan):
    rules = DocumentRules(
        rotation="phi",
        image="second",
        projection_streams=("tomo",),
        measurement="line_integral",
        angle_unit="degrees",
    )
    assembler = TomogramAssembler(rules)
    second, phi = {"dtype": "array", "shape": [2, 2]}, {"dtype": "number", "shape": [], "units": "radians"}
    actions = feed(
        assembler,
        scan.start(),
        scan.descriptor("primary"),
        scan.descriptor("tomo", second=second, phi=phi),
        scan.event(1, "tomo", second=np.ones((2, 2)), phi=3.0),
    )
    assert of_kind(OpenTomogram, actions)[0].measurement == "line_integral"
    assert (frames(actions)[0].image.shape, frames(actions)[0].angle) == ((2, 2), 3.0)
    assert "angle_unit" in notes(actions)


@pytest.mark.parametrize("uid", ["../x", "", "a/b", "x" * 500, None, 5, ["run"]])
def test_a_hostile_uid_is_refused(assembler, scan_named, uid):
    hostile = scan_named(uid)
    actions = feed(assembler, hostile.start(), hostile.descriptor(), hostile.event(1), hostile.stop())
    assert {type(action) for action in actions} == {Note}
    assert assembler.counts.malformed >= 1
    assert frames(feed(assembler, *scan_named("good").whole(1)))


def test_unknown_names_and_bulk_documents_are_counted_and_told_of_once(assembler, scan):
    strange = [
        ("sabotage", {}),
        ("sabotage", {}),
        (None, {}),
        ("bulk_events", {}),
        ("bulk_datum", {}),
        ("bulk_datum", {}),
    ]
    actions = feed(assembler, scan.start(), scan.descriptor(), *strange, scan.event(1))
    assert (assembler.counts.unknown_names, assembler.counts.not_understood) == (3, 3)
    assert len(of_kind(Note, actions)) == 3
    assert len(frames(actions)) == 1


def test_a_restarted_process_goes_on_where_the_store_ended(scan):
    before = TomogramAssembler(DocumentRules())
    first = feed(before, scan.start(), scan.descriptor(), scan.event(1), scan.descriptor("flat"), scan.event(1, "flat"))
    opened, later = of_kind(OpenTomogram, first)[0], of_kind(AddDocument, first)[0]

    after = TomogramAssembler(DocumentRules())
    stored = [("primary", 1, "run-1-primary-1"), ("flat", 1, "run-1-flat-1")]
    again = after.resume(opened.start, [*opened.descriptors, later.document], [], stored, shape=(4, 6))
    assert of_kind(OpenTomogram, again)[0].key == opened.key
    actions = feed(after, scan.event(1), scan.event(3), scan.event(2, "flat"), scan.stop(num_events={"primary": 3}))
    assert [f.seq_num for f in frames(actions)] == [3]
    counts = actions[-1].counts
    assert (counts.projections, counts.flats, counts.duplicates, counts.missing) == (2, 2, 1, {"primary": 1})


def test_many_runs_leave_only_a_bounded_memory(assembler, scan_named):
    for number in range(300):
        feed(assembler, *scan_named(f"run-{number}").whole(1))
    counts = assembler.counts
    assert counts.frames == {"projection": 300}
    assert [len(counts.recent_runs), counts.recent_runs[-1].uid, len(counts.open_runs)] == [50, "run-299", 0]


def taken_again(document: Any, value: float) -> Any:
    """The same point of a plan that was paused and resumed: same number, another uid, another image."""
    name, body = document
    return name, {**body, "uid": f"{body['uid']}-again", "data": {**body["data"], "camera": np.full((4, 6), value)}}


def test_a_point_that_is_taken_again_takes_the_place_of_the_first_and_is_counted_once(assembler, scan):
    second = scan.event(2)
    again = taken_again(second, 99.0)
    documents = (scan.start(), scan.descriptor(), scan.event(1), second, again, again, second, scan.event(3))
    actions = feed(assembler, *documents, scan.stop(num_events={"primary": 3}))
    assert [(f.seq_num, f.image[0, 0]) for f in frames(actions)] == [(1, 1), (2, 2), (2, 99), (3, 3)]
    (retake,) = of_kind(RetakeFrames, actions)
    assert (retake.stream, retake.seq_num, retake.event_uid) == ("primary", 2, again[1]["uid"])
    assert actions.index(retake) < next(
        at
        for at, one in enumerate(actions)
        if isinstance(one, AddFrames) and one.frames[0].event_uid == retake.event_uid
    ), "what is stored before it counts no more"
    counts = actions[-1].counts
    assert (counts.retaken, counts.duplicates, counts.missing) == (1, 2, {})
    assert notes(actions).count("event 2 was taken again") == 1


def test_flats_and_rows_of_a_page_are_taken_again_as_well(assembler, scan):
    flats = [scan.event(number, "flat") for number in (1, 2)]
    page = {
        "descriptor": "run-1-flat",
        "uid": [flats[0][1]["uid"], "another"],
        "seq_num": [1, 2],
        "time": [1.0, 2.0],
        "data": {"camera": [np.ones((4, 6)), np.ones((4, 6))], "theta": [0.0, 0.0]},
        "timestamps": {},
    }
    actions = feed(assembler, scan.start(), scan.descriptor(), scan.descriptor("flat"), *flats, ("event_page", page))
    assert [(one.stream, one.seq_num) for one in of_kind(RetakeFrames, actions)] == [("flat", 2)]
    assert [frame.event_uid for one in of_kind(AddReferences, actions) for frame in one.frames][-1] == "another"
    assert (assembler.counts.retaken, assembler.counts.duplicates) == (1, 1)


def test_a_restarted_process_tells_a_retake_from_what_comes_twice(scan):
    first = feed(TomogramAssembler(DocumentRules()), scan.start(), scan.descriptor(), scan.event(1), scan.event(2))
    (opened,) = of_kind(OpenTomogram, first)
    stored = [("primary", number, f"run-1-primary-{number}") for number in (1, 2)]

    after = TomogramAssembler(DocumentRules())
    after.resume(opened.start, opened.descriptors, [], stored, shape=(4, 6))
    one, two = scan.event(1), scan.event(2)
    actions = feed(after, one, taken_again(one, 7.0), two)
    assert [(f.seq_num, f.image[0, 0]) for f in frames(actions)] == [(1, 7)]
    assert (after.counts.retaken, after.counts.duplicates) == (1, 2)


def test_every_event_whose_frames_are_not_there_is_named_whatever_the_cause(assembler, scan):
    bad = scan.event(4, camera=np.zeros((2, 2)))
    actions = feed(assembler, scan.start(), scan.descriptor(), scan.event(1), bad, scan.event(7))
    assert assembler.counts.open_runs[0].lacking == {"primary": "2-6"}
    actions = feed(assembler, scan.event(2), scan.stop(num_events={"primary": 9, "flat": 3}))
    assert actions[-1].counts.lacking == {"primary": "3-6, 8-9", "flat": "1-3"}
    assert "'primary': 3-6, 8-9" in notes(actions)
    assert assembler.counts.recent_runs[0].lacking == actions[-1].counts.lacking

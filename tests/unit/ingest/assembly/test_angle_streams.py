"""Angles in a stream of their own: by number, and interpolated at the time of each frame."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import h5py
import numpy as np
import pytest

from pfitre_service.errors import InputError, SettingsError
from pfitre_service.ingest import (
    AddFrames,
    AngleNotKnownYetError,
    CloseTomogram,
    DocumentRules,
    FrameFiles,
    ReadFrames,
    TomogramAssembler,
    frames_of,
)

BY_NUMBER = DocumentRules(angle_from="stream", angle_stream="encoder", rotation="angle", angle_match="seq_num")
BY_TIME = DocumentRules(angle_from="stream", angle_stream="encoder", rotation="angle", angle_unit="radians")

START = ("start", {"uid": "r", "time": 0.0})
IMAGES = {"camera": {"dtype": "array", "shape": [2, 3]}}
PRIMARY = ("descriptor", {"uid": "p", "run_start": "r", "name": "primary", "data_keys": IMAGES})
STOP = ("stop", {"uid": "s", "run_start": "r", "exit_status": "success"})


def encoder(external: str | None = None) -> tuple[str, dict[str, Any]]:
    key = {"dtype": "number", "shape": [], **({"external": external} if external else {})}
    return "descriptor", {"uid": "e", "run_start": "r", "name": "encoder", "data_keys": {"angle": key}}


def image(number: int, time: float = 0.0) -> tuple[str, dict[str, Any]]:
    data = {"camera": np.full((2, 3), number)}
    return "event", {"descriptor": "p", "seq_num": number, "time": time, "data": data, "timestamps": {"camera": time}}


def angle(number: int, value: float, time: float = 0.0) -> tuple[str, dict[str, Any]]:
    return "event", {
        "descriptor": "e",
        "seq_num": number,
        "time": time + 100,
        "data": {"angle": value},
        "timestamps": {"angle": time},
    }


def actions_of(rules: DocumentRules, *documents: tuple[str, dict[str, Any]]) -> list[Any]:
    assembler = TomogramAssembler(rules)
    return [action for name, document in documents for action in assembler.handle(name, document)]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_angle_of_the_same_number_is_taken_whatever_comes_first(order):
    pieces = [image(1), image(2), angle(1, 10.0), angle(2, -20.0)]
    actions = actions_of(BY_NUMBER, START, encoder(), PRIMARY, *(pieces[place] for place in order), STOP)
    frames = [frame for action in actions if isinstance(action, AddFrames) for frame in action.frames]
    assert {frame.seq_num: (frame.angle, frame.image[0, 0]) for frame in frames} == {1: (10.0, 1), 2: (-20.0, 2)}


def test_angles_may_come_before_the_images_are_described_and_a_lost_one_is_counted():
    actions = actions_of(BY_NUMBER, START, encoder(), angle(1, 10.0), PRIMARY, image(1), image(2), STOP)
    frames = [frame for action in actions if isinstance(action, AddFrames) for frame in action.frames]
    assert [frame.angle for frame in frames] == [10.0]
    (closed,) = [action for action in actions if isinstance(action, CloseTomogram)]
    assert closed.counts.refused == {"incomplete": 1}


def test_an_encoder_in_a_file_gives_a_row_for_each_projection(tmp_path):
    path = tmp_path / "panda.h5"
    with h5py.File(path, "w") as file:
        file["Angle"] = np.deg2rad([10.0, -20.0])
    resource = {"uid": "f", "run_start": "r", "data_key": "angle", "mimetype": "application/x-hdf5"}
    announced = ("stream_resource", {**resource, "uri": f"file://{path}", "parameters": {"dataset": "Angle"}})
    span = {"indices": {"start": 0, "stop": 2}, "seq_nums": {"start": 1, "stop": 3}}
    rows = ("stream_datum", {"uid": "d", "stream_resource": "f", "descriptor": "e", **span})
    rules = DocumentRules(
        angle_from="stream", angle_stream="encoder", rotation="angle", angle_match="seq_num", angle_unit="radians"
    )
    actions = actions_of(rules, START, encoder("STREAM:"), PRIMARY, image(1), announced, rows, image(2), STOP)
    reads = [action for action in actions if isinstance(action, ReadFrames)]
    frames = [frame for read in reads for frame in frames_of(read, FrameFiles([str(tmp_path)]))]
    assert [frame.angle for frame in frames] == pytest.approx([10.0, -20.0])


def test_angles_are_interpolated_at_the_images_time_stamp_once_the_stage_was_seen_beyond_it():
    documents = [START, encoder(), PRIMARY, angle(1, 0.0, time=1.0), image(1, time=1.5)]
    assembler = TomogramAssembler(BY_TIME)
    actions = [action for name, document in documents for action in assembler.handle(name, document)]
    (read,) = [action for action in actions if isinstance(action, ReadFrames)]
    files = FrameFiles([])
    with pytest.raises(AngleNotKnownYetError):
        frames_of(read, files)
    assembler.handle(*angle(2, math.pi / 2, time=2.0))
    assert frames_of(read, files)[0].angle == pytest.approx(45.0)


def test_at_the_end_of_the_run_a_stage_that_stood_still_is_where_it_was_last():
    actions = actions_of(BY_TIME, START, encoder(), PRIMARY, angle(1, math.pi, time=1.0), image(1, time=1.5), STOP)
    (read,) = [action for action in actions if isinstance(action, ReadFrames)]
    assert frames_of(read, FrameFiles([]))[0].angle == pytest.approx(180.0)


@pytest.mark.parametrize("documents", [[], [angle(1, 0.0, time=1e9)]], ids=["no sample", "another clock"])
def test_frames_whose_angle_cannot_be_known_are_refused_in_words(documents):
    actions = actions_of(BY_TIME, START, encoder(), PRIMARY, *documents, image(1, time=5.0), STOP)
    (read,) = [action for action in actions if isinstance(action, ReadFrames)]
    with pytest.raises(InputError, match=r"no sample of the angle|angle_time_offset_s"):
        frames_of(read, FrameFiles([]))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"angle_from": "stream"}, "needs angle_stream and rotation"),
        ({"angle_from": "baseline"}, "needs rotation"),
        ({"angle_stream": "encoder"}, "goes with angle_from"),
        ({"angle_from": "stream", "angle_stream": "primary", "rotation": "a"}, "holds frames"),
        ({"angle_from": "file"}, "needs angle_dataset"),
    ],
)
def test_rules_that_contradict_each_other_are_refused(rules, message):
    with pytest.raises(SettingsError, match=message):
        DocumentRules(**rules)

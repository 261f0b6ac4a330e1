"""Scans of the twin through a real RunEngine: what its documents say, whole and aborted."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import event_model
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.plan_stubs import pause
from bluesky.preprocessors import msg_mutator, plan_mutator
from bluesky.utils import FailedStatus, RunEngineInterrupted

from pfitre_service.errors import InputError
from pfitre_service.preprocess import PreprocessParameters, References, to_line_integrals
from pfitre_service.twin.plans import tomo_scan
from pfitre_service.twin.project import project
from pfitre_service.twin.scans import build_scan


def thread_names() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def pausing_after(plan: Iterator[Any], chosen: Callable[[Any], bool]) -> Iterator[Any]:
    """The plan with a pause after every message that is `chosen`."""
    return plan_mutator(plan, lambda message: (None, pause() if chosen(message) else None))


class Documents:
    """A callback that keeps what it is given and holds it against event-model's schemas."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, document: dict[str, Any]) -> None:
        event_model.schema_validators[event_model.DocumentNames[name]].validate(document)
        self.seen.append((name, document))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [document for name, document in self.seen if name == kind]

    def images(self, stream: str) -> np.ndarray:
        (descriptor,) = [d["uid"] for d in self.of("descriptor") if d["name"] == stream]
        return np.stack([e["data"]["detector_image"] for e in self.of("event") if e["descriptor"] == descriptor])


def test_the_recorded_scan_gives_every_projection_with_its_angle(RE: RunEngine):
    scan, documents = build_scan("cu23", exposure_s=0), Documents()
    RE(scan.plan(), documents)
    start = documents.of("start")[0]
    assert start["plan_name"] == "tomo_scan"
    assert (start["num_projections"], start["measurement"], start["sample"]) == (51, "line_integral", "cu23")
    assert (start["motors"], start["rotation_axis"]) == (["rotation"], 74.5)
    assert start["hints"]["dimensions"] == [(["rotation"], "primary")]
    assert [e["data"]["rotation"] for e in documents.of("event")] == scan.angles
    (descriptor,) = documents.of("descriptor")
    assert descriptor["data_keys"]["detector_image"]["shape"] == [84, 150]
    assert descriptor["data_keys"]["detector_image"]["dtype_numpy"] == "<f4"
    assert documents.of("stop")[0]["exit_status"] == "success"
    assert documents.of("stop")[0]["num_events"] == {"primary": 51}


def test_a_transmission_scan_has_darks_flats_and_projections_that_preprocess_to_the_truth(RE: RunEngine):
    scan, documents = build_scan("chip", exposure_s=0, seed=1), Documents()
    angles = [-40.0, 0.0, 25.0]
    RE(tomo_scan(scan.detector, scan.stage, angles, flats=8, darks=5, sample="chip"), documents)
    assert documents.of("stop")[0]["num_events"] == {"dark": 5, "flat": 8, "primary": 3}
    assert [d["name"] for d in documents.of("descriptor")] == ["dark", "flat", "primary"]
    references = References.from_frames(documents.images("flat"), documents.images("dark"))
    result = to_line_integrals(documents.images("primary"), references, PreprocessParameters(), "transmission")
    assert result.warnings == ()
    twice = np.repeat(np.repeat(np.repeat(scan.truth, 2, 0), 2, 1), 2, 2)
    expected = project(twice, angles, axis=scan.detector.rotation_axis)
    assert np.sqrt(np.mean((result.values - expected) ** 2)) < 0.05
    assert abs(np.mean(result.values - expected)) < 0.005


def test_an_aborted_scan_ends_its_run_and_puts_shutter_and_sample_back(RE: RunEngine):
    scan, documents = build_scan("chip", exposure_s=0.01), Documents()

    flats_saved = itertools.count(1)

    def third_flat(message: Any) -> bool:
        return message.command == "save" and scan.detector.sample.get() == "out" and next(flats_saved) == 3

    scan.detector.shutter.put("closed")
    with pytest.raises(RunEngineInterrupted):
        RE(pausing_after(scan.plan(), third_flat), documents)
    assert (scan.detector.shutter.get(), scan.detector.sample.get()) == ("open", "out")
    RE.abort("enough")
    assert documents.of("stop")[0]["exit_status"] == "abort"
    assert documents.of("stop")[0]["num_events"] == {"dark": 10, "flat": 3}
    assert (scan.detector.shutter.get(), scan.detector.sample.get()) == ("closed", "in")


def test_an_exposure_under_way_does_not_outlive_an_abort(RE: RunEngine):
    scan, documents = build_scan("cu23", exposure_s=60), Documents()

    def pause_while_exposing(message: Any) -> Any:
        if message.command == "wait" and "detector-exposure" in thread_names():
            # Not from here: the RunEngine's own thread runs this, and the request waits for it.
            threading.Thread(target=RE.request_pause, daemon=True).start()
        return message

    with pytest.raises(RunEngineInterrupted):
        RE(msg_mutator(scan.plan(), pause_while_exposing), documents)
    assert "detector-exposure" in thread_names()
    RE.abort("enough")
    assert "detector-exposure" not in thread_names()
    assert documents.of("stop")[0]["exit_status"] == "abort"
    assert documents.of("event") == []


def test_a_paused_scan_goes_on_and_is_complete(RE: RunEngine):
    scan, documents = build_scan("cu23", exposure_s=0), Documents()

    points = itertools.count(1)
    plan = pausing_after(scan.plan(), lambda message: message.command == "checkpoint" and next(points) == 20)
    with pytest.raises(RunEngineInterrupted):
        RE(plan, documents)
    assert len(documents.of("event")) == 19
    RE.resume()
    assert [e["data"]["rotation"] for e in documents.of("event")] == scan.angles
    assert [e["seq_num"] for e in documents.of("event")] == list(range(1, 52))


def test_two_scans_in_a_row_leave_nothing_behind(RE: RunEngine):
    scan = build_scan("cu23", exposure_s=0)
    for _ in range(2):
        documents = Documents()
        RE(scan.plan(), documents)
        assert len(documents.of("event")) == 51


def test_an_angle_outside_the_recording_fails_the_run_and_the_next_one_works(RE: RunEngine):
    scan, documents = build_scan("cu23", exposure_s=0), Documents()
    with pytest.raises(FailedStatus):
        RE(tomo_scan(scan.detector, scan.stage, [-72.0, 45.0]), documents)
    assert documents.of("stop")[0]["exit_status"] == "fail"
    again = Documents()
    RE(scan.plan(), again)
    assert again.of("stop")[0]["exit_status"] == "success"


def test_flats_of_a_fluorescence_scan_are_refused_before_the_run_opens(RE: RunEngine):
    scan, documents = build_scan("cu23"), Documents()
    with pytest.raises(InputError, match="no flats or darks to take"):
        RE(tomo_scan(scan.detector, scan.stage, scan.angles, flats=1), documents)
    assert not documents.seen

"""Runs that no plan would take on purpose: each ends in a stated state, harms nothing else, and the next scan works."""

from __future__ import annotations

import itertools
import os
import pickle

import numpy as np
import pytest
import zmq
from bluesky import plan_stubs as bps
from bluesky import preprocessors as bpp
from bluesky.utils import RunEngineInterrupted

from pfitre_service.model import TomogramKey

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def the_next_scan_works(service, documents):
    """Whatever a test did, a scan after it comes to its end with every frame."""
    yield
    scan = documents()
    service.publish(*scan.whole(6))
    assert service.ended(scan.key)["frames_used"] == 6
    for name in ("tiled", "receive", "ingest", "worker", "supervisor"):
        assert service.health(name).ready


def run_of(service, scan):
    return next((run for run in service.ingest()["recent_runs"] if run["uid"] == scan.uid), None)


def test_a_run_engine_s_scan_uses_every_frame(service, RE, small_scan):
    RE.subscribe(service.publisher)
    (uid,) = RE(small_scan().plan())
    metadata = service.ended(TomogramKey(uid))
    assert (metadata["frames_used"], metadata["frames_unusable"], metadata["warnings"]) == (26, 0, [])
    assert metadata["reason"] == "26 of 26 projections used; scan complete with 26 of 26 announced projections"
    progress = metadata["progress"]
    assert progress["heldout_error"] < progress["heldout_error_physics"]
    assert service.reader(TomogramKey(uid)).volume().shape == (12, 32, 32)


def test_an_empty_run_makes_no_tomogram_and_says_why(service, documents, until):
    scan = documents()
    service.publish(scan.start(), scan.stop(0))
    run = until(lambda: run_of(service, scan), "the run's end")
    assert run["state"] == "empty"
    assert "no stream 'primary' with images" in run["reason"]
    assert service.summary(scan.key) is None


def test_a_run_that_announces_frames_and_takes_none_fails_with_its_reason(service, documents):
    scan = documents()
    service.publish(scan.start(), scan.descriptor(), scan.stop(0))
    metadata = service.ended(scan.key, "failed")
    assert metadata["reason"] == "no projection was stored: scan complete with 0 projections"


def test_one_angle_is_stored_and_said_to_be_too_few(service, documents):
    scan = documents()
    service.publish(*scan.whole(1))
    metadata = service.ended(scan.key, "failed")
    assert "needs at least 2 usable projections; got 1 usable of 1 stored" in metadata["reason"]
    assert service.stored(scan.key) == 1


def test_an_aborted_run_is_reconstructed_from_what_there_is(service, RE, small_scan):
    RE.subscribe(service.publisher)
    points = itertools.count(1)

    def pause_at_the_tenth(message):
        tenth = message.command == "save" and next(points) == 10
        return None, bps.pause() if tenth else None

    with pytest.raises(RunEngineInterrupted):
        RE(bpp.plan_mutator(small_scan().plan(), pause_at_the_tenth))
    (uid,) = RE.abort()
    metadata = service.ended(TomogramKey(uid))
    assert "scan aborted with 10 of 26 announced projections" in metadata["reason"]
    assert metadata["frames_used"] == service.stored(TomogramKey(uid)) == 10


def test_a_frame_of_another_shape_is_refused_and_counted(service, documents):
    scan = documents()
    frames = [scan.event(number) for number in range(1, 11)]
    frames[4] = scan.event(5, np.ones((7, 9)))
    service.publish(scan.start(), scan.descriptor(), *frames, scan.stop(10))
    assert service.ended(scan.key)["frames_used"] == 9
    assert service.reader(scan.key).acquisition().received["refused"] == {"shape": 1}


def test_single_pixels_that_are_not_finite_are_repaired(service, documents):
    clean, scan = documents(), documents()
    holes = scan.image(5).astype(np.float32)
    holes[3, 7], holes[8, 20], holes[2, 2] = np.nan, np.inf, -np.inf
    frames = [scan.event(number, holes if number == 5 else clean.image(number)) for number in range(1, 11)]
    service.publish(scan.start(), scan.descriptor(), *frames, scan.stop(10))
    metadata = service.ended(scan.key)
    assert (metadata["frames_used"], metadata["frames_unusable"]) == (10, 0)
    assert np.isfinite(service.reader(scan.key).volume()).all()


def test_a_frame_of_nothing_but_nan_is_stored_left_out_and_named(service, documents):
    scan = documents()
    frames = [scan.event(number) for number in range(1, 11)]
    frames[4] = scan.event(5, np.full((12, 32), np.nan, np.float32))
    service.publish(scan.start(), scan.descriptor(), *frames, scan.stop(10))
    metadata = service.ended(scan.key)
    assert (service.stored(scan.key), metadata["frames_used"], metadata["frames_unusable"]) == (10, 9, 1)
    assert "1 left out as unusable" in metadata["reason"]
    assert metadata["warnings"] == [
        warning for warning in metadata["warnings"] if "projection 4 was left out" in warning
    ]
    assert np.isfinite(service.reader(scan.key).volume()).all()


def test_nothing_but_unusable_frames_fails_with_its_reason(service, documents):
    scan = documents()
    frames = [scan.event(number, np.full((12, 32), np.nan, np.float32)) for number in range(1, 6)]
    service.publish(scan.start(), scan.descriptor(), *frames, scan.stop(5))
    assert "got 0 usable of 5 stored" in service.ended(scan.key, "failed")["reason"]


def test_an_angle_that_is_not_finite_is_refused_and_counted(service, documents):
    scan = documents()
    frames = [scan.event(number) for number in range(1, 9)]
    frames[3][1]["data"]["theta"] = float("nan")
    service.publish(scan.start(), scan.descriptor(), *frames, scan.stop(8))
    assert service.ended(scan.key)["frames_used"] == 7
    assert service.reader(scan.key).acquisition().received["refused"] == {"angle": 1}


def test_transmission_without_flats_or_darks_is_reconstructed_with_a_warning(service, documents):
    scan = documents(fluorescence=False)
    service.publish(*scan.whole())
    metadata = service.ended(scan.key)
    assert metadata["frames_used"] == 26
    assert any("flat" in warning for warning in metadata["warnings"])
    assert any("dark" in warning for warning in metadata["warnings"])


def test_two_runs_at_once_become_two_tomograms(service, documents):
    one, other = documents(sample="one"), documents(sample="other")
    for first, second in zip(one.whole(), other.whole(), strict=True):
        service.publish(first, second)
    for scan, sample in ((one, "one"), (other, "other")):
        metadata = service.ended(scan.key)
        assert (metadata["sample"], metadata["frames_used"]) == (sample, 26)


def test_a_run_that_never_stops_does_not_hold_up_the_next(service, documents, until):
    silent, scan = documents(), documents()
    service.publish(silent.start(), silent.descriptor(), *(silent.event(number) for number in range(1, 5)))
    until(lambda: service.revision(silent.key), "the silent run's volume")
    service.publish(*scan.whole())
    assert service.ended(scan.key)["frames_used"] == 26
    assert silent.uid in [run["uid"] for run in service.ingest()["open_runs"]]
    service.publish(silent.stop(4))
    assert service.ended(silent.key)["frames_used"] == 4


def test_documents_that_come_twice_are_counted_and_change_nothing(service, documents):
    scan = documents()
    for document in scan.whole(8)[:-1]:
        service.publish(document, document)
    service.publish(scan.stop(8))
    assert service.ended(scan.key)["frames_used"] == 8
    assert service.reader(scan.key).acquisition().received["duplicates"] == 8


class Malicious:
    """Runs a command in whoever unpickles it with Python's own unpickler."""

    def __init__(self, command):
        self._command = command

    def __reduce__(self):
        return os.system, (self._command,)


def test_garbage_and_malice_in_mid_scan_are_counted_and_never_executed(service, documents, until, tmp_path):
    before, pid = service.ingest(), service.health("ingest").pid
    trap, scan = tmp_path / "executed", documents()
    first, *rest = scan.whole()
    service.publish(first, *rest[:10])
    evil = pickle.dumps({"uid": Malicious(f"touch {trap}"), "data": Malicious(f"touch {trap}")})

    def counted(name):
        return service.ingest()["source"][name] - before["source"][name]

    with zmq.Context() as context, context.socket(zmq.PUB) as stranger:
        stranger.setsockopt(zmq.LINGER, 1000)
        stranger.connect(f"tcp://{service.settings.proxy.publish}")
        until(lambda: stranger.send(b"garbage") or counted("decode_failures"), "the count of garbage")
        garbage = counted("decode_failures")
        for message in (b"", b"\x00" * 999, b" event " + b"\xff" * 50, b" event " + evil, b" start " + evil):
            stranger.send(message)
        until(lambda: counted("decode_failures") >= garbage + 3, "the count of what cannot be decoded")
        until(lambda: counted("foreign_values") == 2, "the count of what was not looked up")
    service.publish(("banana", {"uid": "yellow"}), ("event", {"descriptor": 7}), ("stop", {}))
    service.publish(*rest[10:])
    assert service.ended(scan.key)["frames_used"] == 26
    until(lambda: counted("unknown_names") == 1, "the unknown name's count")
    assert service.ingest()["malformed"] == before["malformed"] + 4
    assert not trap.exists()
    assert service.health("ingest").pid == pid


def test_a_rotation_axis_that_cannot_be_fails_that_run_alone(service, documents, until):
    scan = documents(rotation_axis=1e9)
    pids = [service.health(name).pid for name in ("ingest", "worker")]
    service.publish(*scan.whole(4))
    metadata = service.ended(scan.key, "failed")
    assert "the rotation axis must lie near the detector's columns" in metadata["reason"]
    assert [service.health(name).pid for name in ("ingest", "worker")] == pids

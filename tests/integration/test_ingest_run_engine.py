"""The in-process callback on a real RunEngine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import bluesky.plans as bp
import numpy as np
import pytest
from ophyd.sim import SynAxis, SynSignal

from pfitre_service.ingest import AddFrames, CloseTomogram, DocumentRules, LiveCallback, TomogramAssembler


@pytest.fixture
def tomography() -> Callable[[int], Any]:
    theta = SynAxis(name="theta")
    camera = SynSignal(func=lambda: np.full((8, 12), theta.position), name="camera")
    return lambda points: bp.scan([camera], theta, 0, points - 1, points)


def test_every_frame_of_a_scan_arrives(RE, tomography):
    assembler = TomogramAssembler(DocumentRules())
    actions: list[Any] = []
    with LiveCallback(lambda name, document: actions.extend(assembler.handle(name, document))) as live:
        RE.subscribe(live)
        RE(tomography(20))
        assert live.flush(10)
    frames = [frame for action in actions if isinstance(action, AddFrames) for frame in action.frames]
    assert [frame.angle for frame in frames] == list(range(20))
    assert all((frame.image == frame.angle).all() for frame in frames)
    assert isinstance(actions[-1], CloseTomogram)
    assert actions[-1].counts.missing == {}


def test_a_handler_that_hangs_does_not_hold_up_the_scan(RE, tomography):
    gate = threading.Event()
    with LiveCallback(lambda name, document: gate.wait(60) and None) as live:
        RE.subscribe(live)
        RE(tomography(20))
        assert live.counts.waiting == 23, "the scan ended while its first document was still in the handler"
        gate.set()
        assert live.flush(10)


def test_a_handler_that_raises_does_not_abort_the_scan(RE, tomography):
    def handle(name: str, document: dict[str, Any]) -> None:
        raise ZeroDivisionError("in the handler")

    stops: list[Any] = []
    RE.subscribe(lambda name, document: stops.append(document["exit_status"]), "stop")
    with LiveCallback(handle) as live:
        RE.subscribe(live)
        RE(tomography(5))
        live.flush(10)
        assert (live.counts.handler_failures, stops) == (8, ["success"])


def test_a_scan_that_outruns_a_full_queue_is_known_to_be_incomplete(RE, tomography):
    gate = threading.Event()
    assembler = TomogramAssembler(DocumentRules())
    actions: list[Any] = []

    def handle(name: str, document: dict[str, Any]) -> None:
        gate.wait(60)
        actions.extend(assembler.handle(name, document))

    with LiveCallback(handle, max_documents=6) as live:
        RE.subscribe(live)
        (uid,) = RE(tomography(20))
        gate.set()
        live.flush(10)
        assert live.counts.incomplete_runs == (uid,)
        refused = live.counts.refused
    assert refused >= 14
    assert actions[-1].counts.missing == {"primary": refused}

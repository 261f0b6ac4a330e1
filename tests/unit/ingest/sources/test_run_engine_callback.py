"""A callback that neither holds up nor breaks the scan it listens to."""

from __future__ import annotations

import logging
import threading
from typing import Any

import numpy as np
import pytest

from pfitre_service.ingest import LiveCallback


@pytest.fixture
def gate() -> threading.Event:
    return threading.Event()


def test_documents_arrive_in_order_in_a_thread_of_its_own(scan):
    seen: list[tuple[str, str]] = []
    with LiveCallback(lambda name, _: seen.append((name, threading.current_thread().name))) as live:
        for name, document in scan.whole(3):
            live(name, document)
        assert live.flush(10)
        assert [name for name, _ in seen] == ["start", "descriptor", "event", "event", "event", "stop"]
        assert {thread for _, thread in seen} == {"pfitre-live-callback"}
        assert (live.counts.offered, live.counts.delivered, live.counts.waiting) == (6, 6, 0)
    assert "pfitre-live-callback" not in {thread.name for thread in threading.enumerate()}


def test_the_handler_gets_a_copy_that_later_changes_do_not_reach(scan, gate):
    seen: list[dict[str, Any]] = []
    with LiveCallback(lambda name, document: (gate.wait(10), seen.append(document))[1]) as live:
        name, document = scan.event(1)
        live(name, document)
        document["data"]["camera"][:] = -1
        document["data"]["theta"] = -1
        gate.set()
        assert live.flush(10)
    assert (seen[0]["data"]["camera"] == 1).all()
    assert seen[0]["data"]["theta"] == 10.0


def test_a_handler_that_raises_is_counted_and_the_rest_arrives(scan, caplog):
    seen = []

    def handle(name: str, document: dict[str, Any]) -> None:
        if document.get("seq_num") == 2:
            raise ZeroDivisionError("in the handler")
        seen.append(name)

    with LiveCallback(handle) as live:
        for name, document in scan.whole(3):
            live(name, document)
        assert not live.flush(10), "one document did not get through"
        assert (live.counts.handler_failures, live.counts.waiting) == (1, 0)
    assert seen == ["start", "descriptor", "event", "event", "stop"]
    assert "going on" in caplog.text


@pytest.mark.parametrize("limit", [{"max_documents": 4}, {"max_bytes": 3 * 4 * 6 * 8}])
def test_a_full_queue_refuses_events_and_marks_the_run(scan, gate, limit):
    seen: list[Any] = []
    with LiveCallback(lambda name, document: (gate.wait(10), seen.append((name, document)))[1], **limit) as live:
        for name, document in scan.whole(20):
            live(name, document)
        assert live.counts.refused >= 16
        assert live.counts.incomplete_runs == ("run-1",)
        gate.set()
        assert not live.flush(10)
    assert [name for name, _ in seen if name != "event"] == ["start", "descriptor", "stop"]
    assert 1 <= sum(name == "event" for name, _ in seen) <= 4


def test_nothing_is_raised_whatever_is_offered(scan, caplog):
    with LiveCallback(lambda name, document: None) as live:
        for document in (None, 5, {"data": threading.Lock()}, {"lock": threading.Lock()}):
            live("event", document)  # type: ignore[arg-type]
        live("descriptor", {})
        live(*scan.start())
        assert not live.flush(10)
        assert (live.counts.refused, live.counts.delivered) == (5, 1)


def test_a_handler_that_hangs_does_not_hang_the_end(scan, gate, caplog):
    live = LiveCallback(lambda name, document: gate.wait(30) and None)
    with caplog.at_level(logging.ERROR):
        for name, document in scan.whole(2):
            live(name, document)
        assert not live.flush(0.05)
        assert not live.close(0.1)
    assert "did not come back" in caplog.text
    live(*scan.event(3))
    assert live.counts.waiting == 1, "what the handler still holds"
    gate.set()
    assert not live.close(10)
    assert live.counts.offered == live.counts.refused + live.counts.delivered


def test_lists_count_by_their_size(scan):
    release = threading.Event()
    with LiveCallback(lambda name, document: release.wait(10) and None, max_bytes=100_000) as live:
        for number in range(1, 5):
            live(*scan.event(number, camera=np.zeros((40, 40)).tolist()))
        assert live.counts.refused >= 2
        release.set()

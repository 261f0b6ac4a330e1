"""A run that TiledWriter writes is followed while it is written to a real server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tiled.catalog
from bluesky import RunEngine
from bluesky_tiled_plugins import TiledWriter
from tiled.client import from_uri

from pfitre_service.addresses import free_ports
from pfitre_service.ingest import AddFrames, AddReferences, CloseTomogram, DocumentRules, TomogramAssembler
from pfitre_service.ingest.sources.tiled_runs import is_due
from pfitre_service.ingest.sources.tiled_source import TiledSource
from pfitre_service.testing.forms import FORMS
from pfitre_service.twin.beamlines.exposures import expose


class Follower:
    """A source in a thread, and what it handed on."""

    def __init__(self, source: TiledSource) -> None:
        self.source = source
        self.documents: list[tuple[str, dict[str, Any]]] = []
        self.changed = threading.Condition()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=source.run, args=(self.handle, self.stop, self.idle))

    def handle(self, name: str, document: dict[str, Any]) -> None:
        with self.changed:
            self.documents.append((name, document))
            self.changed.notify_all()

    def idle(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def names(self) -> list[str]:
        return [name for name, _ in self.documents]

    def until(self, condition: Callable[[], Any]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, 60), (self.names(), self.source.counts)

    def __enter__(self) -> Follower:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self.thread.join(30)
        assert not self.thread.is_alive()


@pytest.fixture
def archive(server, request) -> Iterator[Any]:
    client = from_uri(server.url, api_key=server.api_key)
    yield client.create_container(f"raw-{request.node.name}"[:40].replace("[", "-").replace("]", ""))
    client.context.close()


@pytest.fixture
def silent_server(request, monkeypatch) -> Any:
    """A server of one's own that has no streaming cache."""
    from_database = tiled.catalog.from_uri
    monkeypatch.setattr(
        tiled.catalog, "from_uri", lambda uri, **options: from_database(uri, **{**options, "cache_config": None})
    )
    return request.getfixturevalue("own_server")


def following(archive: Any, **pauses: float) -> Follower:
    return Follower(TiledSource(archive.uri, lambda path: False, **pauses))


def test_events_come_while_the_scan_runs_and_all_of_them_once(RE: RunEngine, archive, tmp_path):
    exposures = expose(angles=5)
    with following(archive) as follower:
        follower.until(lambda: follower.source.counts.connected)
        seen_before_the_end = []

        def wait_for_the_third(name: str, document: dict[str, Any]) -> None:
            if name == "event" and "rotation" in document["data"] and document["seq_num"] == 3:
                follower.until(lambda: sum("rotation" in doc.get("data", {}) for _, doc in follower.documents) >= 3)
                seen_before_the_end.extend(follower.names())

        RE.subscribe(TiledWriter(archive, batch_size=1))
        RE.subscribe(wait_for_the_third)
        RE(FORMS["inline"].plan(exposures, tmp_path))
        follower.until(lambda: "stop" in follower.names())
    assert "stop" not in seen_before_the_end
    assembler = TomogramAssembler(DocumentRules(rotation="rotation"))
    actions = [action for name, document in follower.documents for action in assembler.handle(name, document)]
    frames = [frame for action in actions if isinstance(action, AddFrames) for frame in action.frames]
    np.testing.assert_array_equal(np.stack([frame.image for frame in frames]), exposures.projections)
    np.testing.assert_allclose([frame.angle for frame in frames], exposures.angles)
    assert sum(len(action.frames) for action in actions if isinstance(action, AddReferences)) == 10
    (closed,) = [action for action in actions if isinstance(action, CloseTomogram)]
    assert (closed.exit_status, assembler.counts.duplicates, assembler.counts.missing) == ("success", 0, 0)


def test_the_stream_alone_tells_of_everything(RE: RunEngine, archive, tmp_path):
    never = 3600.0
    RE(FORMS["inline"].plan(expose(angles=2), tmp_path), TiledWriter(archive))
    with following(archive, poll_s=never, safety_s=never) as follower:
        follower.until(lambda: follower.source.counts.connected)
        given_before_the_next = []

        def wait_for_it(name: str, document: dict[str, Any]) -> None:
            if name == "event":
                follower.until(lambda: follower.names().count("event") > len(given_before_the_next))
                given_before_the_next.append(follower.names().count("event"))

        RE.subscribe(TiledWriter(archive, batch_size=1))
        RE.subscribe(wait_for_it)
        RE(FORMS["inline"].plan(expose(angles=4), tmp_path))
        follower.until(lambda: "stop" in follower.names())
    assert given_before_the_next == list(range(1, 15))
    assert [follower.names().count(name) for name in ("start", "descriptor", "event", "stop")] == [1, 3, 14, 1]


@pytest.mark.parametrize(
    ("news", "looked_at", "now", "every_s", "due"),
    [
        (0.0, 100.0, 100.4, 0.5, False),
        (0.0, 100.0, 100.6, 0.5, True),
        (0.0, 100.0, 109.0, 10.0, False),
        (0.0, 100.0, 110.5, 10.0, True),
        (100.1, 100.0, 100.11, 10.0, True),
        (100.1, 100.0, 100.02, 10.0, False),  # a burst of messages is one look
        (99.9, 100.0, 100.1, 10.0, False),
        (99.9, 100.0, 100.3, 10.0, True),  # what was told of may be stored by now
        (98.9, 100.0, 100.3, 10.0, False),
    ],
)
def test_a_look_is_due_after_news_and_now_and_then(news, looked_at, now, every_s, due):
    assert is_due(news, looked_at, now, every_s=every_s) is due


def test_runs_that_ended_before_are_left_alone_and_an_open_one_is_caught_up_with(RE: RunEngine, archive, tmp_path):
    exposures, writer = expose(angles=3), TiledWriter(archive, batch_size=1)
    RE(FORMS["inline"].plan(exposures, tmp_path), writer)
    documents: list[tuple[str, dict[str, Any]]] = []
    RE(FORMS["inline"].plan(exposures, tmp_path), lambda name, document: documents.append((name, document)))
    for name, document in documents[:-2]:
        writer(name, document)
    with following(archive) as follower:
        follower.until(lambda: follower.names().count("event") == 12)
        for name, document in documents[-2:]:
            writer(name, document)
        follower.until(lambda: "stop" in follower.names())
    assert follower.names().count("start") == 1
    assert follower.documents[0][1]["uid"] == documents[0][1]["uid"]
    assert follower.names().count("event") == 13


def test_a_server_without_streaming_is_polled(RE: RunEngine, silent_server, tmp_path):
    client = from_uri(silent_server.url, api_key=silent_server.api_key)
    archive = client.create_container("raw")
    with following(archive) as follower:
        follower.until(lambda: follower.source.counts.connected)
        RE(FORMS["inline"].plan(expose(angles=3), tmp_path), TiledWriter(archive, batch_size=1))
        follower.until(lambda: "stop" in follower.names())
    assert follower.names().count("event") == 13
    client.context.close()


def test_without_a_server_it_says_what_it_waits_for_and_stops_when_told():
    source = TiledSource(f"http://127.0.0.1:{free_ports(1)[0]}", lambda path: False)
    with Follower(source) as follower:
        follower.until(lambda: "does not" in source.counts.waits_for or "refused" in source.counts.waits_for)
    assert not source.counts.connected

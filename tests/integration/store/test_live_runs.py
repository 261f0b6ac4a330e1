"""A run that TiledWriter writes is followed while it is written to a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tiled.catalog
from bluesky import RunEngine
from bluesky_tiled_plugins import TiledWriter
from tiled.client import from_uri

from pfitre_service.ingest.sources.tiled_runs import is_due
from pfitre_service.ingest.sources.tiled_source import TiledSource
from pfitre_service.testing.forms import FORMS
from pfitre_service.twin.beamlines.exposures import expose


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


@pytest.fixture
def following(receiving) -> Callable[..., Any]:
    return lambda archive, **pauses: receiving(TiledSource(archive.uri, lambda path: False, **pauses))


def test_the_stream_alone_tells_of_everything(RE: RunEngine, archive, tmp_path, following):
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


def test_runs_that_ended_before_are_left_alone_and_an_open_one_is_caught_up_with(
    RE: RunEngine, archive, tmp_path, following
):
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


def test_a_server_without_streaming_is_polled(RE: RunEngine, silent_server, tmp_path, following):
    client = from_uri(silent_server.url, api_key=silent_server.api_key)
    archive = client.create_container("raw")
    with following(archive) as follower:
        follower.until(lambda: follower.source.counts.connected)
        RE(FORMS["inline"].plan(expose(angles=3), tmp_path), TiledWriter(archive, batch_size=1))
        follower.until(lambda: "stop" in follower.names())
    assert follower.names().count("event") == 13
    client.context.close()

"""What the service asks of every source of live documents: real publishers, real connections, a real RunEngine."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bluesky.plans as bp
import numpy as np
import pytest
from bluesky.callbacks.zmq import Publisher
from bluesky_kafka import Publisher as KafkaPublisher
from bluesky_tiled_plugins import TiledWriter
from confluent_kafka import Producer
from ophyd.sim import det
from tiled.client import from_uri

from pfitre_service.addresses import free_ports
from pfitre_service.ingest import (
    AddFrames,
    AddReferences,
    CloseTomogram,
    DocumentRules,
    Source,
    SpoolReader,
    SpoolSource,
    SpoolWriter,
    TomogramAssembler,
    ZmqReceiver,
)
from pfitre_service.ingest.sources.kafka_source import KafkaSource
from pfitre_service.ingest.sources.tiled_source import TiledSource
from pfitre_service.testing.forms import FORMS
from pfitre_service.twin.beamlines.exposures import expose

Publish = Callable[[str, dict[str, Any]], None]
PROBE = "probe"


@dataclass(frozen=True)
class Feed:
    """A source, and what a RunEngine subscribes so that its documents come out there."""

    source: Source
    publish: Publish
    loses_what_comes_early: bool = False
    """Whether documents that are published before the source has arrived are lost, as they are in 0MQ."""


@contextmanager
def over_zmq(request: pytest.FixtureRequest) -> Iterator[Feed]:
    """Through what hears publishers and the spool that it fills."""
    folder, stop = request.getfixturevalue("tmp_path") / "spool", threading.Event()
    with (
        SpoolWriter(folder, most_bytes=1 << 30, sync_ms=20) as spool,
        ZmqReceiver("127.0.0.1:0", "127.0.0.1:0") as hearing,
        SpoolReader(folder) as kept,
    ):
        thread = threading.Thread(
            target=hearing.run, args=(lambda parts: spool.append("here", parts), stop, lambda: None), name="receive"
        )
        thread.start()
        publisher = Publisher(hearing.in_address)
        yield Feed(SpoolSource(kept), publisher, loses_what_comes_early=True)
        publisher.close()
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


@contextmanager
def unfilled_spool(address: str, folder: Path) -> Iterator[Source]:
    with SpoolReader(folder / "spool") as spool:
        yield SpoolSource(spool)


@contextmanager
def over_kafka(request: pytest.FixtureRequest) -> Iterator[Feed]:
    """The broker is the one that librdkafka keeps for tests: it lives as long as its producer."""
    topic = "sim.bluesky.runengine.documents"
    producer = Producer({"bootstrap.servers": "none:1", "test.mock.num.brokers": 1, "log_level": 0})
    (only,) = producer.list_topics(timeout=10).brokers.values()
    broker = f"{only.host}:{only.port}"
    publisher = KafkaPublisher(topic, broker, key="sim", producer_config={"log_level": 0})

    def publish(name: str, document: dict[str, Any]) -> None:
        publisher(name, document)
        publisher.flush()

    yield Feed(KafkaSource(broker, [topic], options=KAFKA), publish)
    producer.flush(10)


KAFKA = {"auto.offset.reset": "earliest", "log_level": "0", "session.timeout.ms": "6000"}


@contextmanager
def over_tiled(request: pytest.FixtureRequest) -> Iterator[Feed]:
    server = request.getfixturevalue("server")
    client = from_uri(server.url, api_key=server.api_key)
    archive = client.create_container(f"raw-{uuid.uuid4().hex[:8]}")
    yield Feed(TiledSource(archive.uri, lambda path: False), TiledWriter(archive, batch_size=1))
    client.context.close()


@dataclass(frozen=True)
class Implementation:
    feed: Callable[[pytest.FixtureRequest], AbstractContextManager[Feed]]
    nowhere: Callable[[str, Path], AbstractContextManager[Source]]
    """One that listens at HOST:PORT, or in a folder, where nothing is."""
    waits_for: str
    """What it says that it waits for then."""
    address: str = ""
    """What it says is its address, if not HOST:PORT."""
    slow: bool = False
    """Whether it takes seconds to begin, as a group of Kafka does until its members have met."""


SOURCES = {
    "0MQ": Implementation(over_zmq, unfilled_spool, "the process `receive` does not run", address="the spool"),
    "Kafka": Implementation(
        over_kafka,
        lambda address, folder: nullcontext(KafkaSource(address, ["topic"], options=KAFKA)),
        "Connection refused|down",
        slow=True,
    ),
    "Tiled": Implementation(
        over_tiled,
        lambda address, folder: nullcontext(TiledSource(f"http://{address}", lambda path: False)),
        "does not|refused",
    ),
}
"""A new source has a line here."""


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] * each.slow) for name, each in SOURCES.items()])
def implementation(request: pytest.FixtureRequest) -> Implementation:
    return SOURCES[request.param]


@pytest.fixture
def feed(implementation: Implementation, request: pytest.FixtureRequest) -> Iterator[Feed]:
    with implementation.feed(request) as feed:
        yield feed


def arrived(receiver: Any, feed: Feed) -> None:
    """Returns when what is published from now on comes out."""
    receiver.until(lambda: feed.source.counts.connected or not feed.loses_what_comes_early)
    while feed.loses_what_comes_early and not receiver.documents:
        feed.publish("start", {"uid": PROBE})
        before = receiver.idled
        receiver.until(lambda before=before: receiver.idled > before or receiver.documents)


def without_probes(receiver: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(name, document) for name, document in receiver.documents if document.get("uid") != PROBE]


def test_a_scan_comes_while_it_runs_in_order_and_every_document_once(feed, receiving, RE, tmp_path):
    exposures = expose(angles=5)
    with receiving(feed.source) as receiver:
        arrived(receiver, feed)
        seen_before_the_end: list[str] = []

        def wait_for_the_third(name: str, document: dict[str, Any]) -> None:
            if name == "event" and "rotation" in document["data"] and document["seq_num"] == 3:
                receiver.until(lambda: sum("rotation" in doc.get("data", {}) for _, doc in receiver.documents) >= 3)
                seen_before_the_end.extend(receiver.names())

        RE.subscribe(feed.publish)
        RE.subscribe(wait_for_the_third)
        RE(FORMS["inline"].plan(exposures, tmp_path))
        receiver.until(lambda: "stop" in receiver.names())
        counts = feed.source.counts
    assert "stop" not in seen_before_the_end
    documents = without_probes(receiver)
    assert [name for name, _ in documents].count("event") == len(exposures.angles) + 10
    assembler = TomogramAssembler(DocumentRules(rotation="rotation"))
    actions = [action for name, document in documents for action in assembler.handle(name, document)]
    frames = [frame for action in actions if isinstance(action, AddFrames) for frame in action.frames]
    np.testing.assert_array_equal(np.stack([frame.image for frame in frames]), exposures.projections)
    np.testing.assert_allclose([frame.angle for frame in frames], exposures.angles)
    assert sum(len(action.frames) for action in actions if isinstance(action, AddReferences)) == 10
    (closed,) = [action for action in actions if isinstance(action, CloseTomogram)]
    assert (closed.exit_status, assembler.counts.duplicates, assembler.counts.missing) == ("success", 0, 0)
    assert (counts.connected, counts.waits_for, counts.documents) == (True, "", len(receiver.documents))
    assert counts.last_message_time is not None
    assert counts.messages >= counts.documents
    assert (counts.unknown_names, counts.decode_failures, counts.foreign_values, counts.handler_failures) == (
        0,
        0,
        0,
        0,
    )
    assert not feed.source.counts.connected, "it has left"


def test_where_there_is_nothing_it_says_so_idles_and_stops_when_told(implementation, receiving, tmp_path):
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with implementation.nowhere(address, tmp_path) as source:
        assert source.counts.waits_for
        assert (implementation.address or address) in source.counts.address
        with receiving(source) as receiver:
            receiver.until(lambda: re.search(implementation.waits_for, source.counts.waits_for))
            receiver.until(lambda: receiver.idled >= 3)
    assert not source.counts.connected
    assert (source.counts.messages, source.counts.last_message_time, receiver.documents) == (0, None, [])


def test_what_the_service_raises_is_counted_and_costs_no_other_document(feed, receiving, RE):
    def fail(name: str, document: dict[str, Any]) -> None:
        if document.get("uid") != PROBE:
            raise ZeroDivisionError("a fault of the service")

    with receiving(feed.source, fail) as receiver:
        arrived(receiver, feed)
        RE(bp.count([det], num=2), feed.publish)
        receiver.until(lambda: "stop" in receiver.names())
        receiver.until(lambda: feed.source.counts.handler_failures == 5)
    assert [name for name, _ in without_probes(receiver)] == ["start", "descriptor", "event", "event", "stop"]


@pytest.fixture
def held(feed, receiving, RE) -> Iterator[tuple[Any, threading.Event]]:
    """A receiver whose handler is held up by a start document while a run of 30 events waits behind it; the run goes on
    to its end, and the handler too, at 10 ms a document, when the event is set."""
    going_on = threading.Event()

    def slow(name: str, document: dict[str, Any]) -> None:
        if document.get("uid") != PROBE:
            assert going_on.wait(60)
            threading.Event().wait(0.01)

    with receiving(feed.source, slow) as receiver:
        arrived(receiver, feed)
        RE(bp.count([det], num=30), feed.publish)
        receiver.until(lambda: "start" in [name for name, _ in without_probes(receiver)])
        yield receiver, going_on
        going_on.set()


def test_it_is_idle_now_and_then_while_documents_wait(held):
    receiver, going_on = held
    before = receiver.idled
    going_on.set()
    receiver.until(lambda: receiver.names().count("event") == 30)
    assert receiver.idled - before >= 3


def test_it_stops_when_told_also_while_documents_wait(held):
    receiver, going_on = held
    receiver.stop.set()
    going_on.set()
    receiver.thread.join(20)
    assert not receiver.thread.is_alive()
    assert receiver.names().count("event") < 30

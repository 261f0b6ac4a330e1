"""bluesky-kafka's own publisher, the broker that librdkafka keeps for tests, and the state machine behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import bluesky.plans as bp
import numpy as np
import pytest
from bluesky_kafka import Publisher
from confluent_kafka import Producer

from pfitre_service.addresses import free_ports
from pfitre_service.config import load_settings
from pfitre_service.errors import SettingsError
from pfitre_service.ingest import AddFrames, CloseTomogram, DocumentRules, TomogramAssembler
from pfitre_service.ingest.sources.kafka_source import KafkaSource
from pfitre_service.service.document_source import document_source
from pfitre_service.testing.forms import FORMS
from pfitre_service.twin.beamlines.exposures import expose

TOPIC = "sim.bluesky.runengine.documents"
OPTIONS = {"auto.offset.reset": "earliest", "log_level": "0", "session.timeout.ms": "6000"}


@pytest.fixture
def broker() -> Iterator[str]:
    """Address of a broker inside this process, which lives as long as its producer."""
    producer = Producer({"bootstrap.servers": "none:1", "test.mock.num.brokers": 1, "log_level": 0})
    (only,) = producer.list_topics(timeout=10).brokers.values()
    producer.produce(TOPIC, b"makes the topic")
    producer.flush(10)
    yield f"{only.host}:{only.port}"
    producer.flush(10)


class Receiver:
    """A source in a thread, and what it handed on."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.documents: list[tuple[str, dict[str, Any]]] = []
        self.changed = threading.Condition()
        self.stop = threading.Event()
        self.idled = threading.Event()
        self.fails = 0
        self.thread = threading.Thread(target=source.run, args=(self.handle, self.stop, self.idled.set))

    def handle(self, name: str, document: dict[str, Any]) -> None:
        with self.changed:
            self.documents.append((name, document))
            self.changed.notify_all()
        if self.fails:
            self.fails -= 1
            raise RuntimeError("a fault of the service")

    def until(self, condition: Callable[[], Any], timeout_s: float = 30.0) -> None:
        with self.changed:
            while not condition():
                assert self.changed.wait_for(condition, 0.05) or timeout_s > 0
                timeout_s -= 0.05

    def __enter__(self) -> Receiver:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self.thread.join(20)
        assert not self.thread.is_alive()


def source_at(broker: str, **more: Any) -> KafkaSource:
    return KafkaSource(broker, [TOPIC], options=OPTIONS, **more)


def publisher_to(broker: str) -> Publisher:
    return Publisher(TOPIC, broker, key="sim", producer_config={"log_level": 0})


def test_a_scan_comes_through_kafka_frame_by_frame(RE, broker, tmp_path):
    exposures, publisher = expose(angles=6), publisher_to(broker)
    RE(FORMS["inline"].plan(exposures, tmp_path), publisher)
    publisher.flush()
    with Receiver(source_at(broker)) as receiver:
        receiver.until(lambda: any(name == "stop" for name, _ in receiver.documents))
        receiver.until(lambda: receiver.source.counts.decode_failures)  # another partition, in no order with the first
        counts = receiver.source.counts
        assert (counts.connected, counts.documents, counts.decode_failures) == (True, 21, 1)  # the topic's maker
    assembler = TomogramAssembler(DocumentRules(rotation="rotation"))
    actions = [action for name, document in receiver.documents for action in assembler.handle(name, document)]
    frames = [frame for action in actions if isinstance(action, AddFrames) for frame in action.frames]
    np.testing.assert_array_equal(np.stack([frame.image for frame in frames]), exposures.projections)
    assert any(isinstance(action, CloseTomogram) for action in actions)


def test_a_service_that_starts_again_goes_on_where_it_stopped(RE, broker):
    from ophyd.sim import det

    publisher = publisher_to(broker)
    RE(bp.count([det], num=2), publisher)
    publisher.flush()
    with Receiver(source_at(broker)) as first:
        first.until(lambda: len(first.documents) == 5)
    RE(bp.count([det], num=1), publisher)
    publisher.flush()
    with Receiver(source_at(broker)) as second:
        second.until(lambda: len(second.documents) == 4)
    assert [name for name, _ in second.documents] == ["start", "descriptor", "event", "stop"]


def test_hostile_messages_and_faults_of_the_service_end_nothing(RE, broker):
    from ophyd.sim import det

    producer = Producer({"bootstrap.servers": broker, "log_level": 0})
    for message in (b"\x91" * 1000, b"\xdd\xff\xff\xff\xff", b"\x92\xa4sing\x80", b""):
        producer.produce(TOPIC, message)
    producer.flush(10)
    publisher = publisher_to(broker)
    RE(bp.count([det], num=1), publisher)
    publisher.flush()
    receiver = Receiver(source_at(broker))
    receiver.fails = 1
    with receiver:
        receiver.until(lambda: len(receiver.documents) == 4)
        receiver.until(lambda: receiver.source.counts.messages == 9)  # one of them made the topic
        counts = receiver.source.counts
        assert (counts.decode_failures, counts.unknown_names, counts.documents) == (4, 1, 4)
        assert counts.handler_failures == 1


def test_without_a_broker_it_says_what_it_waits_for_and_stops_when_told():
    address = f"127.0.0.1:{free_ports(1)[0]}"
    source = source_at(address)
    assert "no broker" in source.counts.waits_for
    with Receiver(source) as receiver:
        receiver.until(lambda: "Connection refused" in source.counts.waits_for or "down" in source.counts.waits_for)
        assert receiver.idled.wait(10)
        assert not source.counts.connected


def test_settings_choose_kafka_and_what_it_refuses_is_told():
    kafka = {"kind": "kafka", "address": "127.0.0.1:9092"}
    settings = load_settings(None, {"source": kafka | {"kafka_topics": ["documents"]}})
    assert document_source(settings).counts.address == "kafka://127.0.0.1:9092/documents"
    with pytest.raises(SettingsError, match=r"source\.kafka_topics"):
        document_source(load_settings(None, {"source": kafka}))
    wrong = load_settings(None, {"source": kafka | {"kafka_topics": ["d"], "kafka_options": {"colour": "blue"}}})
    with pytest.raises(SettingsError, match=r"source\.kafka_options.*colour"):
        document_source(wrong).run(lambda name, document: None, threading.Event(), lambda: None)

"""bluesky-kafka's own publisher, and the broker that librdkafka keeps for tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import bluesky.plans as bp
import pytest
from bluesky_kafka import Publisher
from confluent_kafka import Producer

from pfitre_service.config import load_settings
from pfitre_service.errors import SettingsError
from pfitre_service.ingest.sources.kafka_source import KafkaSource
from pfitre_service.service.document_source import document_source

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


def source_at(broker: str, **more: Any) -> KafkaSource:
    return KafkaSource(broker, [TOPIC], options=OPTIONS, **more)


def publisher_to(broker: str) -> Publisher:
    return Publisher(TOPIC, broker, key="sim", producer_config={"log_level": 0})


def test_a_service_that_starts_again_goes_on_where_it_stopped(RE, broker, receiving):
    from ophyd.sim import det

    publisher = publisher_to(broker)
    RE(bp.count([det], num=2), publisher)
    publisher.flush()
    with receiving(source_at(broker)) as first:
        first.until(lambda: len(first.documents) == 5)
    RE(bp.count([det], num=1), publisher)
    publisher.flush()
    with receiving(source_at(broker)) as second:
        second.until(lambda: len(second.documents) == 4)
    assert [name for name, _ in second.documents] == ["start", "descriptor", "event", "stop"]


def test_hostile_messages_and_faults_of_the_service_end_nothing(RE, broker, receiving):
    from ophyd.sim import det

    producer = Producer({"bootstrap.servers": broker, "log_level": 0})
    for message in (b"\x91" * 1000, b"\xdd\xff\xff\xff\xff", b"\x92\xa4sing\x80", b""):
        producer.produce(TOPIC, message)
    producer.flush(10)
    publisher = publisher_to(broker)
    RE(bp.count([det], num=1), publisher)
    publisher.flush()

    def fail_once(name: str, document: dict[str, Any]) -> None:
        if name == "start":
            raise RuntimeError("a fault of the service")

    with receiving(source_at(broker), fail_once) as receiver:
        receiver.until(lambda: len(receiver.documents) == 4)
        receiver.until(lambda: receiver.source.counts.messages == 9)  # one of them made the topic
        counts = receiver.source.counts
        assert (counts.decode_failures, counts.unknown_names, counts.documents) == (4, 1, 4)
        assert counts.handler_failures == 1


def test_settings_choose_kafka_and_what_it_refuses_is_told():
    kafka = {"kind": "kafka", "address": "127.0.0.1:9092"}
    settings = load_settings(None, {"source": kafka | {"kafka_topics": ["documents"]}})
    assert document_source(settings).counts.address == "kafka://127.0.0.1:9092/documents"
    with pytest.raises(SettingsError, match=r"source\.kafka_topics"):
        document_source(load_settings(None, {"source": kafka}))
    wrong = load_settings(None, {"source": kafka | {"kafka_topics": ["d"], "kafka_options": {"colour": "blue"}}})
    with pytest.raises(SettingsError, match=r"source\.kafka_options.*colour"):
        document_source(wrong).run(lambda name, document: None, threading.Event(), lambda: None)

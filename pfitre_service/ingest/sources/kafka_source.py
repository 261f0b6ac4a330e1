"""Documents from Kafka, in the topics that bluesky-kafka's publisher writes. Needs the extra `kafka`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from pfitre_service.errors import SettingsError
from pfitre_service.ingest.decoding.msgpack_decoder import decode_packed
from pfitre_service.ingest.sources.source import Handler, SourceCounts, SourceMonitor

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

_POLL_S = 0.05


class KafkaSource:
    """Consumes topics and hands their documents on.

    Parameters
    ----------
    brokers
        `host:port`, several with commas.
    topics
        Their names; one that begins with `^` is a pattern.
    group
        Name under which the brokers keep how far was read; whoever starts again with it goes on there, and a group that
        is new begins with what comes.
    options
        Further settings of librdkafka, such as `security.protocol`.
    max_message_bytes
        Longer messages are refused.

    Raises
    ------
    SettingsError
        There are no topics.
    """

    def __init__(
        self,
        brokers: str,
        topics: Sequence[str],
        *,
        group: str = "pfitre",
        options: Mapping[str, str] | None = None,
        max_message_bytes: int = 1 << 30,
    ) -> None:
        if not topics:
            raise SettingsError("documents from Kafka need source.kafka_topics, such as beamline.bluesky.documents")
        self._topics = list(topics)
        self._config: dict[str, Any] = {
            "auto.offset.reset": "latest",
            **(options or {}),
            "bootstrap.servers": brokers,
            "group.id": group,
            # Only what was handed on counts as read.
            "enable.auto.offset.store": False,
            "error_cb": self._on_error,
        }
        self._max_message_bytes = max_message_bytes
        self._monitor = SourceMonitor(f"kafka://{brokers}/{','.join(topics)}")
        self._monitor.waits_for = f"no broker of Kafka at {brokers} yet"

    @property
    def counts(self) -> SourceCounts:
        """A snapshot; may be taken from any thread."""
        return self._monitor.counts

    def run(self, handle: Handler, stop: threading.Event, idle: Callable[[], None]) -> None:
        """Receives until it is stopped. Whatever `handle` or `idle` raises is logged and counted, and the loop goes on.

        Parameters
        ----------
        handle
            Takes name and document of each message.
        stop
            Ends it.
        idle
            Called at least 20 times a second, also while messages wait.

        Raises
        ------
        SettingsError
            Kafka's client refuses the options, or is not installed.
        """
        with self._consumer() as consumer:
            logger.info("listening for documents at %s", self._monitor.address)
            next_idle = 0.0
            while not stop.is_set():
                message = consumer.poll(_POLL_S)
                if message is not None:
                    self._take(consumer, message, handle)
                if time.monotonic() >= next_idle:
                    self._monitor.guard("the idle function", idle)
                    next_idle = time.monotonic() + _POLL_S
        self._monitor.connected = False
        logger.info("stopped listening at %s after %d messages", self._monitor.address, self._monitor.messages)

    @contextmanager
    def _consumer(self) -> Iterator[Any]:
        try:
            from confluent_kafka import Consumer, KafkaException
        except ImportError as error:
            raise SettingsError(
                'documents from Kafka need the extra `kafka`: pip install "pfitre-service[kafka]"'
            ) from error
        try:
            consumer = Consumer(self._config, logger=logger)
        except KafkaException as error:
            raise SettingsError(f"Kafka's client refuses its settings (source.kafka_options): {error}") from error
        try:
            consumer.subscribe(self._topics, on_assign=self._on_assign)
            yield consumer
        finally:
            consumer.close()

    def _take(self, consumer: Any, message: Any, handle: Handler) -> None:
        if message.error() is not None:
            self._on_error(message.error())
            return
        self._monitor.connected = True
        value = message.value() or b""
        self._monitor.take(len(value), partial(decode_packed, value, max_bytes=self._max_message_bytes), handle)
        consumer.store_offsets(message)

    def _on_assign(self, consumer: Any, partitions: Sequence[Any]) -> None:
        self._monitor.connected = bool(partitions)
        self._monitor.waits_for = "" if partitions else "the brokers gave another member of the group all partitions"
        logger.info("Kafka gave %d partitions to %s", len(partitions), consumer.memberid())

    def _on_error(self, error: Any) -> None:
        """Kafka's client goes on trying; what it says stands in the status until something arrives."""
        if str(error) != self._monitor.waits_for:
            logger.warning("Kafka at %s: %s", self._monitor.address, error)
        self._monitor.waits_for = str(error)
        if error.code() in _LOST:
            self._monitor.connected = False


_LOST = (-187, -195)
"""librdkafka: all brokers are down; the transport failed."""

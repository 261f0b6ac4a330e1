"""Documents from a bluesky 0MQ proxy: our own subscriber, because bluesky's unpickles whatever reaches it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.addresses import endpoint
from pfitre_service.ingest.decode import UnknownNameError, decode

logger = logging.getLogger(__name__)

_POLL_MS = 50
_LOGGED_FAILURES = 20
"""So many undecodable messages are logged in words; all are counted."""


@dataclass(frozen=True, slots=True)
class ZmqCounts:
    """What a source has seen so far."""

    address: str
    connected: bool
    """Whether there is a connection to the proxy now."""
    messages: int
    bytes: int
    documents: int
    """Messages that were handed on."""
    unknown_names: int
    decode_failures: int
    foreign_values: int
    """Documents in which instances of unknown classes were turned into text."""
    handler_failures: int
    last_message_time: float | None
    """Seconds since the epoch."""


class ZmqSource:
    """Subscribes to a proxy at `address` (`host:port` or `tcp://host:port`, its outgoing side) and hands documents on.

    `prefix` picks one publisher among several; empty takes all. `receive_hwm` messages may wait in the socket: what
    comes beyond is lost without a word from 0MQ, so it is large, and shows as a gap in the sequence numbers. They
    wait in memory: `handle` should hand on what takes long.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:5568",
        *,
        prefix: bytes = b"",
        receive_hwm: int = 20_000,
        max_message_bytes: int = 1 << 30,
    ) -> None:
        self._endpoint = endpoint(address)
        self._prefix = prefix
        self._receive_hwm = receive_hwm
        self._max_message_bytes = max_message_bytes
        self._connected = False
        self._messages = self._bytes = self._documents = self._unknown = self._failures = self._foreign = 0
        self._handler_failures = 0
        self._last_message_time: float | None = None

    @property
    def counts(self) -> ZmqCounts:
        """A snapshot; may be taken from any thread."""
        return ZmqCounts(
            address=self._endpoint,
            connected=self._connected,
            messages=self._messages,
            bytes=self._bytes,
            documents=self._documents,
            unknown_names=self._unknown,
            decode_failures=self._failures,
            foreign_values=self._foreign,
            handler_failures=self._handler_failures,
            last_message_time=self._last_message_time,
        )

    def run(
        self, handle: Callable[[str, dict[str, Any]], None], stop: threading.Event, idle: Callable[[], None]
    ) -> None:
        """Receive until `stop` is set. Calls `idle` at least 20 times a second, also while messages wait.

        Whatever `handle` or `idle` raises is logged and counted, and the loop goes on.
        """
        with _subscriber(self._endpoint, self._prefix, self._receive_hwm) as (subscriber, monitor):
            poller = zmq.Poller()
            poller.register(subscriber, zmq.POLLIN)
            poller.register(monitor, zmq.POLLIN)
            logger.info("listening for documents at %s", self._endpoint)
            next_idle = 0.0
            while not stop.is_set():
                ready = dict(poller.poll(_POLL_MS))
                if monitor in ready:
                    self._follow_connection(monitor)
                if subscriber in ready:
                    self._take(subscriber.recv_multipart(), handle)
                if time.monotonic() >= next_idle:
                    self._guard("the idle function", idle)
                    next_idle = time.monotonic() + _POLL_MS / 1000
        self._connected = False
        logger.info("stopped listening at %s after %d messages", self._endpoint, self._messages)

    def _take(self, parts: list[bytes], handle: Callable[[str, dict[str, Any]], None]) -> None:
        self._messages += 1
        self._bytes += sum(len(part) for part in parts)
        self._last_message_time = time.time()
        try:
            if len(parts) != 1:
                raise DocumentError(f"expected messages of one part, got one of {len(parts)}")
            decoded = decode(parts[0], max_bytes=self._max_message_bytes, prefix=self._prefix)
        except UnknownNameError as error:
            self._unknown += 1
            self._complain(self._unknown, error)
            return
        except DocumentError as error:
            self._failures += 1
            self._complain(self._failures, error)
            return
        if decoded is not None:
            self._documents += 1
            self._tell_foreign(decoded.name, decoded.foreign)
            self._guard(f"the handler of a {decoded.name} document", lambda: handle(decoded.name, decoded.document))

    def _guard(self, what: str, call: Callable[[], None]) -> None:
        """The edge of the source's thread: a failure in the service must not end the reception of documents."""
        try:
            call()
        except Exception:
            self._handler_failures += 1
            logger.exception("%s failed; going on", what)

    def _complain(self, count: int, error: DocumentError) -> None:
        if count <= _LOGGED_FAILURES:
            last = " (further ones are counted only)" if count == _LOGGED_FAILURES else ""
            logger.warning("message from %s left out: %s%s", self._endpoint, error, last)

    def _tell_foreign(self, name: str, classes: frozenset[str]) -> None:
        if classes:
            self._foreign += 1
            if self._foreign <= _LOGGED_FAILURES:
                logger.warning("a %s document held instances of %s, read as text", name, ", ".join(sorted(classes)[:5]))

    def _follow_connection(self, monitor: zmq.Socket[bytes]) -> None:
        event = recv_monitor_message(monitor)["event"]
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED and not self._connected:
            self._connected = True
            logger.info("connected to the document proxy at %s", self._endpoint)
        elif event == zmq.EVENT_DISCONNECTED and self._connected:
            self._connected = False
            logger.warning("lost the document proxy at %s; trying again", self._endpoint)


@contextmanager
def _subscriber(address: str, prefix: bytes, hwm: int) -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    """A connected SUB socket and the socket that tells of its connection; both end with the block."""
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.setsockopt(zmq.RCVHWM, hwm)
        subscriber.setsockopt(zmq.LINGER, 0)
        subscriber.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        monitor = subscriber.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        try:
            subscriber.setsockopt(zmq.SUBSCRIBE, prefix + b" " if prefix else b"")
            subscriber.connect(address)
            yield subscriber, monitor
        finally:
            subscriber.disable_monitor()
            monitor.close(linger=0)

"""Documents from a bluesky 0MQ proxy: our own subscriber, because bluesky's unpickles whatever reaches it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import zmq
from zmq.utils.monitor import recv_monitor_message

from pfitre_service.addresses import endpoint
from pfitre_service.errors import DocumentError
from pfitre_service.ingest.decoding.pickle_decoder import Decoded, decode
from pfitre_service.ingest.sources.source import Handler, SourceCounts, SourceMonitor

logger = logging.getLogger(__name__)

_POLL_MS = 50


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
        self._monitor = SourceMonitor(self._endpoint)
        self._monitor.waits_for = f"no document proxy at {address} yet"

    @property
    def counts(self) -> SourceCounts:
        """A snapshot; may be taken from any thread."""
        return self._monitor.counts

    def run(self, handle: Handler, stop: threading.Event, idle: Callable[[], None]) -> None:
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
                    parts = subscriber.recv_multipart()
                    self._monitor.take(sum(map(len, parts)), partial(self._decode, parts), handle)
                if time.monotonic() >= next_idle:
                    self._monitor.guard("the idle function", idle)
                    next_idle = time.monotonic() + _POLL_MS / 1000
        self._monitor.connected = False
        logger.info("stopped listening at %s after %d messages", self._endpoint, self._monitor.messages)

    def _decode(self, parts: list[bytes]) -> Decoded | None:
        if len(parts) != 1:
            raise DocumentError(f"expected messages of one part, got one of {len(parts)}")
        return decode(parts[0], max_bytes=self._max_message_bytes, prefix=self._prefix)

    def _follow_connection(self, monitor: zmq.Socket[bytes]) -> None:
        event = recv_monitor_message(monitor)["event"]
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED and not self._monitor.connected:
            self._monitor.connected = True
            logger.info("connected to the document proxy at %s", self._endpoint)
        elif event == zmq.EVENT_DISCONNECTED and self._monitor.connected:
            self._monitor.connected = False
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

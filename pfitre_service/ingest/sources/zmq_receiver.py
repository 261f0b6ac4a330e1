"""What hears the documents of 0MQ publishers: each message is kept first, then handed to whoever else listens.

The meeting point of publishers and subscribers, which speaks with bluesky's `Publisher` and `RemoteDispatcher`; or,
where the beamline has such a proxy, a subscriber of it. It decodes nothing: what waits in a socket is lost with the
process, so its loop does nothing that takes long.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

import zmq
from zmq.utils.monitor import recv_monitor_message

from pfitre_service.addresses import endpoint
from pfitre_service.errors import ServiceError
from pfitre_service.ingest.spool.writer import SpoolFullError

logger = logging.getLogger(__name__)

_POLL_MS = 50
_FULL_S = 0.1
_LINGER_MS = 300
"""So long may messages that are still on their way hold up the end."""
_DRAIN_S = 0.3
_LOGGED = 20

Keep = Callable[[Sequence[bytes]], None]
"""Keeps the parts of a message, or raises `SpoolFullError`."""


class ZmqReceiver:
    """Has its addresses from construction on, hears in `run`; a context manager.

    Parameters
    ----------
    in_address
        `host:port` where publishers connect (port 0 takes a free one; see `in_address`); without `out_address`, the
        subscribers' side of another proxy, to connect to.
    out_address
        `host:port` where subscribers connect.
    prefix
        Of the publishers whose messages are kept; empty keeps all.
    hwm
        So many messages may wait in each socket. Beyond that publishers keep theirs, 500 to 1000 by bluesky's default,
        before they drop them.
    max_message_bytes
        Longer messages are counted and not kept.

    Raises
    ------
    ServiceError
        An address cannot be bound.
    SettingsError
        An address cannot be read.
    """

    def __init__(
        self,
        in_address: str = "127.0.0.1:5567",
        out_address: str | None = "127.0.0.1:5568",
        *,
        prefix: bytes = b"",
        hwm: int = 2000,
        max_message_bytes: int = 1 << 30,
    ) -> None:
        self._beginning = prefix + b" " if prefix else b""
        self._max_message_bytes = max_message_bytes
        self.messages = self.kept_bytes = self.oversized = 0
        self.last_message_time: float | None = None
        """Seconds since the epoch."""
        self.longest_s = 0.0
        """That keeping a message took."""
        self.full = ""
        """Why nothing more is taken from the socket now; empty while it is."""
        self.connected = out_address is not None
        """Whether there is somebody to hear from: always, where publishers connect to this side."""
        self._context = zmq.Context()
        self._inside = self._context.socket(zmq.SUB)
        self._outside: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        try:
            self._inside.setsockopt(zmq.RCVHWM, hwm)
            if out_address is None:
                self.in_address, self.out_address = endpoint(in_address), ""
                self._inside.setsockopt(zmq.SUBSCRIBE, self._beginning)
                self._inside.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
                self._monitor = self._inside.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
                self._inside.connect(self.in_address)
            else:
                self._outside = self._context.socket(zmq.PUB)
                self._outside.setsockopt(zmq.SNDHWM, hwm)
                self._inside.setsockopt(zmq.SUBSCRIBE, b"")
                self.in_address = _bind(self._inside, in_address)
                """Where publishers connect."""
                self.out_address = _bind(self._outside, out_address)
                """Where subscribers connect."""
        except BaseException:
            self.close()
            raise

    def run(self, keep: Keep, stop: threading.Event, idle: Callable[[], None]) -> None:
        """Hears until it is stopped, then what still waits in the socket.

        Parameters
        ----------
        keep
            Takes the parts of each message.
        stop
            Ends it.
        idle
            Called at least ten times a second.
        """
        logger.info("listening for documents at %s", self.in_address)
        poller = zmq.Poller()
        for socket in filter(None, (self._inside, self._monitor)):
            poller.register(socket, zmq.POLLIN)
        next_idle = 0.0
        while not stop.is_set():
            ready = dict(poller.poll(_POLL_MS))
            if self._monitor is not None and self._monitor in ready:
                self._follow_connection(recv_monitor_message(self._monitor)["event"])
            if self._inside in ready:
                self._take(self._inside.recv_multipart(), keep, stop, idle)
            if time.monotonic() >= next_idle:
                idle()
                next_idle = time.monotonic() + _POLL_MS / 1000
        ends_at = time.monotonic() + _DRAIN_S
        while self._inside.poll(0) and time.monotonic() < ends_at:
            self._take(self._inside.recv_multipart(), keep, stop, idle)
        logger.info("stopped listening at %s after %d messages", self.in_address, self.messages)

    def close(self) -> None:
        """Free the addresses; messages to subscribers get a moment. May be called twice."""
        if self._monitor is not None and not self._monitor.closed:
            self._inside.disable_monitor()
            self._monitor.close(linger=0)
        self._inside.close(linger=0)
        if self._outside is not None:
            self._outside.close(linger=_LINGER_MS)
        self._context.term()

    def __enter__(self) -> ZmqReceiver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, parts: list[bytes], keep: Keep, stop: threading.Event, idle: Callable[[], None]) -> None:
        began = time.monotonic()
        nbytes = sum(map(len, parts))
        self.messages += 1
        self.last_message_time = time.time()
        if nbytes > self._max_message_bytes:
            self._leave_out(nbytes)
        elif parts[0].startswith(self._beginning):
            self._keep(parts, keep, stop, idle)
            self.kept_bytes += nbytes
            self.longest_s = max(self.longest_s, time.monotonic() - began)
        if self._outside is not None:
            self._outside.send_multipart(parts, copy=False)

    def _keep(self, parts: list[bytes], keep: Keep, stop: threading.Event, idle: Callable[[], None]) -> None:
        """While there is no room, nothing more is taken from the socket: it fills, and then those of the publishers."""
        while True:
            try:
                keep(parts)
            except SpoolFullError as error:
                if not self.full:
                    logger.error("%s; publishers have to wait", error)
                self.full = str(error)
                idle()
                if stop.is_set() or stop.wait(_FULL_S):
                    logger.error("message %d is lost: it was heard, and there was no room to keep it", self.messages)
                    return
            else:
                if self.full:
                    logger.warning("there is room in the spool again")
                self.full = ""
                return

    def _leave_out(self, nbytes: int) -> None:
        self.oversized += 1
        if self.oversized <= _LOGGED:
            last = " (further ones are counted only)" if self.oversized == _LOGGED else ""
            most = self._max_message_bytes
            logger.warning("a message of %d bytes is longer than %d and not kept%s", nbytes, most, last)

    def _follow_connection(self, event: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED and not self.connected:
            self.connected = True
            logger.info("connected to the document proxy at %s", self.in_address)
        elif event == zmq.EVENT_DISCONNECTED and self.connected:
            self.connected = False
            logger.warning("lost the document proxy at %s; trying again", self.in_address)


def _bind(socket: zmq.Socket[bytes], address: str) -> str:
    """Bind and return the address with its real port."""
    wanted = endpoint(address)
    try:
        socket.bind(wanted)
    except zmq.ZMQError as error:
        raise ServiceError(
            f"the document proxy cannot bind {wanted}: {error.strerror}; is another proxy running? Choose another port"
        ) from error
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)

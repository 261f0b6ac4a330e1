"""The meeting point of publishers and subscribers: messages in at one address, out at another.

Speaks with bluesky's `Publisher` and `RemoteDispatcher`. Bluesky's own proxy cannot be stopped but by a signal and
loses what is past a fixed 1000 messages per socket; this one stops in order, has a high mark, and counts.
"""

from __future__ import annotations

import logging
import threading
from types import TracebackType

import zmq

from pfitre_service.addresses import endpoint
from pfitre_service.errors import ServiceError

logger = logging.getLogger(__name__)

_POLL_MS = 100
_LINGER_MS = 300
"""So long may messages that are still on their way hold up the end."""


class DocumentProxy:
    """Binds both addresses at once (port 0 takes a free one; see `in_address`, `out_address`), forwards in `run`."""

    def __init__(
        self, in_address: str = "127.0.0.1:5567", out_address: str = "127.0.0.1:5568", *, hwm: int = 20_000
    ) -> None:
        self._context = zmq.Context()
        self._inside = self._context.socket(zmq.SUB)
        self._outside = self._context.socket(zmq.PUB)
        self._forwarded = 0
        try:
            self._inside.setsockopt(zmq.RCVHWM, hwm)
            self._inside.setsockopt(zmq.SUBSCRIBE, b"")
            self._outside.setsockopt(zmq.SNDHWM, hwm)
            self.in_address = _bind(self._inside, in_address)
            """Where publishers connect."""
            self.out_address = _bind(self._outside, out_address)
            """Where subscribers connect."""
        except BaseException:
            self.close()
            raise

    @property
    def forwarded(self) -> int:
        """Messages passed on so far."""
        return self._forwarded

    def run(self, stop: threading.Event) -> None:
        """Forward until `stop` is set; ends within a tenth of a second of it. Blocks; sockets stay bound."""
        logger.info("document proxy: publishers to %s, subscribers to %s", self.in_address, self.out_address)
        while not stop.is_set():
            if self._inside.poll(_POLL_MS):
                self._outside.send_multipart(self._inside.recv_multipart(copy=False), copy=False)
                self._forwarded += 1
        logger.info("document proxy stopped after %d messages", self._forwarded)

    def close(self) -> None:
        """Free both addresses; messages on their way get a moment. May be called twice."""
        self._inside.close(linger=0)
        self._outside.close(linger=_LINGER_MS)
        self._context.term()

    def __enter__(self) -> DocumentProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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

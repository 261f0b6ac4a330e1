"""What every live source does with a message: decode it, hand its document on, count what became of it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.decoding.pickle_decoder import Decoded, UnknownNameError

logger = logging.getLogger(__name__)

_LOGGED_FAILURES = 20
"""So many undecodable messages are logged in words; all are counted."""

Handler = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """What a source has seen so far."""

    address: str
    """Where documents come from."""
    connected: bool
    """Whether there is a connection to where documents come from now."""
    waits_for: str
    """Why there is none, as far as is known."""
    messages: int
    """That arrived."""
    bytes: int
    """Of these messages."""
    documents: int
    """Messages that were handed on."""
    unknown_names: int
    """Messages whose document name Bluesky does not know."""
    decode_failures: int
    """Messages that are no documents."""
    foreign_values: int
    """Documents in which instances of unknown classes were turned into text."""
    handler_failures: int
    """Documents at which the handler raised."""
    last_message_time: float | None
    """Seconds since the epoch."""


class Source(Protocol):
    """Where live documents come from."""

    @property
    def counts(self) -> SourceCounts:
        """A snapshot; may be taken from any thread."""

    def run(self, handle: Handler, stop: threading.Event, idle: Callable[[], None]) -> None:
        """Receives until it is stopped. Whatever `handle` or `idle` raises is logged and counted, and the loop goes on.

        Parameters
        ----------
        handle
            Takes name and document of each message.
        stop
            Ends it.
        idle
            Called many times a second, also while messages wait.
        """


class SourceMonitor:
    """Counts what became of messages. Belongs to the thread of one source.

    Parameters
    ----------
    address
        Where documents come from.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.connected = False
        self.waits_for = ""
        self.messages = 0
        self._bytes = self._documents = self._unknown = self._failures = self._foreign = 0
        self._handler_failures = 0
        self._last_message_time: float | None = None

    @property
    def counts(self) -> SourceCounts:
        """A snapshot; may be taken from any thread."""
        return SourceCounts(
            address=self.address,
            connected=self.connected,
            waits_for="" if self.connected else self.waits_for,
            messages=self.messages,
            bytes=self._bytes,
            documents=self._documents,
            unknown_names=self._unknown,
            decode_failures=self._failures,
            foreign_values=self._foreign,
            handler_failures=self._handler_failures,
            last_message_time=self._last_message_time,
        )

    def take(self, size: int, decode: Callable[[], Decoded | None], handle: Handler) -> None:
        """Takes in one message.

        Parameters
        ----------
        size
            Bytes.
        decode
            Gives its document, or None where it is none of ours.
        handle
            Takes name and document.
        """
        self.messages += 1
        self._bytes += size
        self._last_message_time = time.time()
        try:
            decoded = decode()
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
            self.guard(f"the handler of a {decoded.name} document", lambda: handle(decoded.name, decoded.document))

    def guard(self, what: str, call: Callable[[], None]) -> None:
        """Calls, and logs and counts whatever is raised: a failure in the service must not end the reception of
        documents.

        Parameters
        ----------
        what
            Is called, in words.
        call
            The function.
        """
        try:
            call()
        except Exception:
            self._handler_failures += 1
            logger.exception("%s failed; going on", what)

    def _complain(self, count: int, error: DocumentError) -> None:
        if count <= _LOGGED_FAILURES:
            last = " (further ones are counted only)" if count == _LOGGED_FAILURES else ""
            logger.warning("message from %s left out: %s%s", self.address, error, last)

    def _tell_foreign(self, name: str, classes: frozenset[str]) -> None:
        if classes:
            self._foreign += 1
            if self._foreign <= _LOGGED_FAILURES:
                logger.warning("a %s document held instances of %s, read as text", name, ", ".join(sorted(classes)[:5]))

"""Documents out of the spool, which the process that hears 0MQ publishers fills."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.decoding.pickle_decoder import Decoded, decode
from pfitre_service.ingest.sources.source import Handler, SourceCounts, SourceMonitor
from pfitre_service.ingest.spool.reader import SpoolReader
from pfitre_service.ingest.spool.records import Record

logger = logging.getLogger(__name__)

_POLL_S = 0.05
_LOOK_S = 1.0


class SpoolSource:
    """Reads `spool` from its settled position on and hands documents on.

    Parameters
    ----------
    spool
        Belongs to the thread of `run`.
    prefix
        Picks one publisher among several; empty takes all.
    max_message_bytes
        Longer messages are refused unread.
    has_room
        Whether what a message of so many bytes holds can be taken in now; until then it stays where it is.
    """

    def __init__(
        self,
        spool: SpoolReader,
        *,
        prefix: bytes = b"",
        max_message_bytes: int = 1 << 30,
        has_room: Callable[[int], bool] = lambda nbytes: True,
    ) -> None:
        self._spool = spool
        self._prefix = prefix
        self._max_message_bytes = max_message_bytes
        self._has_room = has_room
        self.number = spool.number
        """Of the record in hand; between two, of the next one."""
        self.behind_s = 0.0
        """From the last message's being heard to its being taken in."""
        self._monitor = SourceMonitor("the spool")
        self._monitor.waits_for = "nothing is heard: the process `receive` does not run, or has another data_dir"

    @property
    def counts(self) -> SourceCounts:
        """A snapshot; may be taken from any thread."""
        return self._monitor.counts

    def run(self, handle: Handler, stop: threading.Event, idle: Callable[[], None]) -> None:
        """Reads until it is stopped. Whatever `handle` or `idle` raises is logged and counted, and the loop goes on.

        Parameters
        ----------
        handle
            Takes name and document.
        stop
            Ends it.
        idle
            Called at least 20 times a second, also while messages wait.
        """
        logger.info("reading the spool from message %d on", self.number)
        next_idle = next_look = 0.0
        waiting: Record | None = None
        while not stop.is_set():
            record = waiting or self._spool.next(_POLL_S)
            waiting = None
            if record is not None and not self._has_room(len(record.message)):
                waiting = record
                stop.wait(_POLL_S)
            elif record is not None:
                self._take(record, handle)
            if time.monotonic() >= next_look:
                self._monitor.connected = self._spool.has_writer
                next_look = time.monotonic() + _LOOK_S
            if time.monotonic() >= next_idle:
                self._monitor.guard("the idle function", idle)
                next_idle = time.monotonic() + _POLL_S
        self._monitor.connected = False
        logger.info("stopped reading the spool after %d messages", self._monitor.messages)

    def _take(self, record: Record, handle: Handler) -> None:
        self.number = record.number
        self.behind_s = time.time() - record.time
        with self._spool.in_hand(record) as allowed:
            if allowed:
                self._monitor.take(len(record.message), partial(self._decode, record), handle)
        self.number = record.number + 1

    def _decode(self, record: Record) -> Decoded | None:
        if record.parts != 1:
            raise DocumentError(f"expected messages of one part, got one of {record.parts}")
        return decode(record.message, max_bytes=self._max_message_bytes, prefix=self._prefix)

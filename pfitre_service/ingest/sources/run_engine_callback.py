"""Documents from a RunEngine in the same process, without ever holding up or breaking its scan.

with LiveCallback(handle) as live:
    RE.subscribe(live)
    RE(scan)
    live.flush(10)
"""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

_RESERVE = 1000
"""Places beyond the limit for what a run cannot be understood without: start, descriptor, stop."""
_BULKY = frozenset({"event", "event_page", "bulk_events"})
_MAX_MARKED = 100
_LOGGED_FAILURES = 20


@dataclass(frozen=True, slots=True)
class CallbackCounts:
    """What went through a callback so far."""

    offered: int
    """Documents that the RunEngine emitted."""
    delivered: int
    """Documents that the handler took without an error."""
    waiting: int
    """Documents in the queue or in the handler now."""
    waiting_bytes: int
    """Of their arrays and lists."""
    refused: int
    """Documents that found the queue full or closed, or could not be copied: they are lost."""
    handler_failures: int
    """Documents at which the handler raised."""
    incomplete_runs: tuple[str, ...]
    """Runs, or descriptors where the run is not known, of which documents were refused."""


class LiveCallback:
    """Subscribe this to a RunEngine: copies each document into a bounded queue, and a thread of its own calls `handle`.

    A call costs the copy and some microseconds, waits for nothing, and never raises. When too much waits, events are
    refused, counted, and their run is marked as incomplete; start, descriptor and stop documents still find a place.

    Parameters
    ----------
    handle
        Takes name and document, in the thread.
    max_bytes
        Of arrays that may wait.
    max_documents
        That may wait.
    """

    def __init__(
        self,
        handle: Callable[[str, dict[str, Any]], None],
        *,
        max_bytes: int = 1 << 30,
        max_documents: int = 10_000,
    ) -> None:
        self._handle = handle
        self._max_bytes = max_bytes
        self._max_documents = max_documents
        self._queue: deque[tuple[str, dict[str, Any], int]] = deque()
        self._changed = threading.Condition()
        self._closed = self._busy = False
        self._bytes = self._offered = self._delivered = self._refused = self._failures = 0
        self._run_of: dict[str, str] = {}
        """Descriptor uid to run uid, of the last runs."""
        self._incomplete: dict[str, None] = {}
        self._thread = threading.Thread(target=self._deliver, name="pfitre-live-callback", daemon=True)
        self._thread.start()

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Takes a copy of one document; what fails here is counted and logged, and the scan goes on.

        Parameters
        ----------
        name
            Of the document, such as event.
        doc
            As the RunEngine emits it.
        """
        try:
            self._offer(name, doc)
        except Exception:
            # The edge to the RunEngine: an exception here would abort somebody's scan.
            with self._changed:
                self._refused += 1
            logger.exception("a %s document cannot be understood and is lost", name)

    @property
    def counts(self) -> CallbackCounts:
        """A snapshot; may be taken from any thread."""
        with self._changed:
            return CallbackCounts(
                offered=self._offered,
                delivered=self._delivered,
                waiting=len(self._queue) + self._busy,
                waiting_bytes=self._bytes,
                refused=self._refused,
                handler_failures=self._failures,
                incomplete_runs=tuple(self._incomplete),
            )

    def flush(self, timeout: float) -> bool:
        """Waits until nothing waits any more.

        Parameters
        ----------
        timeout
            Seconds, at most.

        Returns
        -------
        bool
            Whether every document so far was delivered.
        """
        with self._changed:
            drained = self._changed.wait_for(lambda: not self._queue and not self._busy, timeout)
            return drained and self._delivered == self._offered

    def close(self, timeout: float = 10.0) -> bool:
        """Takes nothing more and delivers what waits; what is left after that is dropped and counted as refused.

        Parameters
        ----------
        timeout
            Seconds, at most.

        Returns
        -------
        bool
            Whether every document was delivered.
        """
        end = time.monotonic() + timeout
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        complete = self.flush(timeout)
        with self._changed:
            self._refused += len(self._queue)
            self._queue.clear()
            self._bytes = 0
            self._changed.notify_all()
        self._thread.join(max(0.0, end - time.monotonic()) + 0.1)
        if self._thread.is_alive():
            logger.error("the handler of live documents did not come back within %.1f s", timeout)
        if not complete:
            logger.warning("not every live document was delivered: %s", self.counts)
        return complete

    def __enter__(self) -> LiveCallback:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the RunEngine's thread --------------------------------------------------------------------------------------

    def _offer(self, name: str, doc: dict[str, Any]) -> None:
        size = _size(doc) if name in _BULKY else 0
        with self._changed:
            self._offered += 1
            self._remember(name, doc)
            if self._closed or self._full(name, size):
                self._refuse(name, doc)
                return
        try:
            document = copy.deepcopy(doc)
        except Exception:
            logger.exception("a %s document cannot be copied and is lost", name)
            document = None
        with self._changed:
            if document is None or self._closed:
                self._refuse(name, doc)
                return
            self._queue.append((name, document, size))
            self._bytes += size
            self._changed.notify_all()

    def _refuse(self, name: str, doc: dict[str, Any]) -> None:
        self._refused += 1
        self._mark(name, doc)

    def _full(self, name: str, size: int) -> bool:
        if name not in _BULKY:
            return len(self._queue) >= self._max_documents + _RESERVE
        return len(self._queue) >= self._max_documents or self._bytes + size > self._max_bytes

    def _remember(self, name: str, doc: dict[str, Any]) -> None:
        if name == "descriptor":
            self._run_of[doc["uid"]] = doc["run_start"]
            while len(self._run_of) > _MAX_MARKED:
                del self._run_of[next(iter(self._run_of))]

    def _mark(self, name: str, doc: dict[str, Any]) -> None:
        descriptor = str(doc.get("descriptor"))
        run = self._run_of.get(descriptor, descriptor) if name in _BULKY else doc.get("run_start", doc.get("uid"))
        if str(run) not in self._incomplete:
            logger.error("the queue of live documents is full or closed: run %s is incomplete from here on", run)
            self._incomplete[str(run)] = None
            while len(self._incomplete) > _MAX_MARKED:
                del self._incomplete[next(iter(self._incomplete))]

    # -- the callback's own thread -----------------------------------------------------------------------------------

    def _deliver(self) -> None:
        while (taken := self._next()) is not None:
            name, document, size = taken
            failed = not self._try(name, document)
            del taken, document
            with self._changed:
                self._busy = False
                self._bytes = max(0, self._bytes - size)
                self._failures += failed
                self._delivered += not failed
                self._changed.notify_all()

    def _next(self) -> tuple[str, dict[str, Any], int] | None:
        """The oldest document, as soon as there is one; None once closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            if not self._queue:
                return None
            self._busy = True
            return self._queue.popleft()

    def _try(self, name: str, document: dict[str, Any]) -> bool:
        try:
            self._handle(name, document)
        except Exception:
            # The edge of this thread: one document that fails must not end the reception of the others.
            if self._failures < _LOGGED_FAILURES:
                logger.exception("the handler of a %s document failed; going on", name)
            return False
        return True


def _size(doc: Mapping[str, Any]) -> int:
    """Bytes of the arrays and lists in an event's data, roughly; the rest of a document is small."""
    data = doc.get("data")
    return sum(_bytes(value) for value in data.values()) if isinstance(data, Mapping) else 0


def _bytes(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, list | tuple) and value:
        return len(value) * max(32, _bytes(value[0]))
    return 0

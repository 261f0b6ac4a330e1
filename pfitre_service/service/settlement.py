"""When what stands in the spool is needed no more: what came of it is stored, and no open run began there.

A run is assembled from its start on, so the spool keeps it from there until its end is stored: after a crash it comes
once more, whole, and what is stored already is found to be so. Where that would fill the spool, its beginning is given
up, and it would be resumed from the catalogue alone.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.decoding.pickle_decoder import decode
from pfitre_service.ingest.spool.reader import SpoolReader
from pfitre_service.service.ingestion import Ingestion

logger = logging.getLogger(__name__)

_MAX_DONE = 1000
"""Runs that are known to be stored whole; more begin afresh after a crash, which costs time and nothing else."""
_SLACK_S = 1.0


@dataclass(frozen=True, slots=True)
class _Mark:
    """What may be settled once `is_stored`."""

    number: int
    done: tuple[str, ...]
    is_stored: Callable[[], bool]
    at: float
    """Monotonic seconds."""


class Settlement:
    """Belongs to the thread that reads the spool.

    Parameters
    ----------
    spool, ingestion
        Where messages come from, and what takes them in.
    most_bytes
        Of the spool, as its writer was told: over half of that, open runs hold nothing any more.
    hold_s
        So long may a document wait for what it refers to.
    """

    def __init__(self, spool: SpoolReader, ingestion: Ingestion, *, most_bytes: int, hold_s: float) -> None:
        self._spool = spool
        self._ingestion = ingestion
        self._most_bytes = most_bytes
        self._hold_s = hold_s + _SLACK_S
        self._in_catalogue = set(ingestion.open_runs)
        """Open runs that the spool does not hold from their start on."""
        self._first: dict[str, int] = {}
        """Record of the start of each open run."""
        self._done: dict[str, int] = dict.fromkeys(spool.position.done, spool.position.number)
        """The same of runs that ended."""
        self._marks: deque[_Mark] = deque()

    def took_start(self, number: int) -> None:
        """A start document, record `number`, was taken in."""
        for uid in self._ingestion.open_runs:
            if uid not in self._in_catalogue:
                self._first.setdefault(uid, number)

    def settle(self, following: int) -> None:
        """Settle what can be; called now and then. `following`: the record after the last that was taken in."""
        if self._spool.nbytes > self._spool.limit(self._most_bytes) // 2:
            self._let_go()
        self._mark(following)
        now, last = time.monotonic(), None
        held = self._ingestion.held > 0
        while self._marks and self._marks[0].is_stored() and not (held and now - self._marks[0].at < self._hold_s):
            last = self._marks.popleft()
        if last is not None:
            self._spool.settle(last.number, last.done)

    def _mark(self, following: int) -> None:
        open_runs = set(self._ingestion.open_runs)
        ended = {uid: first for uid, first in self._first.items() if uid not in open_runs}
        self._first = {uid: first for uid, first in self._first.items() if uid in open_runs}
        self._in_catalogue &= open_runs
        number = min([*self._first.values(), following])
        known = [(uid, first) for uid, first in (self._done | ended).items() if first >= number]
        self._done = dict(known[-_MAX_DONE:])
        done = tuple(self._done)
        last = self._marks[-1] if self._marks else self._spool.position
        if (number, done) != (last.number, last.done):
            self._marks.append(_Mark(number, done, self._ingestion.until_stored(), time.monotonic()))

    def _let_go(self) -> None:
        if self._first:
            logger.warning(
                "the spool is half full: what was heard of the open runs %s so far is kept by the catalogue alone",
                ", ".join(uid[:8] for uid in self._first),
            )
        self._in_catalogue |= self._first.keys()
        self._first.clear()


def coming_runs(spool: SpoolReader, max_bytes: int, beat: Callable[[], object]) -> set[str]:
    """Uids of the runs whose start documents are in the spool and not settled. Calls `beat` for each."""
    found: set[str] = set()
    for record in spool.unsettled(b" start "):
        beat()
        try:
            decoded = decode(record.message, max_bytes=max_bytes)
        except DocumentError:  # told of and counted when it is read in its turn
            continue
        if decoded is not None and decoded.name == "start":
            found.add(str(decoded.document.get("uid")))
    return found

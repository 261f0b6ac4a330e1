"""Documents that came before what they refer to: a bounded place to wait."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class PendingDocument:
    """A document that waits for the start or descriptor `wanted`."""

    wanted: str
    name: str
    document: dict[str, Any]
    since: float | None = None
    """The first check of the clock after it came."""


class PendingDocuments:
    """Keeps at most `room` documents, in the order of their arrival."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._held: deque[PendingDocument] = deque()

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, wanted: str, name: str, document: dict[str, Any]) -> list[PendingDocument]:
        """Let a document wait; returns what had to give way for it."""
        self._held.append(PendingDocument(wanted, name, document))
        return [self._held.popleft() for _ in range(len(self._held) - self._room)]

    def release(self, wanted: str) -> list[PendingDocument]:
        """Everything that waited for `wanted`, in the order of its arrival."""
        ready = [held for held in self._held if held.wanted == wanted]
        self._held = deque(held for held in self._held if held.wanted != wanted)
        return ready

    def expire(self, now: float, hold_s: float) -> list[PendingDocument]:
        """Everything that waited for `hold_s` seconds or more."""
        for held in self._held:
            held.since = now if held.since is None else held.since
        old = [held for held in self._held if held.since is not None and now - held.since >= hold_s]
        gone = {id(held) for held in old}
        self._held = deque(held for held in self._held if id(held) not in gone)
        return old

"""What belongs to one event comes in parts: the event itself, and references to files. They are joined by seq_num.

A plan that is paused and resumed takes points again, under the same descriptor and seq_num: what is new is the uid of
the document. So a part counts once by its number and its origin, the uid of the document that brought it, and a number
whose parts come from new documents is a retake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.sequence import Arrival, SequenceTracker

EVENT = ""
"""Name of the part that is the event document; the others are named by their data key."""
_MAX_AHEAD = 1_000_000
"""A sequence number further than this beyond the highest one is taken for garbage."""
_MAX_INCOMPLETE = 100_000
_MAX_PARTS = 10_000_000
"""Of a stream: 100 bytes are kept of each."""


class Whole(NamedTuple):
    """An event of which all parts have come."""

    arrival: Arrival
    parts: Mapping[str, Any]
    origin: str
    """Uid of the document that makes it this take and no other: see `EventJoin.defining`."""


class _Part(NamedTuple):
    value: Any
    origin: str


@dataclass(slots=True)
class EventJoin:
    """The events of one stream that are not whole yet, and what came of those that were."""

    needs: frozenset[str]
    seen: SequenceTracker = field(default_factory=SequenceTracker)
    incomplete: dict[int, dict[str, _Part]] = field(default_factory=dict)
    _known: set[int] = field(default_factory=set)
    """Hashes of (number, part, origin) of every part that came."""

    @property
    def defining(self) -> str:
        """The part whose origin names a take: the event itself, or where there is none the first of the references."""
        return EVENT if EVENT in self.needs or not self.needs else min(self.needs)

    @property
    def furthest(self) -> int:
        """The highest number that is not taken for garbage."""
        return self.seen.highest + _MAX_AHEAD

    def check(self, number: int) -> None:
        """Raises `DocumentError` for a number that is taken for garbage."""
        if number > self.furthest:
            raise DocumentError(f"the seq_num {number} is taken for garbage")

    def knows(self, number: int, part: str, origin: str) -> bool:
        """Whether this very part has come before."""
        return hash((number, part, origin)) in self._known

    def was_stored(self, number: int, origin: str) -> None:
        """Take note of an event that a process before this one has stored; `origin` as in `Whole`."""
        self.seen.add(number)
        self._known.add(hash((number, self.defining, origin)))

    def add(self, number: int, part: str, value: Any, origin: str) -> Whole | None:
        """Take in a part; returns the whole event, or that the part is a duplicate; None when something lacks.

        Raises `DocumentError` when too many events are not whole.
        """
        if self.knows(number, part, origin):
            return Whole("duplicate", {}, origin)
        parts = self.incomplete.get(number, {})
        if not parts and self.seen.has(number) and part not in self.needs:
            return None  # the event document of frames that streamed files hold
        if number not in self.incomplete and len(self.incomplete) >= _MAX_INCOMPLETE:
            raise DocumentError(f"{_MAX_INCOMPLETE} events already wait for a part")
        if len(self._known) >= _MAX_PARTS:
            raise DocumentError(f"a stream of a run has more than {_MAX_PARTS} events")
        self._known.add(hash((number, part, origin)))
        before = parts.get(part)
        if before is not None and part == EVENT:  # with what the datums of that event brought
            parts = {name: one for name, one in parts.items() if one.origin != before.origin}
        parts = {**parts, part: _Part(value, origin)}
        if not self.needs <= parts.keys():
            self.incomplete[number] = parts
            return None
        self.incomplete.pop(number, None)
        arrival: Arrival = "retaken" if self.seen.has(number) else self.seen.add(number)
        return Whole(arrival, {name: one.value for name, one in parts.items()}, parts[self.defining].origin)

    def begun_again(self) -> list[int]:
        """Numbers of events that were whole, of which the event document came anew and other parts did not."""
        return [n for n, parts in self.incomplete.items() if self.seen.has(n) and self.defining in parts]

    def never_whole(self) -> list[int]:
        """Numbers of the events of which only parts came."""
        return [number for number in self.incomplete if not self.seen.has(number)]

    def lacking(self) -> Iterable[str]:
        """Names of the parts that never came, over all events that are not whole."""
        return sorted({name for parts in self.incomplete.values() for name in self.needs - parts.keys()})

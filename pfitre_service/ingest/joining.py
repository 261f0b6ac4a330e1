"""What belongs to one event comes in parts: the event itself, and references to files. They are joined by seq_num."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.sequence import Arrival, SeenNumbers

EVENT = ""
"""Name of the part that is the event document; the others are named by their data key."""
_MAX_INCOMPLETE = 100_000


@dataclass(slots=True)
class EventJoin:
    """The events of one stream that are not whole yet, and the numbers of those that were."""

    needs: frozenset[str]
    seen: SeenNumbers = field(default_factory=SeenNumbers)
    incomplete: dict[int, dict[str, Any]] = field(default_factory=dict)

    def add(self, number: int, part: str, value: Any) -> tuple[Arrival, Mapping[str, Any]] | None:
        """Take in a part; returns the arrival and all parts when the event is whole, None when something lacks.

        A part that came before is a duplicate. Raises `DocumentError` when too many events are not whole.
        """
        parts = self.incomplete.get(number, {})
        if part in parts or self.seen.has(number):
            return "duplicate", {}
        if number not in self.incomplete and len(self.incomplete) >= _MAX_INCOMPLETE:
            raise DocumentError(f"{_MAX_INCOMPLETE} events already wait for a part")
        parts = {**parts, part: value}
        if not self.needs <= parts.keys():
            self.incomplete[number] = parts
            return None
        self.incomplete.pop(number, None)
        return self.seen.add(number), parts

    def lacking(self) -> Iterable[str]:
        """Names of the parts that never came, over all events that are not whole."""
        return sorted({name for parts in self.incomplete.values() for name in self.needs - parts.keys()})

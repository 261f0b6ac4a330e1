"""Which sequence numbers of a stream have come: duplicates, gaps and late ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Arrival = Literal["new", "late", "duplicate", "retaken"]


@dataclass(slots=True)
class SeenNumbers:
    """The numbers seen of one stream, which count from 1.

    Holds one integer for the unbroken beginning and a set for what lies beyond the first gap, so that a long scan
    without gaps costs nothing.
    """

    unbroken: int = 0
    """Every number from 1 to this one has come."""
    beyond: set[int] = field(default_factory=set)
    highest: int = 0

    def has(self, number: int) -> bool:
        """Whether `number` has come."""
        return number <= self.unbroken or number in self.beyond

    def add(self, number: int) -> Arrival:
        """Take note of `number` (1 or more) and say whether it is new, fills a gap, or came before."""
        if self.has(number):
            return "duplicate"
        late = number < self.highest
        self.highest = max(self.highest, number)
        self.beyond.add(number)
        while self.unbroken + 1 in self.beyond:
            self.unbroken += 1
            self.beyond.discard(self.unbroken)
        return "late" if late else "new"

    def missing(self, announced: int = 0) -> int:
        """How many numbers up to the highest seen, or up to `announced` if that is more, never came."""
        return max(self.highest, announced) - self.unbroken - len(self.beyond)

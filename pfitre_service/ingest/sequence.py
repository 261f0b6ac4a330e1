"""Which sequence numbers of a stream have come: duplicates, gaps and late ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

Arrival = Literal["new", "late", "duplicate", "retaken"]


@dataclass(slots=True)
class SequenceTracker:
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

    def gaps(self, announced: int = 0) -> list[tuple[int, int]]:
        """First and last number of every gap up to the highest number seen, or up to `announced` if that is more."""
        edges = [self.unbroken, *sorted(self.beyond), max(self.highest, announced) + 1]
        return [(low + 1, high - 1) for low, high in pairwise(edges) if high - low > 1]

    def missing(self, announced: int = 0) -> int:
        """How many numbers up to the highest seen, or up to `announced` if that is more, never came."""
        return max(self.highest, announced) - self.unbroken - len(self.beyond)


def in_words(ranges: Iterable[tuple[int, int]], most: int = 8) -> str:
    """Ranges of numbers, first and last, in any order: "3, 5-9 and 2 more ranges"."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    words = [str(low) if low == high else f"{low}-{high}" for low, high in joined[:most]]
    return ", ".join(words) + (f" and {len(joined) - most} more ranges" if len(joined) > most else "")

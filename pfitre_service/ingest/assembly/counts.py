"""What came, what was missing, what was refused: per tomogram and for the whole life of the service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from pfitre_service.model import Role

Refusal = Literal["shape", "dtype", "angle", "missing key", "in a file", "incomplete", "malformed"]
"""Why a frame was refused: an image of another shape than the run's first; values that are no real numbers; an angle
that is not finite or not one per frame; no image or angle in the event; the image lies in a file that no document
announces; an event whose image or angle never came; an event that breaks its own rules."""
_MAX_LACKING = 50
"""Streams of runs told of by name, of a tomogram of many."""
RunState = Literal["waiting", "receiving", "ignored", "empty", "complete", "aborted", "failed", "abandoned"]


@dataclass(frozen=True, slots=True)
class TomogramCounts:
    """Frames of one tomogram."""

    projections: int
    flats: int
    darks: int
    duplicates: int
    """Events that came again and were left out."""
    retaken: int
    """Events that a resumed plan took again: what was taken last counts."""
    late: int
    """Events that came after one with a higher number, and filled their gap."""
    missing: dict[str, int]
    """Stream name to the number of events that never came."""
    lacking: dict[str, str]
    """Stream name to the numbers of its events whose frames are not all there, whatever the cause: "3, 5-9"."""
    refused: dict[str, int]
    """Reason to the number of frames refused for it."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run as the status shows it."""

    uid: str
    scan_id: int | None
    state: RunState
    reason: str
    projections: int
    missing: int
    """Events that never came, or not yet."""
    lacking: dict[str, str]
    """As in `TomogramCounts`, so far."""
    refused: int
    """Frames that came and could not be used."""


@dataclass(frozen=True, slots=True)
class IngestCounts:
    """A snapshot of everything counted since the start of the service."""

    documents: dict[str, int]
    """Document name to number; names that Bluesky does not know are in `unknown_names` alone."""
    frames: dict[str, int]
    """Role to the number of frames accepted."""
    duplicates: int
    """Documents (start, descriptor, event, stop) that came again."""
    retaken: int
    """Events that were taken again, of which the last take counts."""
    late: int
    missing: int
    """Events that never came, over closed and open runs."""
    refused: dict[str, int]
    """Reason to the number of frames refused for it."""
    orphans: int
    """Documents whose start or descriptor never came: the service joined late, or they were lost."""
    after_stop: int
    """Documents of runs that were closed or given up already."""
    unknown_names: int
    not_understood: int
    """Documents of a kind that is not read (bulk_events, bulk_datum)."""
    malformed: int
    held: int
    """Documents that wait for their start or descriptor now."""
    open_runs: tuple[RunSummary, ...]
    recent_runs: tuple[RunSummary, ...]
    """The last runs that ended, oldest first."""


@dataclass(slots=True)
class Tally:
    """The running sums; `RunTally` of every run that ended is added in."""

    documents: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    orphans: int = 0
    after_stop: int = 0
    unknown_names: int = 0
    not_understood: int = 0
    malformed: int = 0
    ended: RunTally = field(default_factory=lambda: RunTally())

    def snapshot(
        self,
        open_tallies: Iterable[RunTally],
        open_runs: Iterable[RunSummary],
        recent: Iterable[RunSummary],
        *,
        held: int,
    ) -> IngestCounts:
        """Everything counted so far; `open_tallies` are the sums of the runs that are open, `held` documents wait."""
        total = RunTally()
        for part in (self.ended, *open_tallies):
            total.add(part)
        return IngestCounts(
            documents=dict(self.documents),
            frames={str(role): count for role, count in total.frames.items()},
            duplicates=self.duplicates + total.duplicates,
            retaken=total.retaken,
            late=total.late,
            missing=total.missing.total(),
            refused=dict(total.refused),
            orphans=self.orphans,
            after_stop=self.after_stop,
            unknown_names=self.unknown_names,
            not_understood=self.not_understood,
            malformed=self.malformed,
            held=held,
            open_runs=tuple(open_runs),
            recent_runs=tuple(recent),
        )


@dataclass(slots=True)
class RunTally:
    """The running sums of one run."""

    frames: Counter[Role] = field(default_factory=Counter)
    duplicates: int = 0
    retaken: int = 0
    late: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    lacking: dict[str, str] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)

    def add(self, other: RunTally) -> None:
        """Take in the sums of a run that ended; stream names are not kept, so that this stays small for ever."""
        self.frames.update(other.frames)
        self.duplicates += other.duplicates
        self.retaken += other.retaken
        self.late += other.late
        self.missing["all"] += other.missing.total()
        self.refused.update(other.refused)
        for stream, numbers in other.lacking.items():
            if len(self.lacking) < _MAX_LACKING:
                self.lacking[stream] = numbers

    def freeze(self) -> TomogramCounts:
        """The sums as a value."""
        return TomogramCounts(
            projections=self.frames["projection"],
            flats=self.frames["flat"],
            darks=self.frames["dark"],
            duplicates=self.duplicates,
            retaken=self.retaken,
            late=self.late,
            missing={stream: count for stream, count in self.missing.items() if count},
            lacking=dict(self.lacking),
            refused=dict(self.refused),
        )

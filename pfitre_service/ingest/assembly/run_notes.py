"""What is counted of one run, and what a person is told of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pfitre_service.ingest.assembly.actions import Action, ExitStatus, Note
from pfitre_service.ingest.assembly.counts import RunTally
from pfitre_service.ingest.assembly.descriptors import ANGLE, Stream
from pfitre_service.ingest.assembly.event_join import EVENT, EventJoin
from pfitre_service.ingest.assembly.images import FrameError
from pfitre_service.ingest.document_values import quoted, whole
from pfitre_service.ingest.rules import DocumentRules
from pfitre_service.ingest.sequence import in_words
from pfitre_service.text_output import storable

_MAX_REASON = 500
_MAX_RANGES = 20
_MAX_NUMBERS = 10_000
_MAX_NOTES = 8
"""Refused frames told of in words, per run; all are counted."""


class RunNotes:
    """The counts of one run, and the notes that go with them."""

    def __init__(self, uid: str) -> None:
        self.tally = RunTally()
        self._uid = uid
        self._left = _MAX_NOTES
        self._told_of_retakes = False
        self._refused: dict[str, set[int]] = {}
        """Numbers of events whose frames were refused, by stream."""

    def refuse(self, stream: Stream, error: FrameError, number: int | None = None) -> list[Action]:
        """Frames of an event that cannot be used."""
        self.tally.refused[error.reason] += error.frames
        if number is not None and len(numbers := self._refused.setdefault(stream.name, set())) < _MAX_NUMBERS:
            numbers.add(number)
        self._left -= 1
        if self._left < 0:
            return []
        last = "" if self._left else " (further ones of this run are counted only)"
        where = f"stream {stream.name!r}, event {'?' if number is None else number}"
        return [Note(self._uid, "warning", f"{where}: {error.frames} frame(s) refused: {error}{last}")]

    def retake(self, stream: Stream, number: int) -> list[Action]:
        """An event was taken again; said once a run."""
        self.tally.retaken += 1
        if self._told_of_retakes:
            return []
        self._told_of_retakes = True
        message = (
            f"stream {stream.name!r}, event {number} was taken again, as a plan that is paused and resumed does: what "
            "was taken last counts (further ones of this run are counted only)"
        )
        return [Note(self._uid, "info", message)]

    def lacking(self, joins: Mapping[str, EventJoin], announced: Mapping[str, int] | None = None) -> dict[str, str]:
        """By stream, numbers of the events that were announced and whose frames are not all there."""
        found = {}
        for name in {*joins, *self._refused, *(announced or {})}:
            join = joins.get(name) or EventJoin(frozenset())
            gaps = join.seen.gaps((announced or {}).get(name, 0))
            others = [(number, number) for number in {*self._refused.get(name, ()), *join.begun_again()}]
            if words := in_words([*gaps, *others], _MAX_RANGES):
                found[name] = words
        return found

    def at_the_end(self, joins: Mapping[str, EventJoin]) -> Iterator[Action]:
        """Events that never came, and those of which a part never came: refused, and said."""
        gaps = ", ".join(f"{count} of {name!r}" for name, count in self.tally.missing.items() if count)
        if gaps:
            numbers = "; ".join(f"{name!r}: {words}" for name, words in self.tally.lacking.items())
            yield Note(
                self._uid, "warning", f"the run ended with events that never came: {gaps} (lacking of {numbers})"
            )
        for name, join in joins.items():
            if count := len(join.never_whole()) + len(join.begun_again()):
                self.tally.refused["incomplete"] += count
                lacking = ", ".join(_words(part) for part in join.lacking())
                message = f"stream {name!r}: {count} events lack {lacking}, which never came"
                yield Note(self._uid, "warning", message)


def announced_events(counts: Any, rules: DocumentRules) -> dict[str, int]:
    """How many events of each stream with frames the stop document says there were, from its `num_events`."""
    streams = (*rules.projection_streams, *rules.flat_streams, *rules.dark_streams)
    numbers = {name: whole(counts.get(name)) for name in streams} if isinstance(counts, Mapping) else {}
    return {name: number for name, number in numbers.items() if number is not None}


def exit_of(document: Mapping[str, Any]) -> tuple[ExitStatus, str]:
    """How a run ended, from its stop document, and the reason that it gives."""
    reason = document.get("reason")
    text = storable(reason, _MAX_REASON) if isinstance(reason, str) else ""
    match document.get("exit_status"):
        case "success" | "abort" | "fail" as status:
            return status, text
        case other:
            return "fail", f"exit_status is {quoted(other)}, expected success, abort or fail. {text}".strip()


def _words(part: str) -> str:
    return {EVENT: "the event itself", ANGLE: "the angle"}.get(part, repr(part))

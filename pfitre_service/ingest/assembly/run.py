"""One run on its way to a tomogram: its descriptor, event and stop documents in, actions out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.assembly.actions import (
    AbandonTomogram,
    Action,
    AddDocument,
    AddRun,
    CloseTomogram,
    EndRun,
    ExitStatus,
    Note,
)
from pfitre_service.ingest.assembly.counts import RunState, RunSummary, RunTally
from pfitre_service.ingest.assembly.descriptors import (
    ANGLE,
    AngleStream,
    Stream,
    angle_stream_of,
    contradicted_unit,
    stream_of,
)
from pfitre_service.ingest.assembly.event_join import EVENT, EventJoin
from pfitre_service.ingest.assembly.file_references import rows_of_datum, rows_of_stream_datum
from pfitre_service.ingest.assembly.images import FrameError
from pfitre_service.ingest.assembly.run_files import PendingDatum, RunFiles
from pfitre_service.ingest.assembly.run_frames import RunFrames, value_of
from pfitre_service.ingest.assembly.run_notes import RunNotes, announced_events, exit_of
from pfitre_service.ingest.assembly.scanned_maps import source_of_pixels
from pfitre_service.ingest.assembly.start_document import StartMetadata
from pfitre_service.ingest.assembly.tomogram import Tomogram, opened
from pfitre_service.ingest.document_values import is_table, json_safe, origin_of, quoted, whole
from pfitre_service.ingest.rules import DocumentRules
from pfitre_service.model import Role


class Run:
    """The state of one run between its start and its end."""

    def __init__(
        self, start: Mapping[str, Any], facts: StartMetadata, rules: DocumentRules, tomogram: Tomogram
    ) -> None:
        self.uid = facts.uid
        self.state: RunState = "waiting"
        self.tomogram = tomogram
        self.quiet_since: float | None = None
        """The first check of the clock after the last document; None when a document came since."""
        self._reason = "no descriptor yet"
        self._notes = RunNotes(facts.uid)
        self._start = start
        self._facts = facts
        self._rules = rules
        self._streams: dict[str, Stream | AngleStream | None] = {}
        self._joins: dict[str, EventJoin] = {}
        self._files = RunFiles()
        self._frames = RunFrames(facts.uid, start, rules, tomogram, self._notes)
        self._early: dict[str, list[dict[str, Any]]] = {"descriptors": [], "resources": []}
        """Documents of angles and files that came before the tomogram was opened."""
        self._projecting = False

    # -- documents ---------------------------------------------------------------------------------------------------

    @property
    def tally(self) -> RunTally:
        """What was counted so far."""
        return self._notes.tally

    @property
    def descriptors(self) -> int:
        """How many descriptors came."""
        return len(self._streams)

    def ignore(self, reason: str) -> list[Action]:
        """The run is none of ours."""
        self.state, self._reason = "ignored", reason
        return [Note(self.uid, "info", f"run is not read as a tomogram: {reason}")]

    def descriptor(self, uid: str, document: Mapping[str, Any]) -> list[Action]:
        """Take in a descriptor that is new to this run."""
        name, data_keys = document.get("name"), document.get("data_keys")
        if not isinstance(name, str) or not is_table(data_keys):
            raise DocumentError("a descriptor needs a `name` and a table `data_keys`")
        self._streams[uid] = None
        role, of_angles = self._rules.role_of(name), name == self._rules.separate_angles
        if self.state in ("abandoned", "ignored") or (role is None and not of_angles):
            return []
        try:
            if role is None:
                angles = self._streams[uid] = angle_stream_of(name, document, self._rules)
                self._frames.degrees_per_unit = angles.degrees_per_unit
                return [*self._units(name, document, of_angles=True), *self._keep("descriptors", document)]
            self._streams[uid] = stream_of(name, role, self._start, document, self._rules)
        except DocumentError as error:
            return self._not_a_tomogram(name, role or "projection", str(error))
        self._projecting = self._projecting or role == "projection"
        units = self._units(name, document, of_angles=False) if role == "projection" else []
        return [*units, *self._open(document)]

    def event(self, descriptor_uid: str, document: Mapping[str, Any]) -> list[Action]:
        """Take in one event of a descriptor that this run knows."""
        stream = self._streams[descriptor_uid]
        if isinstance(stream, AngleStream):
            return self._angle_event(descriptor_uid, stream, document)
        if stream is None or self.state != "receiving":
            return []
        number = whole(document.get("seq_num"))
        if number is None or not 1 <= number <= self._join(stream).furthest:
            message = f"expected a seq_num from 1, got {quoted(document.get('seq_num'))}"
            return self._notes.refuse(stream, FrameError("malformed", message))
        uid = origin_of(document)
        if self._join(stream).knows(number, EVENT, uid):
            self.tally.duplicates += 1
            return []
        actions = self._part(stream, number, EVENT, document, uid)
        for key in sorted(stream.columns.in_files - stream.columns.by_stream):
            actions += self._named(PendingDatum(descriptor_uid, number, key, uid), document)
        return actions

    def resource(self, uid: str, document: Mapping[str, Any]) -> list[Action]:
        """Take in a resource or stream_resource that is new to this run."""
        if self.state in ("ignored", "abandoned"):
            return []
        self._files.announce(uid, document)
        return self._keep("resources", document)

    def datum(self, resource_uid: str, document: Mapping[str, Any]) -> list[Action]:
        """Take in a datum, which is one event's share of a resource."""
        before = self._files.duplicates
        want = self._files.datum(resource_uid, document)
        self.tally.duplicates += self._files.duplicates - before
        return [] if want is None else self._datum_part(want, resource_uid, document)

    def stream_datum(self, resource_uid: str, descriptor_uid: str, document: Mapping[str, Any]) -> list[Action]:
        """Take in a stream_datum: a range of events and of frames in a file."""
        stream, key = self._streams[descriptor_uid], self._files.data_key(resource_uid)
        if isinstance(stream, AngleStream):
            return self._angle_rows(stream, key, resource_uid, document)
        if stream is None or self.state != "receiving" or key not in stream.columns.in_files:
            return []
        source, frames = self._files.source(resource_uid), stream.columns.frames
        actions: list[Action] = []
        for number, rows in rows_of_stream_datum(source, document, frames):
            self._join(stream).check(number)
            actions += self._part(stream, number, key, rows, origin_of(document))
        return actions

    def stop(self, document: Mapping[str, Any]) -> list[Action]:
        """Take in the stop document."""
        status, reason = exit_of(document)
        announced = announced_events(document.get("num_events"), self._rules)
        for name, count in announced.items():
            join = self._joins.get(name)
            self.tally.missing[name] = count if join is None else join.seen.missing(count)
        self._frames.track.close()
        if self.state != "receiving":
            return self._end_without_tomogram(status, reason)
        actions = self._frames.never_known()
        for stream in filter(None, map(self._stream_named, self._joins)):
            # They were to be taken again, and not all of them came: what was taken first was given up, too.
            again = self._joins[stream.name].begun_again()
            actions += [action for number in again for action in self._frames.retaken(stream, number, "")]
        of_run = "" if self.tomogram.joined is None else f" of run {self.uid[:8]}"
        lacking = self._notes.lacking(self._joins, announced)
        self.tally.lacking = {f"{name}{of_run}": numbers for name, numbers in lacking.items()}
        actions += self._notes.at_the_end(self._joins)
        ends: dict[ExitStatus, RunState] = {"success": "complete", "abort": "aborted", "fail": "failed"}
        self.state, self._reason = ends[status], reason
        if self.tomogram.joined is not None:
            return [*actions, *map(EndRun, self.tomogram.keys)]
        counts = self.tally.freeze()
        return [*actions, *(CloseTomogram(key, status, reason, counts) for key in self.tomogram.keys)]

    def abandon(self, reason: str) -> list[Action]:
        """Give the run up: no stop document is expected any more."""
        was, self.state, self._reason = self.state, "abandoned", reason
        self._frames.track.close()
        note = Note(self.uid, "warning", f"run given up: {reason}")
        if was != "receiving":
            return [note]
        if self.tomogram.joined is not None:
            return [note, *map(EndRun, self.tomogram.keys)]
        return [note, *self._abandon_tomogram(reason)]

    def resume(self, stored: Iterable[tuple[str, int, str]], shape: tuple[int, int] | None) -> None:
        """Take note of the frames that are stored already, by (stream, seq_num, event uid): they count as received."""
        self._frames.shape = shape
        for name, number, origin in stored:
            role = self._rules.role_of(name)
            if role is not None:
                stream = self._stream_named(name)
                lacking = EventJoin(frozenset({EVENT}))
                join = self._joins.setdefault(name, lacking) if stream is None else self._join(stream)
                join.was_stored(number, origin)
                self.tally.frames[role] += 1
                self.tally.missing[name] = join.seen.missing()

    def summary(self) -> RunSummary:
        """This run for the status display."""
        return RunSummary(
            uid=self.uid,
            scan_id=self._facts.scan_id,
            state=self.state,
            reason=self._reason,
            projections=self.tally.frames["projection"],
            missing=self.tally.missing.total(),
            lacking=self.tally.lacking or self._notes.lacking(self._joins),
            refused=self.tally.refused.total(),
        )

    # -- descriptors -------------------------------------------------------------------------------------------------

    def _units(self, name: str, document: Mapping[str, Any], *, of_angles: bool) -> list[Action]:
        contradiction = contradicted_unit(self._start, document, self._rules, of_angles=of_angles)
        return [Note(self.uid, "warning", f"stream {name!r}: {contradiction}")] if contradiction else []

    def _keep(self, kind: Any, document: Mapping[str, Any]) -> list[Action]:
        """Have a document kept beside the tomogram, so that the run can be resumed."""
        if self.state == "receiving":
            return [AddDocument(key, kind, json_safe(document)) for key in self.tomogram.keys]
        self._early[kind].append(json_safe(document))
        return []

    def _open(self, document: Mapping[str, Any]) -> list[Action]:
        if self.state == "receiving":
            return self._keep("descriptors", document)
        self._keep("descriptors", document)
        self.state, self._reason = "receiving", ""
        is_open, self.tomogram.is_open = self.tomogram.is_open, True
        start = json_safe(self._start)
        descriptors, resources = tuple(self._early["descriptors"]), tuple(self._early["resources"])
        if is_open:
            return [AddRun(key, self.uid, start, descriptors, resources) for key in self.tomogram.keys]
        width = self._frames.width if self._rules.maps.range_key else None
        return [
            opened(self.tomogram, element, self._facts, start, descriptors, resources, width)
            for element in self.tomogram.elements
        ]

    def _not_a_tomogram(self, name: str, role: Role, why: str) -> list[Action]:
        """A stream without image or angle. Of projections: the run is none of ours, unless another stream of it is."""
        message = f"stream {name!r}: {why}"
        if role != "projection" or self._projecting:
            return [Note(self.uid, "warning", f"{message}; its frames are left out")]
        opened = self.state == "receiving"
        self.state, self._reason = ("abandoned" if opened else "ignored"), message
        note = Note(self.uid, "info", f"run is not read as a tomogram: {message}")
        return [note, *(self._abandon_tomogram(message) if opened and self.tomogram.joined is None else [])]

    def _abandon_tomogram(self, reason: str) -> list[Action]:
        counts = self.tally.freeze()
        return [AbandonTomogram(key, reason, counts) for key in self.tomogram.keys]

    # -- angles of another stream ------------------------------------------------------------------------------------

    def _angle_event(self, descriptor_uid: str, stream: AngleStream, document: Mapping[str, Any]) -> list[Action]:
        if self.state in ("ignored", "abandoned"):
            return []
        if not self._rules.angle_by_number:
            return self._frames.take_angle(document, stream.degrees_per_unit)
        number = whole(document.get("seq_num"))
        if number is None or number < 1:
            raise DocumentError(f"expected a seq_num from 1, got {quoted(document.get('seq_num'))}")
        if stream.in_files:
            return self._named(PendingDatum(descriptor_uid, number, stream.key, origin_of(document)), document)
        return self._angle_part(number, value_of(document, stream.key), origin_of(document))

    def _angle_rows(
        self, stream: AngleStream, key: str, resource_uid: str, document: Mapping[str, Any]
    ) -> list[Action]:
        if key != stream.key or not self._rules.angle_by_number:
            return []
        actions: list[Action] = []
        for number, rows in rows_of_stream_datum(self._files.source(resource_uid), document, 1):
            actions += self._angle_part(number, rows, origin_of(document))
        return actions

    def _angle_part(self, number: int, value: Any, origin: str) -> list[Action]:
        """The angle of the projection `number`, whose own stream may not have been described yet."""
        name = self._rules.projection_streams[0]
        stream = self._stream_named(name)
        if stream is not None:
            self._join(stream).check(number)
            return self._part(stream, number, ANGLE, value, origin)
        self._joins.setdefault(name, EventJoin(frozenset({ANGLE, EVENT}))).check(number)
        self._joins[name].add(number, ANGLE, value, origin)
        return []

    def _stream_named(self, name: str) -> Stream | None:
        return next((one for one in self._streams.values() if isinstance(one, Stream) and one.name == name), None)

    # -- events ------------------------------------------------------------------------------------------------------

    def _join(self, stream: Stream) -> EventJoin:
        """The events of the stream; what it needs is known from its descriptor alone, also when a run is resumed."""
        join = self._joins.setdefault(stream.name, EventJoin(stream.columns.parts))
        join.needs = stream.columns.parts
        return join

    def _part(self, stream: Stream, number: int, name: str, value: Any, origin: str) -> list[Action]:
        """One part of an event; its frames when it is whole."""
        join = self._join(stream)
        added = join.add(number, name, value, origin)
        self.tally.missing[stream.name] = join.seen.missing()
        if added is None:
            return []
        if added.arrival == "duplicate":
            self.tally.duplicates += name in (EVENT, stream.columns.image)
            return []
        self.tally.late += added.arrival == "late"
        return self._frames.whole(stream, number, added)

    def _named(self, want: PendingDatum, document: Mapping[str, Any]) -> list[Action]:
        """The datum that an event names, if it has come; else it is waited for."""
        try:
            datum_id = str(value_of(document, want.key))
        except FrameError as error:
            stream = self._streams[want.descriptor_uid]
            return self._notes.refuse(stream, error, want.seq_num) if isinstance(stream, Stream) else []
        known = self._files.named(datum_id, want)
        return [] if known is None else self._datum_part(want, *known)

    def _datum_part(self, want: PendingDatum, resource_uid: str, datum: Mapping[str, Any]) -> list[Action]:
        stream, number = self._streams[want.descriptor_uid], want.seq_num
        if isinstance(stream, AngleStream):
            rows = rows_of_datum(self._files.source(resource_uid), datum, number, 1)
            return self._angle_part(number, rows, want.event_uid)
        if stream is None or self.state != "receiving":
            return []
        source = source_of_pixels(self._files.source(resource_uid), self._start, self._rules.maps)
        rows = rows_of_datum(source, datum, number, stream.columns.frames)
        return self._part(stream, number, want.key, rows, want.event_uid)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _end_without_tomogram(self, status: ExitStatus, reason: str) -> list[Action]:
        if self.state in ("ignored", "abandoned"):
            return []
        self.state = "empty"
        wanted = ", ".join(repr(name) for name in self._rules.projection_streams)
        self._reason = f"no stream {wanted} with images before its stop document ({status}{reason and ': '}{reason})"
        return [Note(self.uid, "info", f"run without a tomogram: {self._reason}")]

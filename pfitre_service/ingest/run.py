"""One run on its way to a tomogram: its descriptor, event and stop documents in, actions out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.actions import (
    AbandonTomogram,
    Action,
    AddDocument,
    AddFrames,
    AddReferences,
    CloseTomogram,
    ExitStatus,
    Note,
    OpenTomogram,
    ReadFrames,
)
from pfitre_service.ingest.columns import Columns, columns_of, find_image, find_rotation, unit_contradiction
from pfitre_service.ingest.counts import RunState, RunSummary, RunTally
from pfitre_service.ingest.external import FileRows, FileSource, rows_of_datum, rows_of_stream_datum, source_of
from pfitre_service.ingest.images import FrameError, as_angles, as_images
from pfitre_service.ingest.joining import EVENT, EventJoin
from pfitre_service.ingest.plain import finite, json_safe, whole
from pfitre_service.ingest.rules import DocumentRules
from pfitre_service.ingest.start import StartFacts, angles_of_start
from pfitre_service.model import Frame, Role, TomogramKey

_MAX_NOTES = 8
"""Refused frames told of in words, per run; all are counted."""
_MAX_AHEAD = 1_000_000
"""A sequence number further than this beyond the highest one is taken for garbage."""
_MAX_RESOURCES = 100_000
_MAX_DATUMS = 100_000


@dataclass(frozen=True, slots=True)
class Stream:
    """What one descriptor says about the frames of its events."""

    name: str
    role: Role
    columns: Columns


class Run:
    """The state of one run between its start and its end."""

    def __init__(self, start: Mapping[str, Any], facts: StartFacts, rules: DocumentRules) -> None:
        self.uid = facts.uid
        self.state: RunState = "waiting"
        self.tally = RunTally()
        self.quiet_since: float | None = None
        """The first check of the clock after the last document; None when a document came since."""
        self._reason = "no descriptor yet"
        self._start = start
        self._facts = facts
        self._rules = rules
        self._key = TomogramKey(facts.uid)
        self._streams: dict[str, Stream | None] = {}
        self._joins: dict[str, EventJoin] = {}
        self._sources: dict[str, FileSource] = {}
        """Files by the uid of the document that announced them."""
        self._data_key: dict[str, str] = {}
        """Of what a stream_resource holds, by its uid."""
        self._resources: list[dict[str, Any]] = []
        """Documents that announced files before the tomogram was opened."""
        self._datums: dict[str, tuple[str, Mapping[str, Any]]] = {}
        """Datums that no event has named yet: datum_id to the uid of its resource and the document."""
        self._wanted: dict[str, tuple[str, int, str]] = {}
        """Datums that an event has named and that have not come: to descriptor uid, seq_num and data key."""
        self._shape: tuple[int, ...] | None = None
        self._projecting = False
        self._notes_left = _MAX_NOTES

    # -- documents ---------------------------------------------------------------------------------------------------

    @property
    def descriptors(self) -> int:
        """How many descriptors came."""
        return len(self._streams)

    def descriptor(self, uid: str, document: Mapping[str, Any]) -> list[Action]:
        """Take in a descriptor that is new to this run."""
        name, data_keys = document.get("name"), document.get("data_keys")
        if not isinstance(name, str) or not _is_table(data_keys):
            raise DocumentError("a descriptor needs a `name` and a table `data_keys`")
        self._streams[uid] = None
        role = self._rules.role_of(name)
        if role is None or self.state == "abandoned":
            return []
        try:
            self._streams[uid] = self._stream(name, role, document)
        except DocumentError as error:
            return self._not_a_tomogram(name, role, str(error))
        self._projecting = self._projecting or role == "projection"
        return [*self._units(name, role, document), *self._open(document)]

    def event(self, descriptor_uid: str, document: Mapping[str, Any]) -> list[Action]:
        """Take in one event of a descriptor that this run knows."""
        stream = self._streams[descriptor_uid]
        if stream is None or self.state != "receiving":
            return []
        number = whole(document.get("seq_num"))
        if number is None or not 1 <= number <= self._join(stream).seen.highest + _MAX_AHEAD:
            message = f"expected a seq_num from 1, got {document.get('seq_num')!r:.40}"
            return self._refuse(stream, FrameError("malformed", message))
        actions = self._part(stream, number, EVENT, document)
        for key in stream.columns.in_files - stream.columns.by_stream:
            actions += self._named(descriptor_uid, stream, number, key, document)
        return actions

    def resource(self, uid: str, document: Mapping[str, Any]) -> list[Action]:
        """Take in a resource or stream_resource that is new to this run."""
        if len(self._sources) >= _MAX_RESOURCES:
            raise DocumentError(f"run {self.uid} has more than {_MAX_RESOURCES} files")
        if self.state in ("ignored", "abandoned"):
            return []
        self._sources[uid] = source_of(document)
        self._data_key[uid] = str(document.get("data_key", ""))
        if self.state == "receiving":
            return [AddDocument(self._key, "resources", json_safe(document))]
        self._resources.append(json_safe(document))
        return []

    def datum(self, resource_uid: str, document: Mapping[str, Any]) -> list[Action]:
        """Take in a datum, which is one event's share of a resource."""
        datum_id = document.get("datum_id")
        if not isinstance(datum_id, str):
            raise DocumentError(f"expected a text as datum_id, got {datum_id!r:.60}")
        wanted = self._wanted.pop(datum_id, None)
        if wanted is not None:
            return self._datum_part(*wanted, resource_uid, document)
        if datum_id in self._datums:
            self.tally.duplicates += 1
        elif len(self._datums) >= _MAX_DATUMS:
            raise DocumentError(f"{_MAX_DATUMS} datums of run {self.uid} wait for their events")
        self._datums[datum_id] = (resource_uid, document)
        return []

    def stream_datum(self, resource_uid: str, descriptor_uid: str, document: Mapping[str, Any]) -> list[Action]:
        """Take in a stream_datum: a range of events and of frames in a file."""
        stream, key = self._streams[descriptor_uid], self._data_key.get(resource_uid, "")
        if stream is None or self.state != "receiving" or key not in stream.columns.in_files:
            return []
        frames = stream.columns.frames
        actions: list[Action] = []
        for number, rows in rows_of_stream_datum(self._sources[resource_uid], document, frames):
            if number > self._join(stream).seen.highest + _MAX_AHEAD:
                raise DocumentError(f"the seq_num {number} is taken for garbage")
            actions += self._part(stream, number, key, rows)
        return actions

    def stop(self, document: Mapping[str, Any]) -> list[Action]:
        """Take in the stop document."""
        status, reason = _exit(document)
        for name, announced in self._announced(document.get("num_events")):
            join = self._joins.get(name)
            self.tally.missing[name] = announced if join is None else join.seen.missing(announced)
        if self.state != "receiving":
            return self._end_without_tomogram(status, reason)
        ends: dict[ExitStatus, RunState] = {"success": "complete", "abort": "aborted", "fail": "failed"}
        self.state, self._reason = ends[status], reason
        return [*self._gaps(), *self._incomplete(), CloseTomogram(self._key, status, reason, self.tally.freeze())]

    def abandon(self, reason: str) -> list[Action]:
        """Give the run up: no stop document is expected any more."""
        was, self.state, self._reason = self.state, "abandoned", reason
        note = Note(self.uid, "warning", f"run given up: {reason}")
        return [note, AbandonTomogram(self._key, reason, self.tally.freeze())] if was == "receiving" else [note]

    def resume(self, stored: Iterable[tuple[str, int]], shape: tuple[int, int] | None) -> None:
        """Take note of the frames that are stored already, by (stream, seq_num): they count as received."""
        self._shape = shape
        for name, number in stored:
            role = self._rules.role_of(name)
            if role is not None:
                self.tally.frames[role] += 1
                seen = self._joins.setdefault(name, EventJoin(frozenset({EVENT}))).seen
                seen.add(number)
                self.tally.missing[name] = seen.missing()

    def summary(self) -> RunSummary:
        """This run for the status display."""
        return RunSummary(
            uid=self.uid,
            scan_id=self._facts.scan_id,
            state=self.state,
            reason=self._reason,
            projections=self.tally.frames["projection"],
            missing=self.tally.missing.total(),
            refused=self.tally.refused.total(),
        )

    # -- descriptors -------------------------------------------------------------------------------------------------

    def _stream(self, name: str, role: Role, document: Mapping[str, Any]) -> Stream:
        data_keys, rules = document["data_keys"], self._rules
        image = find_image(data_keys, rules)
        in_events = role == "projection" and rules.angle_from == "event"
        rotation = find_rotation(self._start, document, rules) if in_events else None
        columns = columns_of(image, rotation, data_keys)
        if rules.angle_from == "file" and role == "projection" and image not in columns.in_files:
            raise DocumentError(f"the images of {image!r} lie in no file, but documents.angle_from is 'file'")
        if rules.angle_from == "start" and role == "projection":
            angles_of_start(self._start, rules, 0, 1)
        return Stream(name, role, columns)

    def _units(self, name: str, role: Role, document: Mapping[str, Any]) -> list[Action]:
        if role != "projection" or self._rules.angle_from != "event":
            return []
        rotation = find_rotation(self._start, document, self._rules)
        contradiction = unit_contradiction(rotation, document["data_keys"][rotation], self._rules)
        return [Note(self.uid, "warning", f"stream {name!r}: {contradiction}")] if contradiction else []

    def _open(self, document: Mapping[str, Any]) -> list[Action]:
        if self.state == "receiving":
            return [AddDocument(self._key, "descriptors", json_safe(document))]
        self.state, self._reason = "receiving", ""
        facts = self._facts
        opened = OpenTomogram(
            key=self._key,
            run_uid=self.uid,
            scan_id=facts.scan_id,
            sample=facts.sample,
            measurement=facts.measurement,
            expected_frames=facts.expected_frames,
            axis=facts.axis,
            pixel_size_nm=facts.pixel_size_nm,
            start=json_safe(self._start),
            descriptors=(json_safe(document),),
            resources=tuple(self._resources),
        )
        return [opened]

    def _not_a_tomogram(self, name: str, role: Role, why: str) -> list[Action]:
        """A stream without image or angle. Of projections: the run is none of ours, unless another stream of it is."""
        message = f"stream {name!r}: {why}"
        if role != "projection" or self._projecting:
            return [Note(self.uid, "warning", f"{message}; its frames are left out")]
        opened = self.state == "receiving"
        self.state, self._reason = ("abandoned" if opened else "ignored"), message
        note = Note(self.uid, "info", f"run is not read as a tomogram: {message}")
        return [note, AbandonTomogram(self._key, message, self.tally.freeze())] if opened else [note]

    # -- events ------------------------------------------------------------------------------------------------------

    def _join(self, stream: Stream) -> EventJoin:
        """The events of the stream; what it needs is known from its descriptor alone, also when a run is resumed."""
        join = self._joins.setdefault(stream.name, EventJoin(stream.columns.parts))
        join.needs = stream.columns.parts
        return join

    def _part(self, stream: Stream, number: int, name: str, value: Any) -> list[Action]:
        """One part of an event; its frames when it is whole."""
        join = self._join(stream)
        added = join.add(number, name, value)
        self.tally.missing[stream.name] = join.seen.missing()
        if added is None:
            return []
        arrival, parts = added
        if arrival == "duplicate":
            self.tally.duplicates += name in (EVENT, stream.columns.image)
            return []
        self.tally.late += arrival == "late"
        try:
            return (
                self._frames(stream, number, parts) if stream.columns.is_inline else self._read(stream, number, parts)
            )
        except FrameError as error:
            return self._refuse(stream, error, number)

    def _named(
        self, descriptor_uid: str, stream: Stream, number: int, key: str, document: Mapping[str, Any]
    ) -> list[Action]:
        """The datum that an event names under `key`, if it has come; else it is waited for."""
        try:
            datum_id = str(_value(document, key))
        except FrameError as error:
            return self._refuse(stream, error, number)
        known = self._datums.pop(datum_id, None)
        if known is not None:
            return self._datum_part(descriptor_uid, number, key, *known)
        if len(self._wanted) >= _MAX_DATUMS:
            raise DocumentError(f"{_MAX_DATUMS} events of run {self.uid} wait for their datums")
        self._wanted[datum_id] = (descriptor_uid, number, key)
        return []

    def _datum_part(
        self, descriptor_uid: str, number: int, key: str, resource_uid: str, datum: Mapping[str, Any]
    ) -> list[Action]:
        stream = self._streams[descriptor_uid]
        if stream is None or self.state != "receiving":
            return []
        rows = rows_of_datum(self._sources[resource_uid], datum, number, stream.columns.frames)
        return self._part(stream, number, key, rows)

    def _read(self, stream: Stream, number: int, parts: Mapping[str, Any]) -> list[Action]:
        """Frames of which something lies in a file."""
        columns, event = stream.columns, parts.get(EVENT, {})
        inside = columns.image in columns.in_files
        images: FileRows | NDArray[Any]
        images = parts[columns.image] if inside else as_images(_value(event, columns.image))
        count = images.stop - images.first if isinstance(images, FileRows) else len(images)
        self.tally.frames[stream.role] += count
        moment = finite(event.get("time"))
        return [
            ReadFrames(
                key=self._key,
                role=stream.role,
                stream=stream.name,
                seq_num=number,
                time=math.nan if moment is None else moment,
                run_uid=self.uid,
                images=images,
                angles=self._angles_or_rows(stream, number, parts, count),
                radians=self._rules.angle_unit == "radians",
            )
        ]

    def _angles_or_rows(
        self, stream: Stream, number: int, parts: Mapping[str, Any], count: int
    ) -> FileRows | tuple[float, ...]:
        columns, rules = stream.columns, self._rules
        if stream.role == "projection" and rules.angle_from == "file":
            rows: FileRows = parts[columns.image]
            return rows.of_dataset(rules.angle_dataset)
        if columns.rotation in columns.in_files:
            return parts[columns.rotation or ""]
        return tuple(self._angles(stream, number, parts.get(EVENT, {}), count))

    def _frames(self, stream: Stream, number: int, parts: Mapping[str, Any]) -> list[Action]:
        document = parts[EVENT]
        images = as_images(_value(document, stream.columns.image))
        count = len(images)
        if self._shape not in (None, images.shape[1:]):
            message = f"expected an image of {self._shape} like the run's first, got {images.shape[1:]}"
            raise FrameError("shape", message, count)
        angles = self._angles(stream, number, document, count)
        self._shape = images.shape[1:]
        time = finite(document.get("time"))
        frames = tuple(
            Frame(image, stream.role, angle, number, math.nan if time is None else time, self.uid, stream.name, part)
            for part, (image, angle) in enumerate(zip(images, angles, strict=True))
            if stream.role != "projection" or math.isfinite(angle)
        )
        self.tally.frames[stream.role] += len(frames)
        return [*self._add(stream, frames), *self._lost_angles(stream, number, count - len(frames))]

    def _angles(self, stream: Stream, number: int, document: Mapping[str, Any], count: int) -> list[float]:
        if stream.role == "projection" and self._rules.angle_from == "start":
            return angles_of_start(self._start, self._rules, (number - 1) * count, count)
        if stream.columns.rotation is None:
            return [math.nan] * count
        value = _value(document, stream.columns.rotation)
        return [float(angle) for angle in as_angles(value, count, radians=self._rules.angle_unit == "radians")]

    def _add(self, stream: Stream, frames: tuple[Frame, ...]) -> Iterator[Action]:
        if not frames:
            return
        if stream.role == "projection":
            yield AddFrames(self._key, frames, stream.name)
        else:
            yield AddReferences(self._key, stream.role, frames, stream.name)

    def _lost_angles(self, stream: Stream, number: int, count: int) -> list[Action]:
        if not count:
            return []
        return self._refuse(stream, FrameError("angle", "expected a finite angle", count), number)

    def _refuse(self, stream: Stream, error: FrameError, number: int | None = None) -> list[Action]:
        self.tally.refused[error.reason] += error.frames
        self._notes_left -= 1
        if self._notes_left < 0:
            return []
        last = "" if self._notes_left else " (further ones of this run are counted only)"
        where = f"stream {stream.name!r}, event {'?' if number is None else number}"
        return [Note(self.uid, "warning", f"{where}: {error.frames} frame(s) refused: {error}{last}")]

    # -- the end -----------------------------------------------------------------------------------------------------

    def _announced(self, counts: Any) -> Iterator[tuple[str, int]]:
        """Streams with frames, and how many events of each the stop document says there were."""
        rules = self._rules
        for name in (*rules.projection_streams, *rules.flat_streams, *rules.dark_streams):
            number = whole(counts.get(name)) if isinstance(counts, Mapping) else None
            if number is not None:
                yield name, number

    def _gaps(self) -> Iterator[Action]:
        gaps = ", ".join(f"{count} of {name!r}" for name, count in self.tally.missing.items() if count)
        if gaps:
            yield Note(self.uid, "warning", f"the run ended with events that never came: {gaps}")

    def _incomplete(self) -> Iterator[Action]:
        """Events of which a part never came: refused, and said."""
        for name, join in self._joins.items():
            if join.incomplete:
                self.tally.refused["incomplete"] += len(join.incomplete)
                lacking = ", ".join("the event itself" if part == EVENT else repr(part) for part in join.lacking())
                message = f"stream {name!r}: {len(join.incomplete)} events lack {lacking}, which never came"
                yield Note(self.uid, "warning", message)

    def _end_without_tomogram(self, status: ExitStatus, reason: str) -> list[Action]:
        if self.state in ("ignored", "abandoned"):
            return []
        self.state = "empty"
        wanted = ", ".join(repr(name) for name in self._rules.projection_streams)
        self._reason = f"no stream {wanted} with images before its stop document ({status}{reason and ': '}{reason})"
        return [Note(self.uid, "info", f"run without a tomogram: {self._reason}")]


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(key, str) and isinstance(item, Mapping) for key, item in value.items()
    )


def _value(document: Mapping[str, Any], key: str) -> Any:
    data = document.get("data")
    if not isinstance(data, Mapping) or key not in data:
        raise FrameError("missing key", f"expected the key {key!r} in the event's data")
    return data[key]


def _exit(document: Mapping[str, Any]) -> tuple[ExitStatus, str]:
    reason = document.get("reason")
    text = reason[:500] if isinstance(reason, str) else ""
    match document.get("exit_status"):
        case "success" | "abort" | "fail" as status:
            return status, text
        case other:
            return "fail", f"exit_status is {other!r:.40}, expected success, abort or fail. {text}".strip()

"""From the parts of one whole event to frames, or to where their images and angles are to be found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.assembly.actions import (
    Action,
    AddFrames,
    AddReferences,
    Note,
    ReadFrames,
    RetakeFrames,
    WithdrawRun,
)
from pfitre_service.ingest.assembly.angle_track import AnglesAtTimes, AngleTrack, sample_of
from pfitre_service.ingest.assembly.descriptors import ANGLE, Stream
from pfitre_service.ingest.assembly.event_join import EVENT, Whole
from pfitre_service.ingest.assembly.file_references import FileRows
from pfitre_service.ingest.assembly.images import FrameError, as_angles, as_images
from pfitre_service.ingest.assembly.run_notes import RunNotes
from pfitre_service.ingest.assembly.scanned_maps import ScannedMap, column_width, map_shape, pixel_order
from pfitre_service.ingest.assembly.start_document import angles_of_start
from pfitre_service.ingest.assembly.tomogram import Tomogram
from pfitre_service.ingest.document_values import finite
from pfitre_service.ingest.rules import DocumentRules
from pfitre_service.model import Frame

_MAX_HELD = 100_000

Parts = Mapping[str, Any]
Images = FileRows | ScannedMap | NDArray[Any]


class RunFrames:
    """Knows, of one run, where angles stand and how images are made."""

    def __init__(
        self, uid: str, start: Mapping[str, Any], rules: DocumentRules, tomogram: Tomogram, notes: RunNotes
    ) -> None:
        self.track = AngleTrack()
        """Filled where angles come from a stream of their own, by time."""
        self.angle: float | None = None
        """Of the whole run, where the baseline says it."""
        self.degrees_per_unit = rules.degrees_per_unit
        """Of the stream with the angles, once its descriptor has come."""
        self.shape: tuple[int, ...] | None = None
        """(rows, columns) of the images inside events so far."""
        self._uid = uid
        self._start = start
        self._rules = rules
        self._tomogram = tomogram
        self._notes = notes
        self._held: list[tuple[Stream, int, Whole]] = []
        """Whole events that wait for the baseline."""

    def take_angle(self, document: Mapping[str, Any], degrees_per_unit: float) -> list[Action]:
        """Take in an event of the stream with the angles, in the unit that this has. Raises `DocumentError`."""
        rules = self._rules
        time, angle = sample_of(document, str(rules.rotation), degrees_per_unit)
        if rules.angle_from == "stream":
            self.track.add(time, angle)
        elif self.angle is None:  # the baseline is read again at the end of the run, when the stage may have moved on
            self.angle = angle
            held, self._held = self._held, []
            return [action for event in held for action in self.whole(*event)]
        return []

    @property
    def width(self) -> float | None:
        """Of a column of this run's maps, in micrometres; None where it is not known."""
        if self.angle is None:
            return None
        return column_width(self._start, self._rules.maps, self.angle)

    def whole(self, stream: Stream, number: int, event: Whole) -> list[Action]:
        """All of an event has come: what is to be done with it."""
        if stream.role == "projection" and self._rules.angle_from == "baseline" and self.angle is None:
            if len(self._held) >= _MAX_HELD:
                raise DocumentError(f"{_MAX_HELD} events of run {self._uid} wait for its baseline")
            self._held.append((stream, number, event))
            return []
        retaken = self.retaken(stream, number, event.origin) if event.arrival == "retaken" else []
        try:
            reads = self._reads(stream, number, event)
            replaced = [*retaken, *self._replaced(stream)]
            if len(reads) == 1 and isinstance(reads[0].images, np.ndarray) and isinstance(reads[0].angles, tuple):
                return [*replaced, *self._inline(stream, reads[0], reads[0].images, reads[0].angles)]
        except FrameError as error:
            return [*retaken, *self._notes.refuse(stream, error, number)]
        self._notes.tally.frames[stream.role] += reads[0].count  # of each tomogram that the run belongs to
        return [*replaced, *reads]

    def retaken(self, stream: Stream, number: int, event_uid: str) -> list[Action]:
        """Frames of earlier takes of an event count no more."""
        actions = [RetakeFrames(key, self._uid, stream.name, number, event_uid) for key in self._tomogram.keys]
        return [*self._notes.retake(stream, number), *actions]

    def _replaced(self, stream: Stream) -> list[Action]:
        """Earlier runs of the tomogram at the same angle count no more."""
        angle = self.angle
        if self._tomogram.joined is None or stream.role != "projection" or angle is None:
            return []
        earlier = self._tomogram.take_place(self._uid, angle, self._rules.redone_within)
        notes = [Note(self._uid, "info", f"takes the place of run {uid[:8]} at {angle:g} degrees") for uid in earlier]
        return [*notes, *(WithdrawRun(key, uid) for uid in earlier for key in self._tomogram.keys)]

    def _inline(
        self, stream: Stream, read: ReadFrames, images: NDArray[Any], angles: tuple[float, ...]
    ) -> list[Action]:
        """Frames that stood in the event, as a whole."""
        count = len(images)
        if self.shape not in (None, images.shape[1:]):
            message = f"expected an image of {self.shape} like the run's first, got {images.shape[1:]}"
            raise FrameError("shape", message, count)
        self.shape = images.shape[1:]
        frames = tuple(
            Frame(image, stream.role, angle, read.seq_num, read.time, self._uid, stream.name, part, read.event_uid)
            for part, (image, angle) in enumerate(zip(images, angles, strict=True))
            if stream.role != "projection" or math.isfinite(angle)
        )
        self._notes.tally.frames[stream.role] += len(frames)
        return [*self._add(stream, read, frames), *self._lost_angles(stream, read.seq_num, count - len(frames))]

    def _add(self, stream: Stream, read: ReadFrames, frames: tuple[Frame, ...]) -> Iterator[Action]:
        if not frames:
            return
        if stream.role == "projection":
            yield AddFrames(read.key, frames, stream.name)
        else:
            yield AddReferences(read.key, stream.role, frames, stream.name)

    def _lost_angles(self, stream: Stream, number: int, count: int) -> list[Action]:
        if not count:
            return []
        return self._notes.refuse(stream, FrameError("angle", "expected a finite angle", count), number)

    def never_known(self) -> list[Action]:
        """Events whose angle the baseline never told: refused, and said."""
        held, self._held = self._held, []
        error = FrameError("angle", f"no event of the stream {self._rules.separate_angles!r} told the angle")
        return [action for stream, number, _ in held for action in self._notes.refuse(stream, error, number)]

    def _reads(self, stream: Stream, number: int, event: Whole) -> list[ReadFrames]:
        """The frames of one event and where they are, for each tomogram of the run. Raises `FrameError`."""
        parts = event.parts
        moment = finite(parts.get(EVENT, {}).get("time"))
        made = []
        for element in self._tomogram.elements:
            images = self._images(stream, parts, element)
            count = images.stop - images.first if isinstance(images, FileRows) else 1
            count = len(images) if not isinstance(images, FileRows | ScannedMap) else count
            made.append(
                ReadFrames(
                    key=self._tomogram.key(element),
                    role=stream.role,
                    stream=stream.name,
                    seq_num=number,
                    time=math.nan if moment is None else moment,
                    run_uid=self._uid,
                    images=images,
                    angles=self._angles(stream, number, parts, count),
                    degrees_per_unit=self._unit(stream),
                    event_uid=event.origin,
                )
            )
        return made

    def _images(self, stream: Stream, parts: Parts, element: str) -> Images:
        if element:
            return self._map(stream, parts, element)
        image = stream.columns.image
        if image in stream.columns.in_files:
            rows: FileRows = parts[image]
            return rows
        return as_images(value_of(parts.get(EVENT, {}), image))

    def _map(self, stream: Stream, parts: Parts, element: str) -> ScannedMap:
        rules = self._rules.maps

        def value(key: str) -> Any:
            return parts[key] if key in stream.columns.in_files else value_of(parts.get(EVENT, {}), key)

        return ScannedMap(
            parts=tuple(value(key) for key in rules.keys_of(element)),
            divisor=value(rules.normalise) if rules.normalise else None,
            shape=map_shape(self._start, rules),
            scale=self._tomogram.scale(self.width),
            order=pixel_order(self._start, rules, self.angle),
        )

    def _angles(
        self, stream: Stream, number: int, parts: Parts, count: int
    ) -> FileRows | AnglesAtTimes | tuple[float, ...]:
        rules, columns, event = self._rules, stream.columns, parts.get(EVENT, {})
        if stream.role != "projection":
            return (math.nan,) * count
        match rules.angle_from:
            case "baseline":
                return (math.nan if self.angle is None else self.angle,) * count
            case "start":
                return tuple(angles_of_start(self._start, rules, (number - 1) * count, count))
            case "file":
                rows: FileRows = parts[columns.image]
                return rows.of_dataset(rules.angle_dataset)
            case "stream" if not rules.angle_by_number:
                return self._at_times(columns.image, parts)
        value = parts[ANGLE] if ANGLE in columns.separate else parts.get(str(columns.rotation))
        if isinstance(value, FileRows):
            return value
        value = value if ANGLE in columns.separate else value_of(event, str(columns.rotation))
        return tuple(float(angle) for angle in as_angles(value, count, self._unit(stream)))

    def _unit(self, stream: Stream) -> float:
        """Degrees per unit of the angles of a stream's frames, which may stand in another stream."""
        if self._rules.angle_by_number:
            return self.degrees_per_unit
        return self._rules.degrees_per_unit if self._rules.angle_from == "file" else stream.degrees_per_unit

    def _at_times(self, image: str, parts: Parts) -> AnglesAtTimes:
        rules = self._rules
        if rules.angle_time_dataset:
            rows: FileRows = parts[image]
            times = rows.of_dataset(rules.angle_time_dataset)
            return AnglesAtTimes(self.track, times, rules.angle_time_offset_s)
        event = parts.get(EVENT, {})
        stamps = event.get("timestamps")
        stamp = finite(stamps.get(image)) if isinstance(stamps, Mapping) else None
        moment = finite(event.get("time")) if stamp is None else stamp
        if moment is None:
            raise FrameError("angle", "expected the time of the event, at which the angle is looked up, got none")
        return AnglesAtTimes(self.track, (moment,))


def value_of(document: Mapping[str, Any], key: str) -> Any:
    """What an event holds under a data key. Raises `FrameError`."""
    data = document.get("data")
    if not isinstance(data, Mapping) or key not in data:
        raise FrameError("missing key", f"expected the key {key!r} in the event's data")
    return data[key]

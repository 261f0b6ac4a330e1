"""From the parts of one whole event to its images and angles, or to where these are to be found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from pfitre_service.ingest.actions import ReadFrames
from pfitre_service.ingest.angles import AnglesAtTimes, AngleTrack, sample_of
from pfitre_service.ingest.external import FileRows
from pfitre_service.ingest.images import FrameError, as_angles, as_images
from pfitre_service.ingest.joining import EVENT
from pfitre_service.ingest.maps import ScannedMap, column_width, map_shape
from pfitre_service.ingest.plain import finite
from pfitre_service.ingest.rules import DocumentRules
from pfitre_service.ingest.start import angles_of_start
from pfitre_service.ingest.streams import ANGLE, Stream
from pfitre_service.ingest.tomograms import Tomogram

Parts = Mapping[str, Any]
Images = FileRows | ScannedMap | NDArray[Any]


class RunFrames:
    """Knows, of one run, where angles stand and how images are made."""

    def __init__(self, uid: str, start: Mapping[str, Any], rules: DocumentRules, tomogram: Tomogram) -> None:
        self.track = AngleTrack()
        """Filled where angles come from a stream of their own, by time."""
        self.angle: float | None = None
        """Of the whole run, where the baseline says it."""
        self._uid = uid
        self._start = start
        self._rules = rules
        self._tomogram = tomogram

    def take_angle(self, document: Mapping[str, Any]) -> None:
        """Take in an event of the stream with the angles. Raises `DocumentError`."""
        rules = self._rules
        time, angle = sample_of(document, str(rules.rotation), radians=rules.angle_unit == "radians")
        if rules.angle_from == "stream":
            self.track.add(time, angle)
        elif self.angle is None:  # the baseline is read again at the end of the run, when the stage may have moved on
            self.angle = angle

    @property
    def width(self) -> float | None:
        """Of a column of this run's maps, in micrometres; None where it is not known."""
        if self.angle is None:
            return None
        return column_width(self._start, self._rules.maps, self.angle)

    def waits_for_baseline(self, stream: Stream) -> bool:
        """Whether the angle of the run must come first."""
        return stream.role == "projection" and self._rules.angle_from == "baseline" and self.angle is None

    def reads(self, stream: Stream, number: int, parts: Parts) -> list[ReadFrames]:
        """What is to be read, for each tomogram of the run. Raises `FrameError`, `DocumentError`."""
        event = parts.get(EVENT, {})
        moment = finite(event.get("time"))
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
                    radians=self._rules.angle_unit == "radians",
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
        return tuple(float(angle) for angle in as_angles(value, count, radians=rules.angle_unit == "radians"))

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

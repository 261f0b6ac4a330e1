"""Which documents of a beamline make a tomogram: the `[documents]` table of its profile."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pfitre_service.errors import SettingsError
from pfitre_service.ingest.angle_units import AngleUnit
from pfitre_service.ingest.document_values import look_up, quoted
from pfitre_service.model import Role

_SAFE_ELEMENT = re.compile(r"[A-Za-z0-9_.-]{1,30}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRules:
    """Maps scanned point by point in place of images, such as the fluorescence of several elements."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    elements: tuple[str, ...] = ()
    """Each becomes a tomogram of its own, made of the same runs; empty where the detector takes images."""
    sums: tuple[str, ...] = ("{element}",)
    """Data keys that add up to the map of an element; `{element}` stands for its name."""
    normalise: str = ""
    """Data key that every map is divided by, such as the ion chamber's; empty for none."""
    shape_key: str = "shape"
    """Key of the start document with (columns, rows) of a map; points of a path inside are dots."""
    range_key: str = ""
    """Key of the start document with first and last position and number of columns, as HXN's `scan.scan_input`, in
    micrometres; the same of the rows may follow. A range that falls was scanned backwards. Empty where columns are
    equally wide at every angle and of no known width."""
    motor_key: str = "scan.fast_axis.motor_name"
    """Key of the start document that names the motor which moves along a row."""
    cosine_motors: tuple[str, ...] = ("zpssx", "dssx")
    """Motors that turn with the sample and stand across the beam at 0 degrees: a step of theirs is cos(angle) wide."""
    sine_motors: tuple[str, ...] = ("zpssz", "dssz")
    """Motors that turn with the sample and stand along the beam at 0 degrees: a step of theirs is sin(angle) wide, and
    goes the other way at negative angles."""
    reversed_motors: tuple[str, ...] = ()
    """Motors of any kind whose positions fall where the others' would rise."""
    snake_key: str = "fly_type"
    """Key of the start document that says whether every other row was scanned backwards: `pyramid`, true, or true as
    the last of several; anything else says no."""

    def __post_init__(self) -> None:
        if len(set(self.elements)) != len(self.elements) or not all(map(_SAFE_ELEMENT.fullmatch, self.elements)):
            raise SettingsError(
                "documents.maps: elements must differ, and be letters, digits, '_', '.' and '-', 30 at most; "
                f"got {self.elements}"
            )
        if self.elements and not self.sums:
            raise SettingsError("documents.maps: elements need `sums`, the data keys that make their maps")

    def keys_of(self, element: str) -> tuple[str, ...]:
        """Data keys that add up to the map of an element.

        Parameters
        ----------
        element
            Such as Cu.

        Returns
        -------
        tuple[str, ...]
            Data keys.
        """
        return tuple(key.replace("{element}", element) for key in self.sums)

    @property
    def keys(self) -> tuple[str, ...]:
        """Every data key that maps are made of."""
        every = [key for element in self.elements for key in self.keys_of(element)]
        return tuple(dict.fromkeys([*every, *([self.normalise] if self.normalise else [])]))


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRules:
    """How the documents of one beamline are read."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    rotation: str | None = None
    """Data key of the rotation angle; by default the one angle that the start document's hints or motors name."""
    image: str | None = None
    """Data key of the detector image; by default the only data key with two axes (or three, frames first)."""
    angle_unit: AngleUnit = "auto"
    """Unit of the rotation's values, wherever they stand. `auto`: the unit that their descriptor names, degrees where
    it names none; any other word counts against the descriptor's."""
    angle_from: Literal["event", "stream", "file", "start", "baseline"] = "event"
    """Where angles stand. `event`: under the data key `rotation`, as a value or as a reference to a file; `stream`: in
    the events of another stream, `angle_stream`; `file`: in the dataset `angle_dataset` of the images' own file, one a
    frame; `start`: evenly spaced, as the start document's keys `angle_start_keys` say; `baseline`: in the first event
    of the stream `baseline` (or `angle_stream`), one angle for the whole run."""
    angle_stream: str = ""
    """For `angle_from = "stream"`: the stream with the angles, under the data key `rotation`."""
    angle_match: Literal["time", "seq_num"] = "time"
    """How the angles of another stream find their frames. `time`: interpolated at the time of each frame; `seq_num`:
    the event of the same number."""
    angle_time_dataset: str = ""
    """For `angle_match = "time"`: dataset in the images' own file with the time of each frame; without it the time of
    the event counts for all its frames."""
    angle_time_offset_s: float = 0.0
    """Added to that dataset's values to make them seconds since 1970; EPICS counts from 1990: 631152000."""
    angle_dataset: str = ""
    """For `angle_from = "file"`: path of the dataset inside the HDF5 file."""
    angle_start_keys: tuple[str, str, str] = ("min_theta", "max_theta", "num_projections")
    """For `angle_from = "start"`: keys of the first angle, the last one, and the number of projections."""
    references_from: str = ""
    """Key of the start document with the uid of another run, whose flats and darks are this run's as well."""
    only: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Only runs whose start document holds one of these values under each of these keys are read; inside tables a
    key is a path with dots, such as `scan.type`."""
    join_by: tuple[str, ...] = ()
    """Runs whose start documents agree in these keys (paths with dots) make one tomogram, such as one run for each
    angle; empty makes a tomogram of every run."""
    join_gap_s: float = 1800.0
    """A tomogram of many runs is complete when none of them was open for so many seconds."""
    redone_within: float = 0.02
    """In a tomogram of many runs, a run at the angle of an earlier one, within so many degrees, takes its place."""
    withdraw_key: str = "withdraw_runs"
    """In a tomogram of many runs: key of a start document with a list of uids of earlier runs that count no more. A run
    of no points will do to say so."""
    maps: MapRules = MapRules()
    """Maps scanned point by point in place of images."""
    roots: tuple[str, ...] = ()
    """Folders that detector files may be read from; nothing outside them is opened, through links and `..` neither."""
    path_map: dict[str, str] = field(default_factory=dict)
    """Beginnings of paths as documents write them, and what they are on this machine, such as
    `"Z:/data" = "/mnt/detector"`; the longest that fits counts."""
    file_wait_s: float = 120.0
    """Seconds for which a file that was announced and cannot be read is waited for, once for all its frames."""
    projection_streams: tuple[str, ...] = ("primary",)
    """Names of the streams that hold projections."""
    flat_streams: tuple[str, ...] = ("flat", "flats")
    """Names of the streams that hold flat fields (beam without sample)."""
    dark_streams: tuple[str, ...] = ("dark", "darks")
    """Names of the streams that hold dark fields (no beam)."""
    measurement: Literal["auto", "transmission", "line_integral"] = "auto"
    """What the images hold; `auto` follows the start document's key `measurement`, and is transmission without it."""
    abandon_after_s: float = 3600.0
    """A run that was silent for so many seconds without a stop document is given up."""
    hold_s: float = 10.0
    """Documents that came before their start or descriptor wait for it at least so many seconds."""
    max_held: int = 32
    """So many documents may wait for their start or descriptor; the oldest gives way (images count in full)."""
    max_open_runs: int = 32
    """So many runs may be open at once; one more, and the one silent for the longest time is given up."""

    def __post_init__(self) -> None:
        streams = Counter((*self.projection_streams, *self.flat_streams, *self.dark_streams))
        twice = [name for name, count in streams.items() if count > 1]
        if twice or not self.projection_streams:
            raise SettingsError(
                "documents: each stream has one role, and projections need one; "
                f"got {', '.join(map(repr, twice)) + ' twice' if twice else 'no projection_streams'}"
            )
        self._check_angles()
        if self.file_wait_s <= 0:
            raise SettingsError(f"documents: file_wait_s must be over 0; got {self.file_wait_s}")
        if self.join_gap_s <= 0 or self.redone_within < 0:
            raise SettingsError(
                "documents: join_gap_s must be over 0 and redone_within 0 or more; "
                f"got {self.join_gap_s} and {self.redone_within}"
            )
        if self.abandon_after_s <= 0 or self.hold_s < 0 or self.max_held < 0 or self.max_open_runs < 1:
            raise SettingsError(
                "documents: abandon_after_s must be over 0, hold_s and max_held 0 or more, max_open_runs 1 or more; "
                f"got {self.abandon_after_s}, {self.hold_s}, {self.max_held}, {self.max_open_runs}"
            )

    def _check_angles(self) -> None:
        belongs = {
            "angle_dataset": ("file",),
            "angle_time_dataset": ("stream",),
            "angle_stream": ("stream", "baseline"),
        }
        for name, kinds in belongs.items():
            if getattr(self, name) and self.angle_from not in kinds:
                raise SettingsError(
                    f"documents: {name} goes with angle_from = {' or '.join(map(repr, kinds))} only; "
                    f"got angle_from {self.angle_from!r} and {name} {getattr(self, name)!r}"
                )
        needed = {"file": ["angle_dataset"], "stream": ["angle_stream", "rotation"], "baseline": ["rotation"]}
        lacking = [name for name in needed.get(self.angle_from, []) if not getattr(self, name)]
        if lacking:
            raise SettingsError(f"documents: angle_from = {self.angle_from!r} needs {' and '.join(lacking)}")
        if self.angle_from == "stream" and self.role_of(self.angle_stream):
            raise SettingsError(f"documents: angle_stream {self.angle_stream!r} holds frames; use angle_from = 'event'")
        if self.maps.range_key and self.angle_from != "baseline":
            raise SettingsError(
                "documents.maps.range_key goes with angle_from = 'baseline' only: what a step of the stage is across "
                f"the beam depends on the angle of the whole map; got angle_from {self.angle_from!r}"
            )
        if self.angle_by_number and len(self.projection_streams) > 1:
            raise SettingsError("documents: angle_match = 'seq_num' needs a single stream of projections")

    @property
    def degrees_per_unit(self) -> float:
        """Of angles whose documents name no unit, or where `angle_unit` counts against them."""
        return math.degrees(1.0) if self.angle_unit == "radians" else 1.0

    @property
    def angle_by_number(self) -> bool:
        """Whether each event of `angle_stream` belongs to the projection of the same number."""
        return self.angle_from == "stream" and self.angle_match == "seq_num"

    @property
    def separate_angles(self) -> str:
        """Name of the stream that holds angles and no frames; empty where there is none."""
        if self.angle_from == "baseline":
            return self.angle_stream or "baseline"
        return self.angle_stream if self.angle_from == "stream" else ""

    def refusal(self, start: Mapping[str, Any]) -> str | None:
        """Why `only` leaves a run out.

        Parameters
        ----------
        start
            Start document.

        Returns
        -------
        str | None
            In words; None where it does not.
        """
        for key, allowed in self.only.items():
            value = look_up(start, key)
            if str(value) not in allowed:
                return f"{key} is {quoted(value)}, and documents.only asks for {' or '.join(map(repr, allowed))}"
        return None

    def role_of(self, stream: str) -> Role | None:
        """What frames of a stream are.

        Parameters
        ----------
        stream
            Its name.

        Returns
        -------
        Role | None
            None for a stream that holds none, such as `baseline`.
        """
        if stream in self.projection_streams:
            return "projection"
        if stream in self.flat_streams:
            return "flat"
        return "dark" if stream in self.dark_streams else None

"""What the assembler asks for: frozen values, from which the service makes store writes and work for the solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

from pfitre_service.ingest.assembly.angle_track import AnglesAtTimes
from pfitre_service.ingest.assembly.counts import TomogramCounts
from pfitre_service.ingest.assembly.file_references import FileRows
from pfitre_service.ingest.assembly.scanned_maps import ScannedMap
from pfitre_service.model import Frame, Measurement, Role, TomogramKey
from pfitre_service.text_output import storable

ExitStatus = Literal["success", "abort", "fail"]
Level = Literal["info", "warning", "error"]
_MAX_NOTE = 1500
"""Characters; what sentences of our own quote is short, but a name of a stream or a data key may be of any length."""


@dataclass(frozen=True, slots=True)
class OpenTomogram:
    """A run with images and angles began."""

    key: TomogramKey
    run_uid: str
    scan_id: int | None
    sample: str | None
    measurement: Measurement
    expected_frames: int | None
    """Projections that the plan announced; None when it did not say."""
    axis: float | None
    """Column of the rotation axis; None when the start document does not say."""
    pixel_size_nm: float | None
    start: dict[str, Any]
    """The start document, JSON-safe."""
    descriptors: tuple[dict[str, Any], ...]
    """The descriptors known so far, JSON-safe; later ones follow as `AddDocument`."""
    resources: tuple[dict[str, Any], ...]
    """The documents that announced files so far, likewise."""
    element: str = ""
    """Of a tomogram made of maps, one of several from the same runs."""
    joined: tuple[str, ...] | None = None
    """What the runs of a tomogram of many runs agree in."""
    references: str | None = None
    """Uid of another run with flats and darks for this one."""
    measurement_said: bool = True
    """Whether profile or start document said what the images hold; else the values decide."""


@dataclass(frozen=True, slots=True)
class AddRun:
    """A further run of a tomogram of many runs began to give frames."""

    key: TomogramKey
    run_uid: str
    start: dict[str, Any]
    """As in `OpenTomogram`, like the two below."""
    descriptors: tuple[dict[str, Any], ...]
    resources: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class EndRun:
    """A run of a tomogram of many runs ended; the tomogram goes on."""

    key: TomogramKey


@dataclass(frozen=True, slots=True)
class WithdrawRun:
    """Another run took the place of one of a tomogram's runs, whose frames count no more."""

    key: TomogramKey
    run_uid: str


@dataclass(frozen=True, slots=True)
class RetakeFrames:
    """An event was taken again: of its frames only those of the event `event_uid`, which follow, count."""

    key: TomogramKey
    run_uid: str
    stream: str
    seq_num: int
    event_uid: str


@dataclass(frozen=True, slots=True)
class AddDocument:
    """One more stream or file of an open tomogram was announced; kept so that the run can be resumed."""

    key: TomogramKey
    kind: Literal["descriptors", "resources"]
    document: dict[str, Any]
    """JSON-safe."""


@dataclass(frozen=True, slots=True)
class AddFrames:
    """Projections arrived, in the order of their arrival."""

    key: TomogramKey
    frames: tuple[Frame, ...]
    stream: str
    """The stream they belong to: (stream, seq_num) names an event when a run is resumed."""


@dataclass(frozen=True, slots=True)
class AddReferences:
    """Flats or darks arrived."""

    key: TomogramKey
    role: Literal["flat", "dark"]
    frames: tuple[Frame, ...]
    stream: str


@dataclass(frozen=True, slots=True, eq=False)
class ReadFrames:
    """The frames of one event were announced, and what they are must be read from files."""

    key: TomogramKey
    role: Role
    stream: str
    seq_num: int
    time: float
    run_uid: str
    images: FileRows | ScannedMap | NDArray[Any]
    """Where they lie, or how they are made; an array (frame, row, column) where only the angles are to come."""
    angles: FileRows | AnglesAtTimes | tuple[float, ...]
    """Where they lie, or how they are found; or degrees, one for each frame or one for all."""
    degrees_per_unit: float
    """Of the angles in the file."""
    event_uid: str = ""
    """As in `Frame`."""

    @property
    def count(self) -> int:
        """How many frames there are."""
        if isinstance(self.images, FileRows):
            return self.images.stop - self.images.first
        return 1 if isinstance(self.images, ScannedMap) else len(self.images)


@dataclass(frozen=True, slots=True)
class CloseTomogram:
    """The run's stop document came; nothing follows for this key."""

    key: TomogramKey
    exit_status: ExitStatus
    reason: str
    """The stop document's reason; empty for most successful runs."""
    counts: TomogramCounts


@dataclass(frozen=True, slots=True)
class AbandonTomogram:
    """No stop document is to be expected any more; nothing follows for this key."""

    key: TomogramKey
    reason: str
    counts: TomogramCounts


@dataclass(frozen=True, slots=True)
class Note:
    """Something a person should be told; the caller logs it."""

    run_uid: str | None
    level: Level
    message: str
    """Of bounded length, whatever it quotes."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", storable(self.message, _MAX_NOTE))


Action: TypeAlias = (
    OpenTomogram
    | AddRun
    | AddDocument
    | AddFrames
    | AddReferences
    | ReadFrames
    | EndRun
    | WithdrawRun
    | RetakeFrames
    | CloseTomogram
    | AbandonTomogram
    | Note
)

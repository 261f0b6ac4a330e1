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
    """The tomogram."""
    run_uid: str
    """Of the run that began."""
    scan_id: int | None
    """As the start document has it."""
    sample: str | None
    """Its name, as the start document has it."""
    measurement: Measurement
    """What the images hold."""
    expected_frames: int | None
    """Projections that the plan announced; None when it did not say."""
    axis: float | None
    """Column of the rotation axis; None when the start document does not say."""
    pixel_size_nm: float | None
    """Side of a detector pixel, nm; None when the start document does not say."""
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
    """The tomogram."""
    run_uid: str
    """Of the further run."""
    start: dict[str, Any]
    """As in `OpenTomogram`."""
    descriptors: tuple[dict[str, Any], ...]
    """As in `OpenTomogram`."""
    resources: tuple[dict[str, Any], ...]
    """As in `OpenTomogram`."""


@dataclass(frozen=True, slots=True)
class EndRun:
    """A run of a tomogram of many runs ended; the tomogram goes on."""

    key: TomogramKey
    """The tomogram."""


@dataclass(frozen=True, slots=True)
class WithdrawRun:
    """Another run took the place of one of a tomogram's runs, whose frames count no more."""

    key: TomogramKey
    """The tomogram."""
    run_uid: str
    """Of the run that counts no more."""


@dataclass(frozen=True, slots=True)
class RetakeFrames:
    """An event was taken again: of its frames only those of the event `event_uid`, which follow, count."""

    key: TomogramKey
    """The tomogram."""
    run_uid: str
    """Of the event's run."""
    stream: str
    """Of the event."""
    seq_num: int
    """Of the event."""
    event_uid: str
    """Of the new take."""


@dataclass(frozen=True, slots=True)
class AddDocument:
    """One more stream or file of an open tomogram was announced; kept so that the run can be resumed."""

    key: TomogramKey
    """The tomogram."""
    kind: Literal["descriptors", "resources"]
    """Where it is kept."""
    document: dict[str, Any]
    """JSON-safe."""


@dataclass(frozen=True, slots=True)
class AddFrames:
    """Projections arrived, in the order of their arrival."""

    key: TomogramKey
    """The tomogram."""
    frames: tuple[Frame, ...]
    """With their images."""
    stream: str
    """The stream they belong to: (stream, seq_num) names an event when a run is resumed."""


@dataclass(frozen=True, slots=True)
class AddReferences:
    """Flats or darks arrived."""

    key: TomogramKey
    """The tomogram."""
    role: Literal["flat", "dark"]
    """flat or dark."""
    frames: tuple[Frame, ...]
    """With their images."""
    stream: str
    """That they belong to."""


@dataclass(frozen=True, slots=True, eq=False)
class ReadFrames:
    """The frames of one event were announced, and what they are must be read from files."""

    key: TomogramKey
    """The tomogram."""
    role: Role
    """projection, flat or dark."""
    stream: str
    """Of the event."""
    seq_num: int
    """Of the event."""
    time: float
    """Of the event, seconds since the epoch."""
    run_uid: str
    """Of the event's run."""
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
    """The tomogram."""
    exit_status: ExitStatus
    """As the stop document has it."""
    reason: str
    """The stop document's reason; empty for most successful runs."""
    counts: TomogramCounts
    """Of what came for it."""


@dataclass(frozen=True, slots=True)
class AbandonTomogram:
    """No stop document is to be expected any more; nothing follows for this key."""

    key: TomogramKey
    """The tomogram."""
    reason: str
    """Why not."""
    counts: TomogramCounts
    """Of what came for it."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something a person should be told; the caller logs it."""

    run_uid: str | None
    """Of the run that it is about; None for none."""
    level: Level
    """Of the log."""
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

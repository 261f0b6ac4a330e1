"""What the assembler asks for: frozen values, from which the service makes store writes and work for the solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

from pfitre_service.ingest.counts import TomogramCounts
from pfitre_service.ingest.external import FileRows
from pfitre_service.model import Frame, Measurement, Role, TomogramKey

ExitStatus = Literal["success", "abort", "fail"]
Level = Literal["info", "warning", "error"]


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
    images: FileRows | NDArray[Any]
    """Where they lie; an array (frame, row, column) where only the angles lie in a file."""
    angles: FileRows | tuple[float, ...]
    """Where they lie; or degrees, one for each frame or one for all."""
    radians: bool
    """Unit of the angles in the file."""


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


Action: TypeAlias = (
    OpenTomogram | AddDocument | AddFrames | AddReferences | ReadFrames | CloseTomogram | AbandonTomogram | Note
)

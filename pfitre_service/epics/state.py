"""What the process variables show, as values: the tomogram as its metadata tell it, and which slices were chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pfitre_service.epics.pva_values import AXES, Alarm, Axis, Severity
from pfitre_service.model import TomogramKey
from pfitre_service.store.lengths import Lengths
from pfitre_service.text_output import printable


@dataclass(frozen=True, slots=True)
class Known:
    """What the metadata of one tomogram say."""

    key: TomogramKey
    status: str
    reason: str
    revision: int | None
    """Of the newest volume; None before the first."""
    made: float
    """Seconds since the epoch: when the solver made it."""
    angles_used: int
    heldout_error: float
    """NaN where nothing is held out."""
    sentence: str
    warnings: tuple[str, ...]
    pixel_size_nm: float | None
    """Side of a voxel."""

    @classmethod
    def from_metadata(cls, key: TomogramKey, metadata: Mapping[str, Any]) -> Known:
        """From the container's metadata (docs/reference/catalogue.md)."""
        progress, lengths = metadata.get("progress") or {}, Lengths.from_metadata(metadata)
        heldout = progress.get("heldout_error")
        return cls(
            key=key,
            status=printable(str(metadata.get("status") or "idle")),
            reason=printable(str(metadata.get("reason") or "")),
            revision=metadata.get("revision"),
            made=float(progress.get("time") or metadata.get("status_time") or 0.0),
            angles_used=int(progress.get("angles_used") or 0),
            heldout_error=math.nan if heldout is None else float(heldout),
            sentence=printable(str((metadata.get("quality") or {}).get("sentence") or "")),
            warnings=tuple(printable(str(warning)) for warning in metadata.get("warnings") or ()),
            pixel_size_nm=lengths.voxel if lengths.unit == "nm" else None,
        )

    @property
    def alarm(self) -> Alarm:
        """MAJOR for one that failed, INVALID without a volume, MINOR with warnings."""
        if self.status == "failed":
            return Alarm(Severity.MAJOR, self.reason or "the tomogram failed")
        if self.revision is None:
            return Alarm(Severity.INVALID, f"tomogram {self.key} has no volume yet")
        if self.warnings:
            more = f" (and {len(self.warnings) - 1} more)" if len(self.warnings) > 1 else ""
            return Alarm(Severity.MINOR, self.warnings[0] + more)
        return Alarm()


@dataclass(slots=True)
class Places:
    """Which slices are to be shown."""

    shape: tuple[int, int, int] | None = None
    """(z, y, x) of the volume; None before the first."""
    chosen: dict[Axis, int] = field(default_factory=dict)

    def size(self, axis: Axis) -> int | None:
        """How many slices there are across `axis`."""
        return None if self.shape is None else self.shape[AXES.index(axis)]

    def index(self, axis: Axis) -> int:
        """The slice that was chosen, while the volume has it; else the middle."""
        size = self.size(axis) or 1
        chosen = self.chosen.get(axis, size // 2)
        return chosen if chosen < size else size // 2

    def choose(self, axis: Axis, index: int) -> str | None:
        """Why the slice cannot be chosen; None when it is."""
        size = self.size(axis)
        if size is None:
            return "there is no volume yet, so no slice to choose"
        if not 0 <= index < size:
            name = axis.upper()
            return f"{name} must be 0 to {size - 1} ({size} slices); got {index}, and {self.index(axis)} stays"
        self.chosen[axis] = index
        return None

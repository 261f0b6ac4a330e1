"""What the runs of one tomogram share: its keys, whether it is open, which run stands for which angle."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pfitre_service.ingest.assembly.actions import Action, CloseTomogram, OpenTomogram, WithdrawRun
from pfitre_service.ingest.assembly.counts import RunTally
from pfitre_service.ingest.assembly.start_document import StartMetadata
from pfitre_service.model import TomogramKey


@dataclass(slots=True)
class Tomogram:
    """One tomogram, or one for each element, of one run or of many."""

    uid: str
    """Of its first run."""
    elements: tuple[str, ...] = ("",)
    """"" for images; the others are part of the key."""
    joined: tuple[str, ...] | None = None
    """What its runs agree in; None for a tomogram of one run."""
    is_open: bool = False
    open_runs: int = 0
    tally: RunTally = field(default_factory=RunTally)
    """Of the runs that ended."""
    angle_of_run: dict[str, float] = field(default_factory=dict)
    """Degrees, of the runs that count."""
    column_width: float | None = None
    """Of its first map, in micrometres."""
    quiet_since: float | None = None
    """The first check of the clock at which no run was open."""

    def __post_init__(self) -> None:
        for element in self.elements:
            self.key(element)  # a uid that can be no key is refused before anything is made of it

    def key(self, element: str) -> TomogramKey:
        return TomogramKey(f"{self.uid}-{element}" if element else self.uid)

    @property
    def keys(self) -> list[TomogramKey]:
        return [self.key(element) for element in self.elements]

    def take_place(self, run_uid: str, angle: float, within: float) -> list[str]:
        """Note the angle of a run; returns the earlier runs at the same angle, which count no more."""
        earlier = [uid for uid, other in self.angle_of_run.items() if uid != run_uid and abs(other - angle) <= within]
        for uid in earlier:
            del self.angle_of_run[uid]
        self.angle_of_run[run_uid] = angle
        return earlier

    def withdraw(self, run_uids: Any) -> list[Action]:
        """Take runs that a start document names out again; what is no run of this tomogram is left alone."""
        named = run_uids if isinstance(run_uids, list | tuple) else [run_uids]
        gone = [uid for uid in named if isinstance(uid, str) and self.angle_of_run.pop(uid, None) is not None]
        return [WithdrawRun(key, uid) for uid in gone for key in self.keys]

    def scale(self, width: float | None) -> float:
        """How wide a column of `width` micrometres is in columns of this tomogram, which the first map sets."""
        if width is None:
            return 1.0
        self.column_width = width if self.column_width is None else self.column_width
        return width / self.column_width

    def close(self, reason: str) -> list[Action]:
        """A tomogram of many runs is complete."""
        counts = self.tally.freeze()
        return [CloseTomogram(key, "success", reason, counts) for key in self.keys] if self.is_open else []


def opened(
    tomogram: Tomogram,
    element: str,
    facts: StartMetadata,
    start: dict[str, Any],
    descriptors: tuple[dict[str, Any], ...],
    resources: tuple[dict[str, Any], ...],
    column_width: float | None,
) -> OpenTomogram:
    """What a tomogram, or that of one element, begins with.

    start, descriptors, resources: documents, JSON-safe; column_width: of its first map, in micrometres.
    """
    return OpenTomogram(
        key=tomogram.key(element),
        run_uid=facts.uid,
        scan_id=facts.scan_id,
        sample=" ".join(filter(None, (facts.sample, element))) or None,
        measurement="line_integral" if element else facts.measurement,
        measurement_stated=bool(element) or facts.measurement_stated,
        expected_frames=facts.expected_frames if tomogram.joined is None else facts.expected_projections,
        axis=facts.axis,
        pixel_size_nm=facts.pixel_size_nm if column_width is None else 1000 * column_width,
        start=start,
        descriptors=descriptors,
        resources=resources,
        element=element,
        joined=tomogram.joined,
        references=facts.references,
    )

"""What the service would make of a stored run, told line by line: the same assembler, the same reader of files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pfitre_service.errors import InputError
from pfitre_service.ingest import (
    AddFrames,
    AddReferences,
    AngleNotKnownYetError,
    CloseTomogram,
    DocumentRules,
    FrameFiles,
    Note,
    NotReadableYetError,
    OpenTomogram,
    ReadFrames,
    TomogramAssembler,
    frames_of,
)
from pfitre_service.ingest.assembly.descriptors import stream_of
from pfitre_service.ingest.assembly.file_references import source_of
from pfitre_service.model import Finding, Frame, Role, TomogramKey
from pfitre_service.offline.examined import Examined

Verdict = Literal["good", "plain", "warning", "bad"]
_LEVELS: Mapping[str, Verdict] = {"info": "plain", "warning": "warning", "error": "bad"}


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was found."""

    about: str
    """run, stream, file, tomogram, frames, note, ..."""
    verdict: Verdict
    text: str


class RunDiagnosis:
    """Takes documents as the live service does and remembers what it made of them."""

    def __init__(self, rules: DocumentRules) -> None:
        self._rules = rules
        self._assembler = TomogramAssembler(rules)
        self._files = FrameFiles(rules.roots, rules.path_map)
        self._lines: list[Line] = []
        self._starts: dict[str, Mapping[str, Any]] = {}
        self._counts: Counter[Role] = Counter()
        self._angles: list[float] = []
        self._frame_kinds: Counter[str] = Counter()
        self._reads: list[ReadFrames] = []
        self._streams: list[str] = []
        self._opened: list[OpenTomogram] = []
        self._examined: dict[TomogramKey, Examined] = {}
        self._findings: tuple[Finding, ...] = ()

    def take(self, documents: Iterable[tuple[str, dict[str, Any]]]) -> list[Line]:
        """Everything there is to say. Files are read at the end, when all angles are known."""
        for name, document in documents:
            self._report(name, document)
            self._note(self._assembler.handle(name, document))
        self._note(self._assembler.close_joined())
        self._read()
        self._examine()
        return [*self._lines, *self._frames(), *self._sums()]

    @property
    def is_understood(self) -> bool:
        """Whether a volume would come of it."""
        return bool(self._opened) and self._counts["projection"] > 1 and not any(self._bad())

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What speaks against the scan, as the live service would find it; each is a line too."""
        return self._findings

    def _examine(self) -> None:
        for key, examined in self._examined.items():
            try:
                found = examined.findings()
            except InputError as error:
                self._add("values", "bad", f"{key}: {error}")
                continue
            self._findings += found
            for finding in found:
                self._add("doubt", "bad" if finding.fatal else "warning", str(finding))

    def _bad(self) -> list[Line]:
        return [line for line in self._lines if line.verdict == "bad"]

    def _add(self, about: str, verdict: Verdict, text: str) -> None:
        self._lines.append(Line(about, verdict, text))

    # -- documents ---------------------------------------------------------------------------------------------------

    def _report(self, name: str, document: Mapping[str, Any]) -> None:
        """What a document is to us, before the assembler has it; documents that are garbage it will name itself."""
        if name == "start":
            self._starts[str(document.get("uid"))] = document
            plan, scan = document.get("plan_name", "no plan named"), document.get("scan_id", "-")
            self._add("run", "plain", f"{document.get('uid')}, scan {scan}, plan {plan}")
        elif name == "descriptor" and isinstance(document.get("data_keys"), Mapping):
            self._streams.append(str(document.get("name")))
            self._add("stream", *self._of_stream(str(document.get("name")), document))
        elif name in ("resource", "stream_resource"):
            self._add("file", *self._of_file(document))

    def _of_stream(self, name: str, document: Mapping[str, Any]) -> tuple[Verdict, str]:
        role, keys = self._rules.role_of(name), ", ".join(map(str, document["data_keys"]))
        if role is None and name == self._rules.separate_angles:
            return "good", f"{name!r} holds the angles (documents.angle_from = {self._rules.angle_from!r}): {keys}"
        if role is None:
            return "plain", f"{name!r} is not read (in none of documents.*_streams); it has {keys}"
        try:
            columns = stream_of(
                name, role, self._starts.get(str(document.get("run_start")), {}), document, self._rules
            ).columns
        except InputError as error:
            return "bad", f"{name!r} ({role}s) cannot be used: {error}"
        where = "in files" if columns.in_files & {*columns.images} else "in the events"
        images = f"{name!r} holds {role}s: {', '.join(map(repr, columns.images))} {where}"
        return "good", images + (f", angle {columns.rotation!r}" if columns.rotation else self._angle_words(role))

    def _angle_words(self, role: Role) -> str:
        return f", angles: {self._rules.angle_from} (documents.angle_from)" if role == "projection" else ""

    def _of_file(self, document: Mapping[str, Any]) -> tuple[Verdict, str]:
        try:
            source = source_of(document)
            path = self._files.allowed(source.path)
        except InputError as error:
            return "warning", str(error)
        inside = f", dataset {source.dataset}" if source.dataset else ""
        if not path.exists():
            return (
                "warning",
                f"{path} is not there{inside}; documents.path_map says where such a path is on this machine",
            )
        return "good", f"{path}{inside}"

    # -- what the assembler wants done -------------------------------------------------------------------------------

    def _note(self, actions: Iterable[Any]) -> None:
        for action in actions:
            match action:
                case OpenTomogram():
                    self._opened.append(action)
                    self._examined[action.key] = Examined(action.measurement, stated=action.measurement_stated)
                    self._add("tomogram", "good", _of_tomogram(action))
                case AddFrames(key=key, frames=frames) | AddReferences(key=key, frames=frames):
                    self._see(key, frames)
                case ReadFrames():
                    self._reads.append(action)
                case Note(run_uid=run, level=level, message=message):
                    self._add("note", _LEVELS[level], f"{f'run {run[:8]}: ' if run else ''}{message}")
                case CloseTomogram(exit_status=status, reason=reason):
                    self._add("tomogram", "plain", f"{action.key} ends: {status} {reason}".rstrip())

    def _read(self) -> None:
        """Every announced frame, one event at a time; each reason why not is told once."""
        failed: Counter[str] = Counter()
        for job in self._reads:
            try:
                self._see(job.key, frames_of(job, self._files))
            except (AngleNotKnownYetError, NotReadableYetError, InputError, ValueError) as error:
                failed[f"stream {job.stream!r}: {error}"] += job.count
        for reason, count in failed.items():
            self._add("file", "bad", f"{count} frames cannot be read: {reason}")

    def _see(self, key: TomogramKey, frames: Iterable[Frame]) -> None:
        for frame in frames:
            if key in self._examined:
                self._examined[key].take(frame)
            self._counts[frame.role] += 1
            rows, columns = frame.image.shape
            self._frame_kinds[f"{frame.role}s of {rows} x {columns} {frame.image.dtype}"] += 1
            if frame.role == "projection":
                self._angles.append(frame.angle)

    # -- in sum ------------------------------------------------------------------------------------------------------

    def _frames(self) -> list[Line]:
        lines = [Line("frames", "good", f"{count} {kind}") for kind, count in sorted(self._frame_kinds.items())]
        if self._angles:
            lines.append(Line("angles", *_of_angles(np.array(self._angles))))
        if not self._counts["projection"]:
            streams = ", ".join(map(repr, dict.fromkeys(self._streams))) or "none"
            wanted = ", ".join(map(repr, self._rules.projection_streams))
            what = f"looked for in the streams {wanted} (documents.projection_streams); the run has {streams}"
            lines.append(Line("frames", "bad", f"no projection could be used: they are {what}"))
        lines += self._references()
        return lines

    def _references(self) -> list[Line]:
        if not self._opened or self._opened[0].measurement != "transmission" or self._counts["flat"]:
            return []
        if self._opened[0].references:
            return [Line("flats", "plain", f"of run {self._opened[0].references} (documents.references_from)")]
        named = ", ".join(map(repr, self._rules.flat_streams))
        return [
            Line(
                "flats",
                "warning",
                f"none in the streams {named}: set documents.flat_streams or references_from, or "
                'documents.measurement = "line_integral" if the images are no counts',
            )
        ]

    def _sums(self) -> list[Line]:
        counts = self._assembler.counts
        lines = [Line("counts", "warning", f"{number} frames refused: {why}") for why, number in counts.refused.items()]
        told = {
            "events never came": counts.missing,
            "documents refer to one that never came": counts.orphans,
            "documents could not be understood": counts.malformed + counts.unknown_names + counts.not_understood,
        }
        lines += [Line("counts", "warning", f"{number} {what}") for what, number in told.items() if number]
        if counts.duplicates:
            lines.append(Line("counts", "plain", f"{counts.duplicates} documents came twice and count once"))
        if counts.retaken:
            lines.append(Line("counts", "plain", f"{counts.retaken} events were taken again: the last take counts"))
        for run in (*counts.open_runs, *counts.recent_runs):
            lacking = "; ".join(f"stream {stream!r}: {numbers}" for stream, numbers in run.lacking.items())
            lines += [Line("counts", "warning", f"frames of run {run.uid} are not there: {lacking}")] if lacking else []
        ignored = [run for run in counts.recent_runs if run.state in ("ignored", "empty")]
        return lines + [Line("run", "plain", f"{run.uid} is {run.state}: {run.reason}") for run in ignored]


def _of_tomogram(action: OpenTomogram) -> str:
    said = {
        "sample": action.sample,
        "element": action.element or None,
        "images": action.measurement,
        "expected": action.expected_frames,
        "axis at column": action.axis,
        "pixel nm": action.pixel_size_nm,
        "runs agree in": None if action.joined is None else ", ".join(action.joined),
    }
    return f"{action.key}: " + ", ".join(f"{name} {value}" for name, value in said.items() if value is not None)


def _of_angles(angles: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[Verdict, str]:
    different = len(np.unique(angles.round(6)))
    words = f"{angles.min():g} to {angles.max():g} degrees, {different} different of {len(angles)}"
    return ("good", words) if different > 1 else ("bad", f"{words}: the angle does not change")

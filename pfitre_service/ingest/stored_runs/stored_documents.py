"""Documents of runs that are over, wherever they are kept: for `pfitre replay` and `pfitre doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pfitre_service.errors import InputError
from pfitre_service.ingest.detector_files.frame_files import FrameFiles
from pfitre_service.ingest.rules import DocumentRules
from pfitre_service.ingest.scan_files.file_order import Order
from pfitre_service.ingest.scan_files.read_scan import read_scan
from pfitre_service.ingest.scan_files.stored_scan import with_measurement
from pfitre_service.ingest.stored_runs.json_lines import JsonLines, holds_documents
from pfitre_service.ingest.stored_runs.scan_documents import documents_of_scan
from pfitre_service.model import Measurement

Document = tuple[str, dict[str, Any]]
PROFILE = "profile:"
"""Before the name of a catalogue that Tiled and databroker know by name."""
SCAN_FILE_FRAME_S = 0.1
"""Scan files keep no times; their documents are so far apart."""
_REFERENCES = ("run_start", "descriptor", "resource", "stream_resource")


@dataclass(frozen=True, slots=True)
class StoredDocuments:
    """(name, document) pairs, to be read once, in the order in which they were made."""

    source: str
    """Where they are from, in words."""
    documents: Iterable[Document]
    total: int | None = None
    """How many there are, if that is known beforehand."""
    left_out: Callable[[], list[str]] = field(default=list)
    """After reading: what could not be understood, in words."""
    notes: tuple[str, ...] = ()
    """What a person should know of how it was read."""


def stored_documents(
    source: str,
    run: str | None,
    rules: DocumentRules,
    *,
    axis: float | None = None,
    angles: Path | None = None,
    flats: str | None = None,
    darks: str | None = None,
    measurement: Measurement | None = None,
    order: Order = "auto",
) -> StoredDocuments:
    """The documents at `source`, of one run if `run` (a uid, its beginning, or a scan id) names it.

    source: a file of documents, a scan file or folder, the address of a Tiled catalogue or run, or `profile:NAME`; of a
    catalogue, the newest run without `run`. Of scan files alone, axis: column of the rotation axis; measurement: what
    the images hold; angles, flats, darks, order: see `read_scan`. Raises `InputError`, `SettingsError`, `StoreError`.
    """
    options = {"axis": axis, "angles": angles, "flats": flats, "darks": darks, "measurement": measurement}
    given = [name for name, value in options.items() if value is not None] + (["order"] if order != "auto" else [])
    if source.startswith(("http://", "https://", PROFILE)):
        _refuse(given, source)
        return _of_catalogue(source, run, rules)
    path = Path(source).expanduser()
    if not path.exists():
        raise InputError(f"no such file or folder: {path}; a catalogue is named http://HOST:PORT or {PROFILE}NAME")
    if path.is_file() and holds_documents(path):
        _refuse(given, source)
        lines = JsonLines(path)
        documents = lines if run is None else _only(lines, run, path)
        return StoredDocuments(f"documents in {path}", documents, left_out=lambda: faults_of(lines))
    if run is not None:
        raise InputError(f"{path} holds one scan; leave --run {run} out")
    if measurement is not None and rules.measurement not in ("auto", measurement):
        raise InputError(
            f"--measurement {measurement} contradicts documents.measurement = {rules.measurement!r} of these settings, "
            "which the service follows: leave one of them out"
        )
    scan = with_measurement(read_scan(path, angles=angles, flats=flats, darks=darks, order=order), measurement)
    stacks = [stack for stack in (scan.darks, scan.flats, scan.projections) if stack is not None]
    total = sum(len(stack) + 1 for stack in stacks) + 2
    documents = documents_of_scan(scan, rules, frame_s=SCAN_FILE_FRAME_S, axis=axis)
    return StoredDocuments(scan.source, documents, total, notes=scan.notes)


def _refuse(options: list[str], source: str) -> None:
    if options:
        raise InputError(f"--{options[0]} is for scan files; {source} has documents, which say it themselves")


def faults_of(lines: JsonLines) -> list[str]:
    """What was left out, and how much more there was."""
    more = lines.left_out - len(lines.faults)
    return [*lines.faults, *([f"and {more} more lines"] if more else [])]


def _of_catalogue(source: str, run: str | None, rules: DocumentRules) -> StoredDocuments:
    from pfitre_service.ingest.stored_runs.tiled_catalogue import (  # the Tiled client: two seconds
        StoredRuns,
        documents_of_run,
    )

    name = source.removeprefix(PROFILE)
    runs = StoredRuns.at(source) if name == source else StoredRuns.from_profile(name)
    node = runs.run(run)
    uid = node.metadata["start"]["uid"]
    return StoredDocuments(
        f"run {uid} in {source.partition('?')[0]}", runs.closed_after(documents_of_run(node, readable_files(rules)))
    )


def readable_files(rules: DocumentRules) -> Callable[[str], bool]:
    """Whether the service would read the file at a path."""
    files = FrameFiles(rules.roots, rules.path_map)

    def readable(path: str) -> bool:
        try:
            return files.allowed(path).is_file()
        except InputError:
            return False

    return readable


def _only(documents: Iterable[Document], run: str, path: Path) -> Iterator[Document]:
    """Those of one run, found through what refers to what."""
    known: set[Any] = set()
    for name, document in documents:
        if _is_start_of(run, document) if name == "start" else _refers_to(known, document):
            known.add(document.get("uid"))
            yield name, document
    if not known:
        raise InputError(f"{path}: there is no run {run}")


def _is_start_of(run: str, start: Mapping[str, Any]) -> bool:
    return str(start.get("uid")).startswith(run) or str(start.get("scan_id")) == run


def _refers_to(known: set[Any], document: Mapping[str, Any]) -> bool:
    return any(isinstance(document.get(key), str) and document[key] in known for key in _REFERENCES)

"""From documents to stored frames: the assembler decides, the store thread writes.

    source (the spool, or a RunEngine in this process) -> TomogramAssembler -> actions -> StoreThread -> Tiled

The worker finds out from Tiled, where only what is stored counts as received. So a scan is the same whether its
documents came over 0MQ or from a callback, and whether or not a worker runs yet.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from pfitre_service.config import Settings
from pfitre_service.errors import StoreError, StoreMissingError
from pfitre_service.ingest import (
    AbandonTomogram,
    Action,
    AddDocument,
    AddFrames,
    AddReferences,
    AddRun,
    CloseTomogram,
    DocumentRules,
    EndRun,
    FrameFiles,
    Note,
    OpenTomogram,
    ReadFrames,
    RetakeFrames,
    TomogramAssembler,
    TomogramCounts,
    WithdrawRun,
)
from pfitre_service.ingest.detector_files.loader_thread import ReadingThread, Unreadable
from pfitre_service.logs import about
from pfitre_service.model import TomogramKey
from pfitre_service.software import signature
from pfitre_service.store.catalog import Catalog
from pfitre_service.store.reader import Acquisition, TomogramReader
from pfitre_service.store.writer_thread import StoreThread

_SETTLED_S = 5.0
"""A detector file that has not changed for so long is no longer written."""

logger = logging.getLogger(__name__)

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_ENDS: Mapping[str, Any] = {"success": "complete", "abort": "aborted", "fail": "failed"}
_CLOSE_S = 6.0
_RECENT_NOTES = 20


class Ingestion:
    """Carries out the assembler's actions on the store. Belongs to the thread that calls `handle`."""

    def __init__(
        self, rules: DocumentRules, store: StoreThread, *, profile_name: str, receiver: str, kept: bool = False
    ) -> None:
        self._assembler = TomogramAssembler(rules)
        self._rules = rules
        self._store = store
        self._profile_name = profile_name
        self._receiver = receiver
        """Written beside a tomogram while it is received: nobody else may resume it, for it has one writer."""
        self._kept = kept
        """Whether what comes is on the disk until it is stored."""
        self._files = ReadingThread(
            FrameFiles(rules.roots, rules.path_map, settled_s=_SETTLED_S), store.append, wait_s=rules.file_wait_s
        )
        self._reads: set[TomogramKey] = set()
        """Tomograms with frames in files: what concerns them goes on when these are read."""
        self._documents: dict[TomogramKey, dict[str, Any]] = {}
        """Start and descriptor documents of every open tomogram, as the store keeps them for a restart."""
        self._frames_refused = 0
        self._notes: deque[str] = deque(maxlen=_RECENT_NOTES)

    def handle(self, name: str, document: dict[str, Any]) -> None:
        """Takes in one document."""
        self._carry_out(self._assembler.handle(name, document))

    def expire(self) -> None:
        """Gives up runs that were silent too long; called now and then."""
        self._carry_out(self._assembler.expire(time.monotonic()))

    @property
    def open_runs(self) -> list[str]:
        """Uids of the runs that are open."""
        return [run.uid for run in self._assembler.counts.open_runs]

    @property
    def held(self) -> int:
        """Documents that wait for their start or descriptor."""
        return self._assembler.counts.held

    def until_stored(self) -> Callable[[], bool]:
        """A question that is answered with yes once all that came of the documents before now is stored, or refused for
        good: what has to be read out of files, too."""
        read, written = self._files.submitted, self._store.submitted
        wait_for_files = self._files.finished < read

        def is_stored() -> bool:
            nonlocal written, wait_for_files
            if wait_for_files and self._files.finished >= read:
                wait_for_files, written = False, self._store.submitted
            return not wait_for_files and self._store.finished >= written

        return is_stored

    def resume(self, catalog: Catalog, *, coming: Collection[str] = (), done: Collection[str] = ()) -> None:
        """Goes on with the tomograms that were being received when the process before this one ended.

        coming: runs whose documents come once more from their start on: they begin afresh, and what is stored of them
        is found to be so. done: runs that are stored whole, of which documents may come once more.
        """
        self._assembler.stored_runs = frozenset(done)
        # However old; and those that the worker has given up already.
        found = {one.key: one for one in (*catalog.unfinished(), *catalog.summaries())}
        readers = [catalog.reader(key) for key, one in found.items() if one.acquisition == "receiving"]
        open_runs: dict[str, tuple[TomogramReader, Acquisition]] = {}
        for reader in readers:
            try:
                acquisition = reader.acquisition()
            except StoreMissingError:  # the process before this one ended while it was made
                if not set(found[reader.key].metadata.get("run_uids", ())) & set(coming):
                    self._store.create(reader.key, {})
                    self._store.finish(reader.key, "abandoned", "its making was interrupted, so it cannot be resumed")
                continue
            documents = acquisition.documents
            start, joined = documents.get("start"), documents.get("joined")
            if documents.get("receiver", self._receiver) != self._receiver:
                continue
            if start is None and not joined:
                why = "its start document was not kept, so it cannot be resumed"
                self._store.finish(reader.key, "abandoned", why)
                continue
            uid = None if start is None else str(start.get("uid"))
            if joined or uid not in coming:
                self._documents[reader.key] = documents
            if joined:
                again = {uid, *coming} - set(done)
                ended = [run for run, *_ in reader.frame_ids() if run not in again]
                angles = {run: angle for run, angle in reader.angle_of_run().items() if run not in again}
                self._assembler.resume_joined(joined["uid"], tuple(joined["by"]), angles, len(ended))
            if start is not None and uid not in coming:  # once, where a run makes several tomograms
                open_runs.setdefault(str(uid), (reader, acquisition))
        for uid, (reader, acquisition) in open_runs.items():
            self._resume_run(uid, reader, acquisition)

    def close_joined(self) -> None:
        """Completes the tomograms of many runs: no further run will come."""
        self._carry_out(self._assembler.close_joined())

    def close(self) -> None:
        """Ends the reading of files."""
        self._files.close(_CLOSE_S)

    def report(self) -> tuple[str, str, dict[str, Any]]:
        """State, reason and counters for the health page."""
        counts, store, files = self._assembler.counts, self._store.state, self._files.report()
        details = {
            **asdict(counts),
            "refused_by_store": self._frames_refused,
            "store": asdict(store),
            "files": files,
            "notes": list(self._notes),
        }
        if store.retrying_since is not None:
            away = f"the catalogue cannot be written: {store.last_error}"
            if store.waiting_frames:
                where = "wait on the disk (in the spool)" if self._kept else "are in memory alone"
                return "degraded", f"{away}; {store.waiting_frames} frames {where}", details
            return "waiting", away, details
        if files["waits_for"]:
            return "receiving", f"frames wait for their files: {files['waits_for']}", details
        if counts.open_runs:
            runs = ", ".join(f"{run.uid[:8]} ({run.projections} projections)" for run in counts.open_runs)
            return "receiving", f"open runs: {runs}", details
        last = counts.recent_runs[-1] if counts.recent_runs else None
        ended = "no run yet" if last is None else f"last run {last.uid[:8]}: {last.state} {last.reason}".rstrip()
        if counts.orphans:
            ended += f"; {counts.orphans} documents belonged to runs whose start was not seen (joined late?)"
        return "idle", ended, details

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            try:
                self._carry_out_one(action)
            except StoreError as error:
                # The queue is full or the store is closed: said and counted here, seen as a gap in the scan.
                if isinstance(action, AddFrames | AddReferences):
                    self._frames_refused += len(action.frames)
                self._note(logging.ERROR, str(error))

    def _carry_out_one(self, action: Action) -> None:
        match action:
            case OpenTomogram():
                self._open(action)
            case AddDocument(key=key, kind=kind, document=document):
                documents = self._documents[key]
                documents[kind] = [*documents[kind], document]
                self._store.update(key, documents=documents)
            case AddRun(key=key, start=start, descriptors=descriptors, resources=resources):
                self._keep_run(key, start, list(descriptors), list(resources))
            case EndRun(key=key):
                self._keep_run(key, None, [], [])
            case WithdrawRun(key=key, run_uid=gone):
                self._after_reading(key, lambda _: self._store.withdraw(key, gone))
            case RetakeFrames(key=key, run_uid=run, stream=stream, seq_num=number, event_uid=uid):
                self._files.give_up_event(key, run, stream, number)
                self._after_reading(key, lambda _: self._store.retake(key, run, stream, number, uid))
            case ReadFrames(key=key):
                self._reads.add(key)
                self._files.read(action)
            case AddFrames(key=key, frames=frames) | AddReferences(key=key, frames=frames):
                self._store.append(key, frames)
            case CloseTomogram(key=key, exit_status=exit_status, reason=reason, counts=counts):
                self._finish(key, _ENDS[exit_status], reason, counts)
            case AbandonTomogram(key=key, reason=reason, counts=counts):
                self._finish(key, "abandoned", reason, counts)
            case Note(run_uid=run_uid, level=level, message=message):
                self._note(_LEVELS[level], message, run_uid)

    def _open(self, action: OpenTomogram) -> None:
        documents = {
            "receiver": self._receiver,
            "start": action.start,
            "descriptors": list(action.descriptors),
            "resources": list(action.resources),
            "joined": None if action.joined is None else {"uid": action.run_uid, "by": list(action.joined)},
        }
        self._documents[action.key] = documents
        metadata = {
            "run_uids": [action.run_uid],
            "scan_id": action.scan_id,
            "sample": action.sample,
            "measurement": action.measurement,
            "measurement_stated": action.measurement_stated,
            "geometry": {"axis": action.axis, "pixel_size_nm": action.pixel_size_nm},
            "element": action.element or None,
            "references": action.references,
            "profile": self._profile_name,
            "software": signature(),
        }
        self._store.create(action.key, metadata, expected_frames=action.expected_frames, documents=documents)

    def _keep_run(
        self,
        key: TomogramKey,
        start: dict[str, Any] | None,
        descriptors: list[dict[str, Any]],
        resources: list[dict[str, Any]],
    ) -> None:
        """The run that a restart must go on with, of a tomogram of many runs; None between runs."""
        run = {"start": start, "descriptors": descriptors, "resources": resources}
        self._documents[key] = {**self._documents[key], **run}
        self._store.update(key, documents=self._documents[key])

    def _after_reading(self, key: TomogramKey, then: Callable[[Unreadable], None]) -> None:
        """`then`, with what could not be read, when all frames asked for before are stored."""
        if key in self._reads:
            self._files.after(key, then)
        else:
            then(Unreadable())

    def _finish(self, key: TomogramKey, state: Any, reason: str, counts: TomogramCounts) -> None:
        self._documents.pop(key, None)
        received = asdict(counts)

        def finish(lost: Unreadable) -> None:
            lacking = "; ".join(f"stream {stream!r}: {numbers}" for stream, numbers in counts.lacking.items())
            why = "; ".join(filter(None, (reason, lacking and f"frames not there: {lacking}", str(lost))))
            self._store.finish(key, state, why or None, {**received, "unreadable": lost.frames})

        self._after_reading(key, finish)
        self._reads.discard(key)

    def _resume_run(self, uid: str, reader: TomogramReader, acquisition: Acquisition) -> None:
        documents, shape = acquisition.documents, acquisition.frame_shape
        stored = [(stream, number, event) for run, stream, number, _, event in reader.frame_ids() if run == uid]
        descriptors, resources = documents.get("descriptors", []), documents.get("resources", [])
        self._carry_out(self._assembler.resume(documents["start"], descriptors, resources, stored, shape))
        with about(reader.key):
            logger.info("resumed with %d frames of run %s stored", len(stored), uid)

    def _note(self, level: int, message: str, run_uid: str | None = None) -> None:
        with about(run_uid or ""):
            logger.log(level, "%s", message)
        if level >= logging.WARNING:
            self._notes.append(f"run {run_uid[:8]}: {message}" if run_uid else message)


@contextmanager
def store_thread(settings: Settings, catalog: Catalog) -> Iterator[StoreThread]:
    store = StoreThread(
        catalog,
        queue_bytes=settings.tiled.queue_mib << 20,
        submit_timeout_s=settings.tiled.submit_timeout_s,
        give_up_s=settings.tiled.give_up_s,
    )
    try:
        yield store
    finally:
        store.close(_CLOSE_S)

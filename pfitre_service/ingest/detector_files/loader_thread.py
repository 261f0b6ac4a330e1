"""The thread that reads announced frames out of detector files, so that documents never wait for a disk.

Jobs of one tomogram are done in order. A file that cannot be read yet is tried again until `wait_s` is over; other
tomograms go on meanwhile. What cannot be read is counted and told of, never dropped in silence.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pfitre_service.errors import InputError, StoreError
from pfitre_service.ingest.assembly.actions import ReadFrames
from pfitre_service.ingest.assembly.angle_track import AngleNotKnownYetError
from pfitre_service.ingest.assembly.file_references import FileRows
from pfitre_service.ingest.assembly.scanned_maps import ScannedMap
from pfitre_service.ingest.detector_files.frame_files import FrameFiles, NotReadableYetError, frames_of
from pfitre_service.ingest.sequence import in_words
from pfitre_service.logs import about
from pfitre_service.model import Frame, TomogramKey

logger = logging.getLogger(__name__)

_RETRY_S = 0.1
_RECENT = 10
_MAX_EVENTS = 10_000


@dataclass(slots=True)
class Unreadable:
    """What could not be read of one tomogram."""

    frames: int = 0
    reason: str = ""
    """Of the first of them."""
    events: list[tuple[int, int]] = field(default_factory=list)
    """Their numbers, as ranges; the first so many."""

    def __str__(self) -> str:
        if not self.frames:
            return ""
        return f"{self.frames} frames could not be read (events {in_words(self.events)}): {self.reason}"


@dataclass(frozen=True, slots=True)
class _Job:
    read: ReadFrames | None
    then: Callable[[Unreadable], None] | None = None
    """Called, in its turn, with what could not be read of the tomogram so far."""
    number: int = 0
    """Of the order in which jobs came."""


@dataclass(slots=True)
class _Line:
    jobs: deque[_Job] = field(default_factory=deque)


class ReadingThread:
    """Owns one thread, from construction to `close`. `store` takes the frames that were read, as
    `StoreThread.append` does."""

    def __init__(
        self, files: FrameFiles, store: Callable[[TomogramKey, tuple[Frame, ...]], None], *, wait_s: float
    ) -> None:
        self._files = files
        self._store = store
        self._wait_s = wait_s
        self._condition = threading.Condition()
        self._lines: dict[TomogramKey, _Line] = {}
        self._unreadable: defaultdict[TomogramKey, Unreadable] = defaultdict(Unreadable)
        self._recent: deque[str] = deque(maxlen=_RECENT)
        self._unreadable_in_all = 0
        self._waits: dict[TomogramKey, str] = {}
        self._waiting_since: defaultdict[TomogramKey, dict[str, float]] = defaultdict(dict)
        """When something of a file could not be read for the first time since it last could: one clock a file. When it
        has run down, further frames of that file are tried once each."""
        self._submitted = 0
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="pfitre-files", daemon=True)
        self._thread.start()

    def read(self, job: ReadFrames) -> None:
        """Read and store the frames, in their turn."""
        self._submit(job.key, _Job(job))

    def after(self, key: TomogramKey, then: Callable[[Unreadable], None]) -> None:
        """Call `then` with what could not be read, after all that was asked for before."""
        self._submit(key, _Job(None, then))

    def give_up_event(self, key: TomogramKey, run_uid: str, stream: str, seq_num: int) -> None:
        """Read no more of an event: it was taken again, and the files of the first take may never be whole."""
        event = (run_uid, stream, seq_num)
        with self._condition:
            line = self._lines.get(key, _Line())
            line.jobs = deque(replace(job, read=None) if _event_of(job) == event else job for job in line.jobs)

    @property
    def submitted(self) -> int:
        """Jobs that it was ever given."""
        with self._condition:
            return self._submitted

    @property
    def finished(self) -> int:
        """So many of the first of them are done."""
        with self._condition:
            return min((line.jobs[0].number for line in self._lines.values()), default=self._submitted)

    def report(self) -> dict[str, object]:
        """For the health page: events that wait for a file, why, and frames that could not be read."""
        with self._condition:
            return {
                "waiting_events": sum(len(line.jobs) for line in self._lines.values()),
                "waits_for": dict(zip(map(str, self._waits), self._waits.values(), strict=True)),
                "unreadable_frames": self._unreadable_in_all,
                "unreadable": list(self._recent),
            }

    def close(self, timeout_s: float) -> None:
        """Do what can be done at once, for `timeout_s` at most, and end the thread."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        self._thread.join(timeout_s)

    def _submit(self, key: TomogramKey, job: _Job) -> None:
        with self._condition:
            self._lines.setdefault(key, _Line()).jobs.append(replace(job, number=self._submitted))
            self._submitted += 1
            self._condition.notify_all()

    def _work(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._lines or self._closing)
                lines = list(self._lines.items())
                if not lines:
                    return
            moved = [self._advance(key, line) for key, line in lines]
            with self._condition:
                if not any(moved):
                    if self._closing:
                        return
                    self._condition.wait(_RETRY_S)

    def _advance(self, key: TomogramKey, line: _Line) -> bool:
        """Does the first job of a tomogram; False when it must be tried again."""
        with about(key):
            if not self._done(key, line.jobs[0]):
                return False
        with self._condition:
            self._waits.pop(key, None)
            line.jobs.popleft()
            if not line.jobs:
                del self._lines[key]
        return True

    def _done(self, key: TomogramKey, job: _Job) -> bool:
        if job.read is None:
            self._waiting_since.pop(key, None)
            if job.then is not None:
                job.then(self._unreadable[key])
            return True
        path = _path_of(job.read)
        try:
            frames = frames_of(job.read, self._files)
            self._waiting_since[key].pop(path, None)
            self._store(key, frames)
        except AngleNotKnownYetError as error:
            # Until the run ends, which closes the track of its angles.
            with self._condition:
                self._waits[key] = str(error)
            return False
        except NotReadableYetError as error:
            now = time.monotonic()
            with self._condition:
                self._waits[key] = str(error)
            if now - self._waiting_since[key].setdefault(path, now) < self._wait_s:
                return False
            self._give_up(job.read, f"{error}; waited {self._wait_s:g} s (documents.file_wait_s)")
        except (InputError, ValueError, MemoryError) as error:
            self._give_up(job.read, str(error))
        except StoreError as error:
            # The queue is full for now; the file keeps the frames.
            with self._condition:
                self._waits[key] = str(error)
            return False
        except Exception as error:  # the thread's edge: one bad file must not stop all others
            logger.exception("reading frames failed")
            self._give_up(job.read, f"{type(error).__name__}: {error}")
        return True

    def _give_up(self, job: ReadFrames, reason: str) -> None:
        where = f"run {job.run_uid[:8]}, stream {job.stream!r}, event {job.seq_num}"
        with self._condition:
            lost = self._unreadable[job.key]
            lost.frames += job.count
            if len(lost.events) < _MAX_EVENTS:
                lost.events.append((job.seq_num, job.seq_num))
            first, lost.reason = not lost.reason, lost.reason or reason
            self._unreadable_in_all += job.count
            if first:
                self._recent.append(f"{where}: {job.count} frame(s) cannot be read: {reason}")
        if first:
            logger.warning("%s: %d frame(s) cannot be read (further ones are counted): %s", where, job.count, reason)


def _event_of(job: _Job) -> tuple[str, str, int] | None:
    return None if job.read is None else (job.read.run_uid, job.read.stream, job.read.seq_num)


def _path_of(job: ReadFrames) -> str:
    """The file, or the folder of files, that the images of a job lie in, or else its angles."""
    sources: list[object] = [job.images, job.angles]
    if isinstance(job.images, ScannedMap):
        sources = [*job.images.parts, job.images.divisor, *sources]
    return next((rows.source.path for rows in sources if isinstance(rows, FileRows)), "")

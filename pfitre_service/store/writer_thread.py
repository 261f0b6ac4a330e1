"""The thread that writes to the catalogue, so that whoever receives frames never waits for it.

Jobs of one tomogram are done in order. Its frames that wait go out in one write. While the catalogue
cannot write (server gone, disk full, folder read-only) the first job is tried again, with growing pauses, for as long
as the service lives; what comes meanwhile waits in a queue bounded by bytes. Nothing is dropped: when the queue stays
full, `append` raises, and the frames it was given are counted as refused.

One tomogram alone may be broken: its job fails in the server again and again, while the server reads from the catalogue
and takes the word that this tomogram failed. It is given up after a stated time, for all others wait behind it; at once
where what is stored of it is damaged.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pfitre_service.errors import StoreBrokenError, StoreDamagedError, StoreError, StoreUnavailableError
from pfitre_service.logs import about
from pfitre_service.model import Frame, TomogramKey
from pfitre_service.store.acquisition_writer import AcquisitionWriter, FramesRefusedError
from pfitre_service.store.catalog import Catalog
from pfitre_service.store.layout import AcquisitionState
from pfitre_service.store.write_queue import Job, WriteQueue

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
# What one request under way may still take when time is up.
_GRACE_S = 2.0


@dataclass(frozen=True, slots=True)
class StoreState:
    """What the thread is doing; for health and for people."""

    waiting_jobs: int = 0
    waiting_frames: int = 0
    waiting_bytes: int = 0
    stored_frames: int = 0
    duplicate_frames: int = 0
    refused_frames: int = 0
    """Frames that did not fit their array, or for which the queue had no room."""
    failed_jobs: int = 0
    """Jobs that the catalogue refused for good."""
    given_up: int = 0
    """Tomograms at which the server failed again and again, while it was well otherwise."""
    given_up_last: str | None = None
    """The last of them, and why."""
    retrying_since: float | None = None
    """Seconds since the epoch of the first failure of the job that is being tried again; None while writing works."""
    last_error: str | None = None


class StoreThread:
    """Owns one thread, from construction to `close`.

    Args:
        catalog: where to write; shared, not closed by this class.
        queue_bytes: frames that may wait.
        submit_timeout_s: longest that `append` waits for room.
        give_up_s: how long the server may fail at a job, while it is well otherwise, before its tomogram is given up.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        queue_bytes: int = 1 << 30,
        submit_timeout_s: float = 10.0,
        give_up_s: float = 300.0,
    ) -> None:
        self._catalog = catalog
        self._submit_timeout_s = submit_timeout_s
        self._patience_s = give_up_s
        self._condition = threading.Condition()
        self._queue = WriteQueue(queue_bytes)
        self._state = StoreState()
        self._closing = False
        self._give_up = threading.Event()
        self._writers: dict[TomogramKey, AcquisitionWriter] = {}
        self._broken: set[TomogramKey] = set()
        """Tomograms that were given up, until their end."""
        self._thread = threading.Thread(target=self._work, name="pfitre-store", daemon=True)
        self._thread.start()

    @property
    def state(self) -> StoreState:
        with self._condition:
            return replace(
                self._state,
                waiting_jobs=len(self._queue),
                waiting_frames=self._queue.frames,
                waiting_bytes=self._queue.nbytes,
            )

    @property
    def submitted(self) -> int:
        """Jobs that it was ever given."""
        with self._condition:
            return self._queue.submitted

    @property
    def finished(self) -> int:
        """So many of the first of them are done, or refused for good."""
        with self._condition:
            return self._queue.finished

    def has_room(self, nbytes: int) -> bool:
        """Whether frames of so many bytes would be taken at once."""
        with self._condition:
            return self._queue.has_room(nbytes)

    def create(
        self,
        key: TomogramKey,
        metadata: Mapping[str, Any],
        *,
        expected_frames: int | None = None,
        documents: Mapping[str, Any] | None = None,
    ) -> None:
        """`Catalog.create`, in its turn."""

        def run(writer: AcquisitionWriter) -> None:
            self._catalog.create(key, metadata, expected_frames=expected_frames, documents=documents)

        self._submit(Job("create", key, run=run))

    def append(self, key: TomogramKey, frames: Sequence[Frame]) -> None:
        """`AcquisitionWriter.append`, in its turn. Images must not change afterwards.

        Raises:
            StoreError: the queue stayed full for `submit_timeout_s`, or the thread is closed; no frame is kept.
        """
        nbytes = sum(frame.image.nbytes for frame in frames)
        self._submit(Job("append", key, frames=tuple(frames), nbytes=nbytes))

    def update(self, key: TomogramKey, **fields: Any) -> None:
        """`AcquisitionWriter.update`, in its turn."""
        self._submit(Job("update", key, run=lambda writer: writer.update(**fields)))

    def withdraw(self, key: TomogramKey, run_uid: str) -> None:
        """`AcquisitionWriter.withdraw`, in its turn: after every frame of that run."""
        self._submit(Job("withdraw", key, run=lambda writer: writer.withdraw(run_uid)))

    def retake(self, key: TomogramKey, run_uid: str, stream: str, seq_num: int, event_uid: str) -> None:
        """`AcquisitionWriter.retake`, in its turn: after every frame of earlier takes."""
        self._submit(Job("retake", key, run=lambda writer: writer.retake(run_uid, stream, seq_num, event_uid)))

    def finish(
        self, key: TomogramKey, state: AcquisitionState, reason: str | None, counts: Mapping[str, int] | None = None
    ) -> None:
        """`AcquisitionWriter.close`, in its turn: after every frame of the tomogram."""
        received = dict(counts or {})
        self._submit(Job("finish", key, run=lambda writer: writer.close(state, reason, received)))

    def close(self, timeout_s: float) -> StoreState:
        """Write what waits, for `timeout_s` at most, and end the thread. What is left then is in the answer."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        self._thread.join(timeout_s)
        self._give_up.set()
        self._thread.join(_GRACE_S)
        left = self.state
        if left.waiting_jobs:
            logger.error(
                "store closed with %d jobs and %d frames not written: %s",
                left.waiting_jobs,
                left.waiting_frames,
                left.last_error or "no time left",
            )
        return left

    def _submit(self, job: Job) -> None:
        with self._condition:
            room = self._condition.wait_for(
                lambda: self._closing or self._queue.has_room(job.nbytes), self._submit_timeout_s
            )
            if self._closing or not room:
                self._state = replace(self._state, refused_frames=self._state.refused_frames + len(job.frames))
                why = "the store is closed" if self._closing else f"its queue of {self._queue.limit >> 20} MiB is full"
                raise StoreError(
                    f"tomogram {job.key}: {len(job.frames)} frames refused, {why} "
                    f"(last error: {self._state.last_error or 'none'}); they must be read back from their source"
                )
            self._queue.put(job)
            self._condition.notify_all()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            with about(job.key):
                done = self._until_done(job)
            if not done:
                return
            self._forget(job)

    def _next(self) -> Job | None:
        """The first job, with the frames of its tomogram that wait behind it; it stays in the queue until done."""
        with self._condition:
            self._condition.wait_for(lambda: self._queue or self._closing)
            return self._queue.first()

    def _until_done(self, job: Job) -> bool:
        """Try until it works or is refused for good. False where the thread was told to give up."""
        if job.key in self._broken:
            self._leave_out(job)
            return True
        pause = _FIRST_PAUSE_S
        broken_since: float | None = None
        while True:
            try:
                self._do(job)
            except (StoreUnavailableError, StoreDamagedError) as error:
                self._note_retry(job, error)
                broken_since = self._broken_since(error, broken_since)
                if self._is_over(error, broken_since) and self._given_up(job, error):
                    return True
                if self._give_up.wait(pause):
                    return False
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            except FramesRefusedError as error:
                self._note_refused(job, error)
                return True
            except StoreError as error:
                self._note_failed(job, error)
                return True
            except Exception as error:  # the thread's edge: one bad job must not stop all others
                logger.exception("store: %s failed", job.what)
                self._note_failed(job, StoreError(f"{type(error).__name__}: {error}"))
                return True
            else:
                self._note_done(job)
                return True

    def _broken_since(self, error: StoreError, before: float | None) -> float | None:
        """Since when, in monotonic seconds, the server fails at this job and reads from the catalogue all the same."""
        if not self._catalog.answers():
            return None
        return time.monotonic() if before is None and isinstance(error, StoreBrokenError) else before

    def _is_over(self, error: StoreError, broken_since: float | None) -> bool:
        """Whether another try is in vain: damage does not heal, and a server may fail at one tomogram for so long."""
        if isinstance(error, StoreDamagedError):
            return True
        return broken_since is not None and time.monotonic() - broken_since >= self._patience_s

    def _given_up(self, job: Job, error: StoreError) -> bool:
        """Mark the tomogram as failed. False where not even that can be written: then it is the server that is ill."""
        failed = f"given up after {self._patience_s:g} s in which the catalogue failed at its {job.what}: {error}"
        why = f"given up: {error}" if isinstance(error, StoreDamagedError) else failed
        try:
            self._catalog.acquisition_writer(job.key).give_up(why)
        except StoreUnavailableError:
            return False
        except StoreError as unmarked:  # it was never made
            logger.warning("store: cannot be marked as failed: %s", unmarked)
        self._note_failed(job, StoreError(why))
        with self._condition:
            said = f"tomogram {job.key}: {why}"
            self._state = replace(self._state, given_up=self._state.given_up + 1, given_up_last=said)
        if job.what != "finish":
            self._broken.add(job.key)
        return True

    def _leave_out(self, job: Job) -> None:
        """A job of a tomogram that was given up."""
        self._count(refused=len(job.frames))
        if job.what == "finish":
            self._broken.discard(job.key)

    def _do(self, job: Job) -> None:
        writer = self._writers.get(job.key)
        if writer is None:
            writer = self._writers[job.key] = self._catalog.acquisition_writer(job.key)
        if job.run is not None:
            job.run(writer)
            if job.what == "finish":
                del self._writers[job.key]
            return
        done = writer.append(job.frames)
        self._count(stored=done.stored, duplicates=done.duplicates)

    def _count(self, *, stored: int = 0, duplicates: int = 0, refused: int = 0) -> None:
        with self._condition:
            self._state = replace(
                self._state,
                stored_frames=self._state.stored_frames + stored,
                duplicate_frames=self._state.duplicate_frames + duplicates,
                refused_frames=self._state.refused_frames + refused,
            )

    def _note_done(self, job: Job) -> None:
        with self._condition:
            recovered = self._state.retrying_since is not None
            self._state = replace(self._state, retrying_since=None)
        if recovered:
            logger.info("store: writing works again (%s)", job.what)

    def _note_retry(self, job: Job, error: StoreError) -> None:
        with self._condition:
            first = self._state.retrying_since is None
            since = time.time() if first else self._state.retrying_since
            self._state = replace(self._state, retrying_since=since, last_error=str(error))
        if first:
            logger.warning("store: %s waits: %s", job.what, error)

    def _note_refused(self, job: Job, error: FramesRefusedError) -> None:
        logger.error("store: %s", error)
        self._count(refused=len(error.frames), stored=error.stored, duplicates=error.duplicates)
        with self._condition:
            self._state = replace(self._state, retrying_since=None, last_error=str(error))

    def _note_failed(self, job: Job, error: StoreError) -> None:
        logger.error("store: %s refused: %s", job.what, error)
        self._writers.pop(job.key, None)
        self._count(refused=len(job.frames))
        with self._condition:
            failed = self._state.failed_jobs + 1
            self._state = replace(self._state, failed_jobs=failed, retrying_since=None, last_error=str(error))

    def _forget(self, job: Job) -> None:
        with self._condition:
            self._queue.strike_out(job)
            self._condition.notify_all()

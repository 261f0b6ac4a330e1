"""What waits to be written to the catalogue, in its order and bounded by bytes. Belongs to whoever holds its lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from pfitre_service.model import Frame, TomogramKey
from pfitre_service.store.acquisition_writer import AcquisitionWriter

# One write of coalesced frames; beyond this a batch costs latency and saves nothing.
_COALESCE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to be done for one tomogram: frames to be appended, or something else to be run."""

    what: str
    key: TomogramKey
    run: Callable[[AcquisitionWriter], None] | None = None
    frames: tuple[Frame, ...] = ()
    nbytes: int = 0
    number: int = 0
    """Of the order in which jobs came."""


class WriteQueue:
    """Jobs in the order of their coming; the first stays until it is done.

    Parameters
    ----------
    limit
        Bytes of frames that may wait.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        """Of every job not finished, the one in hand included."""
        self.submitted = 0
        """Jobs that ever came."""
        self._jobs: deque[Job] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def finished(self) -> int:
        """So many of the first jobs that ever came are done."""
        return self._jobs[0].number if self._jobs else self.submitted

    @property
    def frames(self) -> int:
        """How many wait."""
        return sum(len(job.frames) for job in self._jobs)

    def has_room(self, nbytes: int) -> bool:
        """Whether a job of so many bytes may be put in."""
        # A job larger than the whole queue may pass alone: refusing it for ever would help nobody.
        return nbytes == 0 or self.nbytes == 0 or self.nbytes + nbytes <= self.limit

    def put(self, job: Job) -> None:
        """Take in a job."""
        self._jobs.append(replace(job, number=self.submitted))
        self.submitted += 1
        self.nbytes += job.nbytes

    def first(self) -> Job | None:
        """The first job, with the frames of its tomogram that wait behind it; None where nothing waits."""
        if not self._jobs:
            return None
        job = self._with_frames_behind(self._jobs.popleft())
        self._jobs.appendleft(job)
        return job

    def strike_out(self, job: Job) -> None:
        """The first job, which `first` gave out as `job`, is done."""
        self._jobs.popleft()
        self.nbytes -= job.nbytes

    def _with_frames_behind(self, job: Job) -> Job:
        """`job` with the frames of its tomogram that wait, up to that tomogram's next job of another kind.

        Jobs of other tomograms are passed by: the order matters within one alone, and scans that run at the same time
        would else cost a request a frame.
        """
        if job.what != "append":
            return job
        jobs, passed, frames, nbytes = self._jobs, deque[Job](), list(job.frames), job.nbytes
        while jobs:
            other = jobs.popleft()
            if other.key == job.key and other.what == "append" and nbytes + other.nbytes <= _COALESCE_BYTES:
                frames += other.frames
                nbytes += other.nbytes
                continue
            passed.append(other)
            if other.key == job.key:
                break
        jobs.extendleft(reversed(passed))
        return replace(job, frames=tuple(frames), nbytes=nbytes)

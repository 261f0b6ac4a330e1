"""Samples in order, made ahead of the training loop by processes that take only the time that nobody else wants."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import TracebackType

import torch

from pfitre_service.errors import PfitreError
from pfitre_service.training.recipe import Recipe
from pfitre_service.training.samples import Sample, make_sample

_AHEAD = 2
"""Samples that wait, or are being made, for each process; and as many again."""
_NICENESS = 10


class SampleStream:
    """Samples `first`, `first` + 1, ... of a recipe; the same ones for any number of `workers`. 0 makes them in place.

    A context: its processes end with it.
    """

    def __init__(self, recipe: Recipe, families: tuple[str, ...], *, first: int, workers: int) -> None:
        self.recipe = recipe
        self.families = families
        self.workers = workers
        self._next = first
        self._ahead: deque[Future[Sample]] = deque()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> SampleStream:
        if self.workers > 0:
            # Spawned, not forked: a fork of a process whose threads compute may never finish its first computation.
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, mp_context=spawn, initializer=_become_worker)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._ahead.clear()

    def take(self) -> Sample:
        """The next sample; waits for it. Raises PfitreError when a process that makes samples has died."""
        if self._pool is None:
            with _one_thread():
                return make_sample(self._number(), self.recipe, self.families)
        try:
            while len(self._ahead) < _AHEAD * self.workers + 2:
                self._ahead.append(self._pool.submit(make_sample, self._number(), self.recipe, self.families))
            return self._ahead.popleft().result()
        except BrokenProcessPool as error:
            raise PfitreError(
                f"one of {self.workers} processes that make training samples died, most likely for want of memory: "
                "close other programs or ask for fewer workers, and resume the training"
            ) from error

    def _number(self) -> int:
        self._next += 1
        return self._next - 1


@contextmanager
def _one_thread() -> Iterator[None]:
    """As in the processes: sums over several threads would differ in their last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _become_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the training decides when to stop
    threading.Thread(target=_leave_with_parent, name="leave-with-parent", daemon=True).start()
    _step_back()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _step_back() -> None:
    """Runs only when a core would be idle: the loop's threads wait for one another, so that one that has lost its core
    to a worker stalls the whole update (two cores, two workers: 0.5 s an update, and 1.1 s with niceness alone)."""
    if hasattr(os, "SCHED_IDLE"):
        try:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        except PermissionError:  # some containers forbid it
            os.nice(_NICENESS)
    elif hasattr(os, "nice"):
        os.nice(_NICENESS)

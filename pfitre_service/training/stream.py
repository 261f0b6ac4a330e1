"""Samples in order, made ahead of the training loop by processes that take only the time that nobody else wants."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
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
    """Samples of a recipe, lesson `first` and the following; the same ones for any number of `workers`. 0 makes them in
    place.

    Samples come in blocks of `block`, each block `Recipe.lessons` times over. A context: its processes end with it.

    Parameters
    ----------
    recipe
        Of the training.
    families
        Names of those that objects are drawn from.
    first
        Number of the first lesson.
    workers
        Processes that make samples; 0 makes them in place.
    block
        Samples of a block.
    """

    def __init__(self, recipe: Recipe, families: tuple[str, ...], *, first: int, workers: int, block: int = 8) -> None:
        self.recipe = recipe
        self.families = families
        self.workers = workers
        self.block = block
        self._lesson = first
        self._samples: dict[int, Future[Sample]] = {}
        """By number: those being made, and those that will be learnt from again."""
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
        self._samples.clear()

    def take(self) -> Sample:
        """The next sample; waits for it.

        Raises
        ------
        PfitreError
            A process that makes samples has died.
        """
        lesson, self._lesson = self._lesson, self._lesson + 1
        number = self._number(lesson)
        try:
            for coming in range(lesson, lesson + 1 + self._ahead):
                self._order(self._number(coming))
            sample = self._samples[number].result()
        except BrokenProcessPool as error:
            raise PfitreError(
                f"one of {self.workers} processes that make training samples died, most likely for want of memory: "
                "close other programs or ask for fewer workers, and resume the training"
            ) from error
        if self._number(lesson + self.block) != number:
            del self._samples[number]
        return sample

    @property
    def _ahead(self) -> int:
        """Lessons for which samples are made ahead: over a block that is learnt again, and on."""
        return 0 if self._pool is None else self.block * (self.recipe.lessons - 1) + _AHEAD * self.workers + 2

    def _number(self, lesson: int) -> int:
        """Of the sample of a lesson."""
        block, place = divmod(lesson, self.block * self.recipe.lessons)
        return block * self.block + place % self.block

    def _order(self, number: int) -> None:
        if number in self._samples:
            return
        if self._pool is not None:
            self._samples[number] = self._pool.submit(make_sample, number, self.recipe, self.families)
            return
        self._samples[number] = Future()
        with _one_thread():
            self._samples[number].set_result(make_sample(number, self.recipe, self.families))


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

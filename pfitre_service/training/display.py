"""What a training shows while it runs: a bar and its figures, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pfitre_service.training.loop import Update
from pfitre_service.training.recipe import Recipe
from pfitre_service.training.validation import WEDGES, Validation

_PLAIN_EVERY_S = 15.0
_REMEMBERED = 100
"""Losses of each round that the running mean is of."""


class Display:
    """Called with every update and validation; a context manager.

    Parameters
    ----------
    console
        To write on.
    recipe
        Of the training.
    """

    def __init__(self, console: Console, recipe: Recipe) -> None:
        self._console = console
        self._recipe = recipe
        self._losses = _Losses()
        self._first: int | None = None
        self._began = self._said_at = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[words]}"),
            console=console,
            auto_refresh=console.is_terminal,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("updates", total=recipe.updates, words="making the first sample")

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, event: Update | Validation) -> None:
        """Shows one event.

        Parameters
        ----------
        event
            That has just happened.
        """
        if isinstance(event, Validation):
            self._console.print(describe_validation(event), highlight=False, soft_wrap=True)
            return
        if self._first is None:
            self._first, self._began = event.number - 1, time.monotonic()
        self._losses.add(event)
        words = self._words(event)
        self._progress.update(self._task, completed=event.number, words=words)
        if not self._console.is_terminal and time.monotonic() - self._said_at >= _PLAIN_EVERY_S:
            self._said_at = time.monotonic()
            self._console.print(f"{event.number}/{self._recipe.updates}  {words}", highlight=False, soft_wrap=True)

    def _words(self, update: Update) -> str:
        made = update.number - (self._first or 0)
        speed = made / max(time.monotonic() - self._began, 1e-3)
        left = max(self._recipe.updates - update.number, 0) / speed
        return f"{speed:.1f}/s  {_clock(left)} left  stage {update.stage}  loss {self._losses}  rate {update.rate:.1e}"


class _Losses:
    """Running means of the stage at hand, one for each round."""

    def __init__(self) -> None:
        self._stage = 0
        self._by_round: dict[int, deque[float]] = {}

    def add(self, update: Update) -> None:
        if update.stage != self._stage:
            self._stage, self._by_round = update.stage, defaultdict(lambda: deque(maxlen=_REMEMBERED))
        self._by_round[update.round].append(update.loss)

    def __str__(self) -> str:
        return " ".join(f"{sum(losses) / len(losses):.3f}" for _, losses in sorted(self._by_round.items()))


def describe_validation(validation: Validation) -> str:
    """One line: PSNR of the data alone, of one pass and of the solver, at each wedge.

    Parameters
    ----------
    validation
        That has just been made.

    Returns
    -------
    str
        Without a line end.
    """
    figures = zip(WEDGES, validation.physics, validation.one_pass, validation.rounds, strict=True)
    wedges = ", ".join(f"{wedge:g}°: {alone:.1f} → {once:.1f} → {many:.1f}" for wedge, alone, once, many in figures)
    return f"validation at update {validation.updates}, dB (data alone → one pass → solver)  {wedges}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"

"""What the demo shows while it runs: bars and the solver's figures, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Collection
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pfitre_service.supervision.supervisor import Supervisor

_PLAIN_EVERY_S = 3.0


class Display:
    """Redrawn by `refresh`, from the health reports that the supervisor holds."""

    def __init__(self, console: Console, supervisor: Supervisor, expected: int) -> None:
        self._console = console
        self._supervisor = supervisor
        self._began = self._said_at = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[words]}", markup=False),
            console=console,
            auto_refresh=console.is_terminal,
            disable=not console.is_terminal,
        )
        self._tasks = {
            name: self._progress.add_task(name, total=expected, words="") for name in ("received", "stored", "used")
        }

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def refresh(self, sent: int, ids: Collection[str]) -> None:
        """Shows where everything stands. ids: of the tomograms that the scan makes, of which the slowest is shown."""
        tomogram = self._slowest(ids)
        used = int(tomogram.get("angles_used", 0))
        words = _words(tomogram)
        counts = {"received": sent, "stored": int(tomogram.get("stored", 0)), "used": used}
        for name, count in counts.items():
            self._progress.update(self._tasks[name], completed=count, words=words if name == "used" else "")
        if not self._console.is_terminal and time.monotonic() - self._said_at > _PLAIN_EVERY_S:
            self._said_at = time.monotonic()
            seconds = self._said_at - self._began
            numbers = ", ".join(f"{count} {name}" for name, count in counts.items())
            self._console.print(f"{seconds:5.1f} s  {numbers}  {words}", highlight=False)

    def _slowest(self, ids: Collection[str]) -> dict[str, Any]:
        worker = self._supervisor.status()["details"]["processes"]["worker"]["health"] or {"details": {}}
        details = worker["details"]
        open_ones = [one for one in details.get("tomograms") or [] if one["id"] in ids]
        slowest = min(open_ones, key=lambda one: (one["stored"], one.get("angles_used", 0)), default=None)
        return dict(slowest or details.get("last_ended") or {})


def _words(tomogram: dict[str, Any]) -> str:
    if "phase" not in tomogram:
        return ""
    residual, heldout = tomogram.get("residual"), tomogram.get("heldout_error")
    numbers = f"residual {residual:.4f}" if residual is not None else ""
    numbers += f", held-out error {heldout:.4f}" if heldout is not None else ""
    return f"{tomogram['phase']}, {tomogram['iterations']} iterations, {numbers}"

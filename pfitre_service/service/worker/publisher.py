"""The worker's own thread for writing results: the solver never waits for the catalogue.

Of volumes the newest wins: one that was not written before the next is ready is skipped. Progress rows and the
last status are never skipped. While the catalogue cannot write, the thread tries again, with growing pauses, each
tomogram in its turn: one whose arrays are damaged does not hold up the others.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from pfitre_service.engine.volumes import Volumes
from pfitre_service.errors import StoreError, StoreUnavailableError
from pfitre_service.logs import about
from pfitre_service.model import Progress, TomogramKey
from pfitre_service.store.catalog import Catalog
from pfitre_service.store.result_writer import ResultWriter

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True, eq=False)
class Status:
    """What a tomogram's metadata shall say."""

    state: str
    reason: str
    fields: dict[str, Any]


@dataclass
class _Pending:
    shape: tuple[int, int, int] | None = None
    rows: list[Progress] = field(default_factory=list)
    volumes: tuple[int, Volumes] | None = None
    status: Status | None = None


class Publisher:
    """Owns one thread, from entering the context to leaving it."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._writers: dict[TomogramKey, ResultWriter] = {}
        self._pending: OrderedDict[TomogramKey, _Pending] = OrderedDict()
        self._published: dict[TomogramKey, int] = {}
        self._condition = threading.Condition()
        self._closing = threading.Event()
        self._busy = False
        self._problems: dict[TomogramKey, str] = {}
        self._refused: dict[TomogramKey, str] = {}
        self._pause = _FIRST_PAUSE_S
        self._thread = threading.Thread(target=self._work, name="pfitre-publisher", daemon=True)

    def __enter__(self) -> Publisher:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(timeout_s=5.0)

    def close(self, timeout_s: float) -> None:
        """Writes what waits, for `timeout_s` at most, and ends the thread."""
        with self._condition:
            self._condition.wait_for(lambda: not self._pending and not self._busy, timeout_s)
            left = list(self._pending)
            self._closing.set()
            self._condition.notify_all()
        self._thread.join(timeout_s)
        if left:
            logger.warning("results of %s were not written before the end: %s", left, self.problem or "no time left")

    def submit(
        self,
        key: TomogramKey,
        *,
        rows: list[Progress] | None = None,
        volumes: tuple[int, Volumes] | None = None,
        status: Status | None = None,
        shape: tuple[int, int, int] | None = None,
    ) -> None:
        """Hands over progress rows, pictures with their revision, and the status that is true once they are written;
        `shape` (z, y, x) alone makes room for a volume that is to come."""
        with self._condition:
            pending = self._pending.setdefault(key, _Pending())
            pending.shape = shape or pending.shape
            pending.rows += rows or []
            pending.volumes = volumes or pending.volumes
            pending.status = status or pending.status
            self._condition.notify_all()

    @property
    def problem(self) -> str | None:
        """Why results of a tomogram cannot be written now; None while writing works."""
        return next(iter(self._problems.copy().values()), None)

    def published_revision(self, key: TomogramKey) -> int:
        """The newest revision of the volume that is in the catalogue; 0 for none from this process."""
        return self._published.get(key, 0)

    def refusal(self, key: TomogramKey) -> str | None:
        """Why results of this tomogram can never be written; None while they can."""
        return self._refused.get(key)

    def is_done_with(self, key: TomogramKey) -> bool:
        """Whether nothing of this tomogram waits to be written."""
        with self._condition:
            return key not in self._pending

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            key, pending = taken
            with about(key):
                self._try_to_write(key, pending)
            with self._condition:
                self._busy = False
                self._condition.notify_all()

    def _next(self) -> tuple[TomogramKey, _Pending] | None:
        with self._condition:
            self._condition.wait_for(lambda: self._pending or self._closing.is_set())
            if not self._pending or self._closing.is_set():
                return None
            self._busy = True
            key = next(iter(self._pending))
            return key, self._pending[key]

    def _try_to_write(self, key: TomogramKey, pending: _Pending) -> None:
        try:
            self._write(key, self._take(pending))
        except StoreUnavailableError as error:
            self._wait_after(key, error)
        except StoreError as error:
            logger.error("results are refused and left out: %s", error)
            self._refused[key] = str(error)
            self._writers.pop(key, None)
            self._problems.pop(key, None)
            with self._condition:
                del self._pending[key]
        else:
            self._problems.pop(key, None)
            self._pause = _FIRST_PAUSE_S

    def _wait_after(self, key: TomogramKey, error: StoreUnavailableError) -> None:
        """The others are tried before this one is again."""
        if key not in self._problems:
            logger.warning("results wait: %s", error)
        self._problems[key] = str(error)
        with self._condition:
            self._pending.move_to_end(key)
        self._closing.wait(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_S)

    def _take(self, pending: _Pending) -> _Pending:
        """What is to be written now; the rest of `pending` may grow meanwhile."""
        with self._condition:
            return replace(pending, rows=list(pending.rows))

    def _write(self, key: TomogramKey, work: _Pending) -> None:
        writer = self._writers.get(key)
        if writer is None:
            writer = self._writers[key] = self._catalog.result_writer(key)
        if work.shape is not None:
            writer.prepare(work.shape)
        if work.rows:
            writer.progress(work.rows)
        if work.volumes is not None:
            revision, volumes = work.volumes
            writer.publish(volumes.volume, revision, **volumes.beside())
            self._published[key] = revision
        if work.status is not None:
            writer.status(work.status.state, work.status.reason, **work.status.fields)
        self._strike_out(key, work)

    def _strike_out(self, key: TomogramKey, done: _Pending) -> None:
        """Takes off the list what was written; what came meanwhile waits until every other tomogram had its turn."""
        with self._condition:
            pending = self._pending[key]
            del pending.rows[: len(done.rows)]
            pending.shape = None
            pending.volumes = None if pending.volumes is done.volumes else pending.volumes
            pending.status = None if pending.status is done.status else pending.status
            if pending.rows or pending.volumes or pending.status:
                self._pending.move_to_end(key)
            else:
                del self._pending[key]

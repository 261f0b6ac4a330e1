"""What somebody sees of a demo's tomograms who reads the catalogue while the scan runs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from pfitre_service.demo.display import Display
from pfitre_service.errors import ServiceError, StoreMissingError, StoreUnavailableError
from pfitre_service.ingest import DocumentRules
from pfitre_service.model import Progress, TomogramKey
from pfitre_service.store.catalog import Catalog, TomogramSummary

_FINAL_S = 280.0
_WATCH_S = 0.25


class Watch:
    """Counts projections as they are taken, and volumes as they appear."""

    def __init__(self, rules: DocumentRules, names: tuple[str, ...]) -> None:
        """names: of the tomograms that the scan makes, "" for the only one."""
        self._rules = rules
        self._names = names
        self._runs: list[str] = []
        self._streams: set[str] = set()
        self._revisions: dict[TomogramKey, set[int]] = {}
        self.first_volume_at: dict[TomogramKey, float] = {}
        """Monotonic seconds, as the others."""
        self.sent = 0
        """Projections."""
        self.second_projection_at: float | None = None
        self.last_projection_at: float | None = None

    @property
    def keys(self) -> dict[str, TomogramKey]:
        """By name of the tomogram; ServiceError before there is any."""
        if not self._runs:
            raise ServiceError("the scan opened no run")
        return {name: TomogramKey(f"{self._runs[0]}-{name}" if name else self._runs[0]) for name in self._names}

    @property
    def ids(self) -> set[str]:
        """Of the tomograms, as the worker's health names them; empty before there is any."""
        return {str(key) for key in self.keys.values()} if self._runs else set()

    def on_document(self, name: str, document: Mapping[str, Any]) -> None:
        """Subscribed to the RunEngine: notes when projections are taken."""
        if name == "start" and self._rules.refusal(document) is None:
            self._runs.append(document["uid"])
        elif name == "descriptor" and document["run_start"] in self._runs:
            if self._rules.role_of(document["name"]) == "projection":
                self._streams.add(document["uid"])
        elif name in ("event", "event_page") and document["descriptor"] in self._streams:
            self._count(1 if name == "event" else len(document["seq_num"]))

    def revisions_seen(self, key: TomogramKey) -> int:
        """How many volumes were there to be read while the scan ran."""
        return len(self._revisions.get(key, ()))

    def look(self, catalog: Catalog, *, scanning: bool) -> None:
        """Called again and again: notes volumes that have appeared."""
        if not self.sent:
            return
        for key in self.keys.values():
            summary = _summary_or_none(catalog, key)
            if summary is not None and summary.revision is not None:
                self.first_volume_at.setdefault(key, time.monotonic())
                if scanning:
                    self._revisions.setdefault(key, set()).add(summary.revision)

    def _count(self, projections: int) -> None:
        self.sent += projections
        self.last_projection_at = time.monotonic()
        if self.sent >= 2 and self.second_projection_at is None:
            self.second_projection_at = self.last_projection_at


@contextlib.contextmanager
def watching(watch: Watch, scanning: threading.Event, catalog: Catalog, display: Display) -> Iterator[None]:
    """Looks at the catalogue four times a second, as a live viewer might."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(_WATCH_S):
            watch.look(catalog, scanning=scanning.is_set())
            display.refresh(watch.sent, watch.ids)

    thread = threading.Thread(target=look, name="demo-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def wait_final(catalog: Catalog, keys: Mapping[str, TomogramKey]) -> dict[str, Progress]:
    """The last row of progress of each tomogram, once all are final.

    Raises ServiceError when one fails, or is not final in time.
    """
    ends_at = time.monotonic() + _FINAL_S
    return {name: _wait_final(catalog, key, ends_at) for name, key in keys.items()}


def _wait_final(catalog: Catalog, key: TomogramKey, ends_at: float) -> Progress:
    pause = threading.Event()
    while time.monotonic() < ends_at:
        summary = _summary_or_none(catalog, key)
        if summary is not None and summary.status == "final":
            return catalog.reader(key).progress()[-1]
        if summary is not None and summary.status == "failed":
            raise ServiceError(f"the tomogram {key} failed: {summary.metadata.get('reason')}")
        pause.wait(_WATCH_S)
    raise ServiceError(f"the tomogram {key} was not final {_FINAL_S:g} s after the scan; see the log above")


def _summary_or_none(catalog: Catalog, key: TomogramKey) -> TomogramSummary | None:
    """None while there is no such tomogram, or no catalogue."""
    try:
        return catalog.summary(key)
    except (StoreMissingError, StoreUnavailableError):
        return None

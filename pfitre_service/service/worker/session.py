"""One tomogram in the worker: what is stored goes into the engine, what the engine makes is published."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.config import Settings
from pfitre_service.engine.calibration_search import first_calibration, given_axis
from pfitre_service.engine.engine import Engine
from pfitre_service.engine.examination import contradicted
from pfitre_service.engine.parameters import EngineParameters
from pfitre_service.engine.volumes import AssessedVolumes
from pfitre_service.errors import InputError
from pfitre_service.model import FrameBatch, Measurement, Progress, Role, TomogramKey
from pfitre_service.preprocess import PreprocessParameters, References, StripeSearch, region_geometry
from pfitre_service.service.worker.publisher import Publisher, Status
from pfitre_service.service.worker.session_metadata import (
    continued,
    final_reason,
    how_it_ended,
    resumed_calibration,
    status_fields,
)
from pfitre_service.store.catalog import TomogramSummary
from pfitre_service.store.reader import TomogramReader

logger = logging.getLogger(__name__)

_REFERENCES: tuple[Role, ...] = ("flat", "dark")


class Session:
    """Reader, engine and publication of one tomogram. Every call is short: a batch of frames, or one step."""

    def __init__(self, reader: TomogramReader, publisher: Publisher, settings: Settings) -> None:
        self.key: TomogramKey = reader.key
        self.engine: Engine | None = None
        self.progress: Progress | None = None
        self._summary: TomogramSummary | None = None
        self._before: Progress | None = None
        """The last step of the worker before this one, if there was one."""
        self._reader = reader
        self._publisher = publisher
        self._settings = settings
        self._references = (0, 0, 0)
        """Flats, darks, and those of them that do not count, as the engine knows them."""
        self._notes: tuple[str, ...] = ()
        """Flats and darks that are damaged."""
        self._decided: Measurement | None = None
        """What the values have told the images to be, where nobody said it."""
        self._search: StripeSearch | None = None
        """Looks for stripes in the frames that are read, until it has been asked."""
        self._closed = False
        self._runs: list[str] = []
        """Whose projections count, once the scan is closed."""
        self._published_at = -math.inf
        self._published_revision = 0
        self._state = ""

    def observe(self, summary: TomogramSummary) -> None:
        """Takes note of what is stored by now."""
        self._summary = summary

    @property
    def unread(self) -> int:
        """Projections that are stored and not yet in the engine."""
        return self._stored("projection") - (0 if self.engine is None else self.engine.projections.active.stored)

    @property
    def place(self) -> str:
        """How far it has come, in words that are the same when it comes there again."""
        if self.engine is None:
            return "its first projections"
        used = self.engine.projections.active.used
        return f"{used} of {self._stored('projection')} projections, {self.engine.phase}, step {self.engine.revision}"

    @property
    def has_work(self) -> bool:
        """Whether a call of `work` would do something."""
        if self.unread > 0 or self._new_references or self._newly_withdrawn or (self._ended and not self._closed):
            return True
        if self.engine is not None and self.engine.projections.reprocess_from is not None:
            return True
        return self.engine is not None and self.engine.has_work

    @property
    def finished(self) -> bool:
        """Whether the final volume and status are in the catalogue."""
        return self._state in ("final", "references") and self._publisher.is_done_with(self.key)

    def work(self) -> None:
        """Reads a batch of frames if there are any, does one step, publishes if it is time.

        Raises InputError when no tomogram can come of it, StoreUnavailableError when the catalogue is out of reach.
        """
        self._bring_in()
        self._decide()
        if self._all_is_in and not self._take_out_stripes():
            if self.engine is not None:
                self.engine.calibrate(at_last=True)
            if self._all_is_in and not self._closed:
                self._close()
        engine = self.engine
        if engine is not None and engine.has_work and not self._catching_up:
            self.progress = continued(engine.step(), self._before)
            self._publisher.submit(self.key, rows=[self.progress])
        self._publish_if_due()

    def fail(self, reason: str) -> None:
        """Marks the tomogram as failed, for good."""
        logger.error("failed: %s", reason)
        self._state = "failed"
        self._publisher.submit(self.key, status=Status("failed", reason, self._fields()))

    @property
    def state(self) -> str:
        """receiving, iterating, final or failed; references for a run of flats and darks alone."""
        return self._state or "receiving"

    def report(self) -> dict[str, Any]:
        """The tomogram as the health page shows it."""
        return {
            "id": str(self.key),
            "state": self.state,
            "stored": self._stored("projection"),
            "expected": None if self._summary is None else self._summary.expected_frames,
            "unread": self.unread,
            "published_revision": self._publisher.published_revision(self.key),
            **({} if self.progress is None else asdict(self.progress)),
        }

    def _stored(self, role: Role) -> int:
        return 0 if self._summary is None else self._summary.frames[role]

    @property
    def _ended(self) -> bool:
        return self._summary is not None and self._summary.acquisition != "receiving"

    @property
    def _reason(self) -> str:
        return "" if self._summary is None else how_it_ended(self._summary)

    @property
    def _new_references(self) -> bool:
        """Whether there are flats or darks that the engine, once there are frames for one, does not know of."""
        return self._stored("projection") > 0 and self._stored_references != self._references

    @property
    def _stored_references(self) -> tuple[int, int, int]:
        withdrawn = 0 if self._summary is None else self._summary.withdrawn_references
        return self._stored("flat"), self._stored("dark"), withdrawn

    def _bring_in(self) -> None:
        """A batch at most of what is new, and one of what is to be added again; then a look at the calibration."""
        if self._new_references:
            self._read_references()
        engine = self._engine_for_frames()
        if engine is None:
            return
        self._withdraw(engine)
        if self.unread > 0:
            self._read_batch(engine.projections.active.stored, engine.add)
        if engine.projections.reprocess_from is not None:
            self._read_batch(engine.projections.reprocess_from, engine.reprocess)
        if not self._ended:
            engine.calibrate()

    @property
    def _all_is_in(self) -> bool:
        again = self.engine is not None and self.engine.projections.reprocess_from is not None
        return self._ended and self.unread <= 0 and not again

    @property
    def _catching_up(self) -> bool:
        """Whether the scan has ended and its last frames are still to come in. The end begins anew when they have, so
        that steps before it are in vain once there is a first picture."""
        return self._ended and not self._closed and self.engine is not None and self.engine.revision > 0

    def _read_references(self) -> None:
        """Flats and darks as they are now; frames that were corrected with others are read again."""
        engine = self._engine_for_frames()
        if engine is None:
            return
        counts = self._stored_references
        references, self._notes = stored_references(self._reader, self._settings.preprocess)
        if engine.projections.active.stored:
            logger.info("flats or darks changed; %d frames are added again", engine.projections.active.stored)
        engine.set_references(references)
        self._references = counts
        self._begin_search(references)

    @property
    def _newly_withdrawn(self) -> frozenset[int]:
        known: frozenset[int] = frozenset() if self.engine is None else self.engine.projections.withdrawn
        return frozenset(() if self._summary is None else self._summary.withdrawn) - known

    def _withdraw(self, engine: Engine) -> None:
        """Projections that were redone or withdrawn since the last time."""
        rows = self._newly_withdrawn
        stored = engine.projections.active.stored
        engine.projections.exclude(row for row in rows if row >= stored)
        for row in sorted(row for row in rows if row < stored):
            self._read_batch(row, engine.withdraw, max_frames=1)

    def _read_batch(self, first: int, take: Callable[[FrameBatch], None], max_frames: int | None = None) -> None:
        limit = max_frames or self._settings.worker.batch_frames
        for batch in self._reader.batches("projection", first, max_frames=limit):
            if self._search is not None:
                self._search.add(batch)
            take(batch)
            return

    def _take_out_stripes(self) -> bool:
        """Whether stripes were found in the whole scan; its frames are then added again, without them."""
        engine, search, self._search = self.engine, self._search, None
        references = None if search is None else search.found()
        if engine is None or references is None:
            return False
        logger.info("stripes found; %d frames are added again", engine.projections.active.stored)
        engine.set_references(references)
        return True

    def _begin_search(self, references: References | None) -> None:
        """Stripes are looked for from the first frame on, with these references."""
        if self._summary is not None:
            self._search = StripeSearch(references, self._settings.preprocess, self._measurement(self._summary))

    def _decide(self) -> None:
        """Where nobody said what images hold and the values tell that they were taken for the other: begins anew."""
        engine, summary = self.engine, self._summary
        if engine is None or summary is None or summary.measurement_stated or self._decided is not None:
            return
        told = contradicted(engine.findings, engine.parameters.measurement)
        if told is None:
            return
        logger.info("the values are those of %s; all frames are added again", told)
        self._decided, self._before, self.engine = told, self.progress or self._before, None
        self._references, self._published_revision = (0, 0, 0), 0

    def _measurement(self, summary: TomogramSummary) -> Measurement:
        return self._decided or summary.measurement

    def _engine_for_frames(self) -> Engine | None:
        """The engine, made when the first projection has told how large frames are."""
        summary = self._summary
        stored = None if summary is None or self.engine is not None else summary.geometry
        if summary is not None and stored is not None:
            if summary.has_results and self._before is None:
                self._before = next(reversed(self._reader.progress()), None)
            given = given_axis((summary.metadata.get("geometry") or {}).get("axis"), self._settings.calibration)
            stored = stored if given is None else replace(stored, axis=given)
            geometry = region_geometry(stored, self._settings.preprocess)
            first = first_calibration(geometry, given, self._settings.calibration)
            self.engine = Engine(
                geometry,
                EngineParameters.from_settings(
                    self._settings, self._measurement(summary), stated=summary.measurement_stated
                ),
                first,
                resumed=resumed_calibration(summary, first, self._settings.preprocess),
            )
            self._begin_search(None)
            self._publisher.submit(self.key, shape=geometry.volume_shape)
        return self.engine

    def _close(self) -> None:
        self._runs = list(self._reader.angle_of_run())
        self._closed = True
        if self.engine is None and (self._stored("flat") or self._stored("dark")):
            self._state = "references"
            reason = f"{self._stored('flat')} flats and {self._stored('dark')} darks, for runs that name this one"
            self._publisher.submit(self.key, status=Status(self._state, reason, self._fields()))
            return
        if self.engine is None:
            raise InputError(f"no projection was stored: {self._reason}")
        try:
            self.engine.close()
        except InputError as error:
            raise InputError(f"{error}: {self._reason}") from error

    def _publish_if_due(self) -> None:
        engine, now = self.engine, time.monotonic()
        if engine is None or engine.shown_revision == self._published_revision:
            return
        final = engine.phase == "final"
        interval = self._settings.worker.publish_interval_s
        if not final and engine.revision > 1 and now - self._published_at < interval and not engine.settled:
            return
        self._published_at, self._published_revision = now, engine.shown_revision
        self._state = "final" if final else "iterating"
        reason = final_reason(engine, self._reason) if final else ""
        volumes = engine.volumes()
        statement = {"quality": volumes.statement.document()} if isinstance(volumes, AssessedVolumes) else {}
        status = Status(self._state, reason, self._fields() | statement)
        self._publisher.submit(self.key, volumes=(self._revision(engine), volumes), status=status)

    def _fields(self) -> dict[str, Any]:
        revision = 0 if self.engine is None else self._revision(self.engine)
        runs = {"run_uids": self._runs} if self._runs else {}
        return status_fields(self.engine, self.progress, revision, self._notes) | runs

    def _revision(self, engine: Engine) -> int:
        """Of the engine's volume, counted over the whole life of the tomogram."""
        return engine.shown_revision + (0 if self._before is None else self._before.revision)


def stored_references(reader: TomogramReader, parameters: PreprocessParameters) -> tuple[References, tuple[str, ...]]:
    """Flats and darks of a tomogram as they are stored now, there or with the run that it named for them; and a note on
    each that is damaged. Raises InputError where all flats, or all darks, are."""
    source, notes = reader.references(), dict[str, None]()
    stacks = {role: _intact(source, role, notes) for role in _REFERENCES}
    return References.from_frames(stacks["flat"], stacks["dark"], parameters), tuple(notes)


def _intact(reader: TomogramReader, role: Role, notes: dict[str, None]) -> NDArray[Any] | None:
    """(n, row, column) of those that count; None where none are stored."""
    images, damaged = [], dict[int, str]()
    withdrawn = reader.withdrawn(role)
    for batch in reader.batches(role):
        left_out = withdrawn | batch.damaged.keys()
        images += [image for row, image in enumerate(batch.images, batch.first) if row not in left_out]
        damaged |= {row: reason for row, reason in batch.damaged.items() if row not in withdrawn}
    notes |= {f"{role} {row} was left out: {reason}": None for row, reason in damaged.items()}
    if damaged and not images:
        first = next(iter(damaged.values()))
        raise InputError(f"all {len(damaged)} {role}s are damaged in the store, the first: {first}")
    return np.stack(images) if images else None

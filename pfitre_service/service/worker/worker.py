"""The worker process: finds tomograms in the catalogue, turns their frames into volumes, round after round.

Everything it knows comes from the catalogue, so a worker that starts in mid-scan, or again after a crash, goes through
the same motions as one that was there from the first frame. A round: see what is stored, give one tomogram a turn (read
a batch, one step, publish if due), beat. One tomogram's failure is that tomogram's alone.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterable

import numpy as np
import torch

from pfitre_service.catalog_access import connect_catalog
from pfitre_service.config import PriorSettings, Settings
from pfitre_service.engine.engine import Engine
from pfitre_service.engine.parameters import EngineParameters, choose_device, use_threads
from pfitre_service.errors import InputError, SettingsError, StoreError, StoreMissingError, StoreUnavailableError
from pfitre_service.logs import about
from pfitre_service.model import FrameBatch, ScanGeometry, TomogramKey
from pfitre_service.service.worker.attempts import Attempts
from pfitre_service.service.worker.publisher import Publisher
from pfitre_service.service.worker.session import Session
from pfitre_service.store import layout
from pfitre_service.store.catalog import Catalog, TomogramSummary
from pfitre_service.supervision.process import ProcessContext

logger = logging.getLogger(__name__)

_SWEEP_S = 60.0


def next_turn(waiting: Iterable[Session], last: Session | None) -> Session | None:
    """Who works next: in turn, beginning after `last`; those with unread projections before those without."""
    able = [one for one in waiting if one.has_work]
    if not able:
        return None
    start = able.index(last) + 1 if last in able else 0
    in_order = able[start:] + able[:start]
    return next((one for one in in_order if one.unread > 0), in_order[0])


class Worker:
    """The sessions of all unfinished tomograms."""

    def __init__(self, catalog: Catalog, publisher: Publisher, settings: Settings, attempts: Attempts) -> None:
        self._catalog = catalog
        self._attempts = attempts
        self._publisher = publisher
        self._settings = settings
        self._sessions: dict[TomogramKey, Session] = {}
        self._given_up: set[TomogramKey] = set()
        self._sweep_at = -math.inf
        self._last: Session | None = None
        self._last_ended: dict[str, object] | None = None
        self.problem: str | None = None
        """Why nothing can be done now; None while all is well."""

    def observe(self) -> None:
        """Learns what the catalogue holds by now; opens sessions for tomograms that are new."""
        for summary in self._summaries():
            if summary.status in layout.ENDED or summary.key in self._given_up:
                continue
            if summary.key not in self._sessions:
                reader = self._catalog.reader(summary.key)
                self._sessions[summary.key] = Session(reader, self._publisher, self._settings)
                with about(summary.key):
                    logger.info("taken up")
            session = self._sessions[summary.key]
            session.observe(summary)
            if (reason := self._attempts.verdict(summary.key)) is not None:
                self._give_up(session, reason)

    def _summaries(self) -> list[TomogramSummary]:
        """The newest tomograms, those at work, and now and then whatever else is unfinished: a catalogue may hold many
        that never came to an end, and each costs a request."""
        found = {summary.key: summary for summary in self._catalog.summaries()}
        if time.monotonic() >= self._sweep_at:
            self._sweep_at = time.monotonic() + _SWEEP_S
            found = {summary.key: summary for summary in self._catalog.unfinished()} | found
        for key in self._sessions:
            if key not in found:
                with contextlib.suppress(StoreMissingError):  # somebody has removed it
                    found[key] = self._catalog.summary(key)
        return list(found.values())

    def work(self) -> bool:
        """Gives one tomogram a turn; False when none has anything to do."""
        self._give_up_refused()
        session = next_turn(self._sessions.values(), self._last)
        self._forget_finished()
        if session is None:
            self._attempts.rest()
            return False
        self._last = session
        self._attempts.begin(session.key, session.place)
        with about(session.key):
            try:
                session.work()
            except InputError as error:
                self._give_up(session, str(error))
            except StoreUnavailableError:
                raise
            except (StoreError, RuntimeError, MemoryError, ArithmeticError, ValueError) as error:
                logger.exception("the solver failed")
                self._give_up(session, f"{type(error).__name__}: {error}")
        return True

    def report(self, context: ProcessContext) -> None:
        """Tells health what goes on."""
        health, sessions = context.health, list(self._sessions.values())
        health.update({"tomograms": [session.report() for session in sessions], "last_ended": self._last_ended})
        problem = self.problem or self._publisher.problem
        states = {session.state for session in sessions}
        if problem is not None:
            health.set_state("waiting", problem)
        elif "iterating" in states:
            health.set_state("iterating", f"{len(sessions)} tomograms in work")
        elif sessions:
            health.set_state("receiving", f"{len(sessions)} tomograms open, fewer than two projections so far")
        elif self._last_ended is not None:
            last = self._last_ended
            # A tomogram of which nothing can come is no fault of the worker's.
            state = "idle" if last["state"] == "failed" else str(last["state"])
            health.set_state(state, f"tomogram {last['id']} {last['state']}; waiting for the next")
        else:
            health.set_state("idle", "no tomogram is open")

    def _give_up_refused(self) -> None:
        """Those whose results cannot be written, as when what is stored of them is damaged."""
        for session in list(self._sessions.values()):
            if (reason := self._publisher.refusal(session.key)) is not None:
                self._give_up(session, f"its results cannot be written: {reason}")

    def _give_up(self, session: Session, reason: str) -> None:
        session.fail(reason)
        self._given_up.add(session.key)
        self._end(session)

    def _forget_finished(self) -> None:
        for session in [one for one in self._sessions.values() if one.finished]:
            with about(session.key):
                logger.info("final")
            self._end(session)

    def _end(self, session: Session) -> None:
        self._attempts.forget(session.key)
        self._last_ended = session.report()
        del self._sessions[session.key]


def _warm_up(device: torch.device, prior: PriorSettings) -> None:
    """One tiny tomogram, thrown away: libraries load and kernels compile before the first frame is there, and a prior
    that is not there is told of now. Raises SettingsError."""
    parameters = EngineParameters(device=str(device), heldout_every=2, prior=prior)
    try:
        engine = Engine(ScanGeometry.from_detector(rows=2, columns=16), parameters)
    except InputError as error:
        raise SettingsError(f"prior.name = {prior.name!r} cannot be used: {error}") from error
    rows = np.ones((4, 2, 16), np.float32)
    engine.add(FrameBatch("projection", 0, rows, np.array([0.0, 45.0, 90.0, 135.0])))
    for _ in range(3):
        engine.step()
    engine.volumes()


def run_worker(settings: Settings, context: ProcessContext) -> None:
    """The worker's main loop, until `context.stop`."""
    device = choose_device(settings.worker.device)
    use_threads(settings.worker.threads)
    with connect_catalog(settings) as catalog, Publisher(catalog) as publisher:
        attempts = Attempts(settings.data_dir / "worker.json")
        worker = Worker(catalog, publisher, settings, attempts)
        _warm_up(device, settings.prior)
        logger.info("worker on %s", device)
        observe_next, busy = 0.0, False
        while not context.stop.is_set():
            context.health.beat()
            try:
                if (begin := time.monotonic()) >= observe_next:
                    worker.observe()
                    took = time.monotonic() - begin
                    # However slow the catalogue is: a fifth of its time at most goes into being asked what is new,
                    # half of it while there is nothing else to do.
                    observe_next = begin + max(settings.worker.poll_interval_s, (5 if busy else 2) * took)
                busy = worker.work()
                worker.problem = None
            except StoreUnavailableError as error:
                if worker.problem is None:
                    logger.warning("the catalogue is out of reach, trying again: %s", error)
                worker.problem, busy = str(error), False
            worker.report(context)
            if not busy:
                context.stop.wait(settings.worker.poll_interval_s)
        attempts.rest()

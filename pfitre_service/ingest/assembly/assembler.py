"""Bluesky documents in, actions out: the tomogram state machine, without I/O and without a clock.

    assembler = TomogramAssembler(DocumentRules(rotation="theta"))
    for name, document in documents:
        for action in assembler.handle(name, document):
            ...

Documents find their run through the uids they refer to, so runs may be interleaved, come again, or come out of
order; what refers to something that has not come waits a while. `handle` never raises: what cannot be understood is
counted and told of in a `Note`, and touches nothing else. New kinds of documents are one entry in `_handlers`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pfitre_service.errors import InputError
from pfitre_service.ingest.assembly.actions import Action, Level, Note
from pfitre_service.ingest.assembly.counts import IngestCounts, RunSummary, Tally
from pfitre_service.ingest.assembly.pages import datums_of, events_of
from pfitre_service.ingest.assembly.pending_documents import PendingDocument, PendingDocuments
from pfitre_service.ingest.assembly.run import Run
from pfitre_service.ingest.assembly.start_document import StartMetadata, contradictions
from pfitre_service.ingest.assembly.tomogram import Tomogram
from pfitre_service.ingest.document_values import look_up, quoted, uid_of
from pfitre_service.ingest.rules import DocumentRules
from pfitre_service.text_output import storable

_UNREADABLE = (
    InputError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    RecursionError,
    MemoryError,
)
"""What hostile values make of ordinary operations: comparing, indexing, converting, nesting without end."""
_WAITS_FOR = {
    "descriptor": "start",
    "resource": "start",
    "stream_resource": "start",
    "datum": "resource",
    "stream_datum": "descriptor or resource",
}
_RECENT_RUNS = 50
_RECENT_DESCRIPTORS = 1000
_MAX_DESCRIPTORS = 100
_MAX_UID = 200


class TomogramAssembler:
    """Joins documents to tomograms by the rules of one beamline. Belongs to one thread."""

    def __init__(self, rules: DocumentRules) -> None:
        self._rules = rules
        self._tally = Tally()
        self._runs: dict[str, Run] = {}
        self._run_of: dict[str, Run] = {}
        """Uid of a descriptor or resource to its open run."""
        self._joined: dict[tuple[str, ...], Tomogram] = {}
        """Open tomograms of many runs, by what these agree in."""
        self._recent: deque[RunSummary] = deque(maxlen=_RECENT_RUNS)
        self._past: deque[str] = deque(maxlen=_RECENT_DESCRIPTORS)
        """Descriptor uids of runs that ended."""
        self._waiting = PendingDocuments(rules.max_held)
        self.stored_runs: frozenset[str] = frozenset()
        """Uids of runs that are stored whole before they come: what comes of them once more is left alone."""
        self._reported: deque[str] = deque(maxlen=_RECENT_RUNS)
        """What was told once and is only counted since."""
        self._handlers: dict[str, Callable[[dict[str, Any]], list[Action]]] = {
            "start": self._start,
            "descriptor": self._descriptor,
            "event": self._event,
            "event_page": self._event_page,
            "stop": self._stop,
            "resource": self._resource,
            "datum": self._datum,
            "datum_page": self._datum_page,
            "stream_resource": self._resource,
            "stream_datum": self._stream_datum,
            "bulk_events": self._not_understood,
            "bulk_datum": self._not_understood,
        }

    def handle(self, name: str, document: dict[str, Any]) -> list[Action]:
        """Take in one document and return what is to be done about it. Never raises."""
        handler = self._handlers.get(name) if isinstance(name, str) else None
        if handler is None:
            self._tally.unknown_names += 1
            return self._once(f"name {quoted(name)}", "warning", f"unknown document name {quoted(name)} is left out")
        self._tally.documents[name] += 1
        return self._guarded(name, document, handler)

    def _guarded(
        self, name: str, document: dict[str, Any], handler: Callable[[dict[str, Any]], list[Action]]
    ) -> list[Action]:
        """`handler(document)`, or a note that the document cannot be understood."""
        try:
            if not isinstance(document, Mapping):
                raise InputError(f"expected a table of keys, got {type(document).__name__}")
            return handler(document)
        except _UNREADABLE as error:
            self._tally.malformed += 1
            message = f"a {name} document cannot be understood and is left out: {type(error).__name__}: {error!s:.500}"
            return self._once(f"{name} {type(error).__name__} {error!s:.100}", "warning", message)

    def expire(self, now: float) -> list[Action]:
        """Give up runs that were silent too long; `now` is in seconds of any clock that never goes back."""
        actions = self._orphaned(self._waiting.expire(now, self._rules.hold_s))
        for run in list(self._runs.values()):
            run.quiet_since = now if run.quiet_since is None else run.quiet_since
            silence = now - run.quiet_since
            if silence >= self._rules.abandon_after_s:
                actions += self._give_up(run, f"no document and no stop for {silence:.0f} s")
        return actions + self._close_quiet(now)

    def close_joined(self) -> list[Action]:
        """Complete the tomograms of many runs: no further run will come."""
        actions = [action for tomogram in self._joined.values() for action in tomogram.close("no further run comes")]
        self._joined.clear()
        return actions

    def resume(
        self,
        start: dict[str, Any],
        descriptors: Iterable[dict[str, Any]],
        resources: Iterable[dict[str, Any]],
        stored: Iterable[tuple[str, int, str]],
        shape: tuple[int, int] | None = None,
    ) -> list[Action]:
        """Go on with a tomogram that was open when the process ended.

        `start`, `descriptors` and `resources` are documents as `OpenTomogram`, `AddRun` and `AddDocument` gave them
        out; `stored` the (stream, seq_num, event uid) of every frame of that run that is in the store: these count as
        received, and are duplicates when they come again; `shape` the (rows, columns) of the stored frames.
        The actions it returns repeat the opening, so that the caller sees what it sees for a new run.
        """
        actions = self.handle("start", start)
        for resource in resources:
            actions += self.handle("resource", resource)
        for descriptor in descriptors:
            actions += self.handle("descriptor", descriptor)
        run = self._runs.get(str(start.get("uid"))) if isinstance(start, Mapping) else None
        if run is not None:
            run.resume(stored, shape)
        return actions

    def resume_joined(
        self, uid: str, joined: tuple[str, ...], angle_of_run: Mapping[str, float], projections: int
    ) -> None:
        """Go on with a tomogram of many runs: `uid` of its first run, what they agree in, their angles, and how many
        projections of runs that ended are stored."""
        if joined not in self._joined:
            tomogram = Tomogram(uid, self._rules.maps.elements or ("",), joined, is_open=True)
            tomogram.tally.frames["projection"] = projections
            tomogram.angle_of_run.update(angle_of_run)
            self._joined[joined] = tomogram

    @property
    def counts(self) -> IngestCounts:
        """Everything counted so far."""
        runs = self._runs.values()
        return self._tally.snapshot(
            [run.tally for run in runs], [run.summary() for run in runs], self._recent, held=len(self._waiting)
        )

    # -- one method a kind of document -------------------------------------------------------------------------------

    def _start(self, document: dict[str, Any]) -> list[Action]:
        uid = uid_of(document, "uid")
        if uid in self._runs or self._is_past(uid):
            return self._again("start", uid, uid)
        refusal = (
            "it was stored before this process started" if uid in self.stored_runs else self._rules.refusal(document)
        )
        tomogram = Tomogram(uid) if refusal else self._tomogram(uid, document)
        run = Run(document, StartMetadata.from_start(uid, document, self._rules), self._rules, tomogram)
        actions: list[Action] = [Note(uid, "warning", sentence) for sentence in contradictions(document)]
        if len(self._runs) >= self._rules.max_open_runs:
            quietest = next(iter(self._runs.values()))
            actions += self._give_up(quietest, f"{len(self._runs)} runs are open and this one was silent the longest")
        self._runs[uid] = run
        tomogram.open_runs += 1
        actions += run.ignore(refusal) if refusal else tomogram.withdraw(document.get(self._rules.withdraw_key))
        return actions + self._replay(uid)

    def _tomogram(self, uid: str, start: Mapping[str, Any]) -> Tomogram:
        """The tomogram that a run belongs to."""
        elements, keys = self._rules.maps.elements or ("",), self._rules.join_by
        if not keys:
            return Tomogram(uid, elements)
        joined = tuple(storable(str(look_up(start, key))[:_MAX_UID], _MAX_UID) for key in keys)
        return self._joined.setdefault(joined, Tomogram(uid, elements, joined))

    def _close_quiet(self, now: float) -> list[Action]:
        """Complete the tomograms of many runs that no run has come to for a while."""
        actions: list[Action] = []
        for joined, tomogram in list(self._joined.items()):
            idle = tomogram.open_runs == 0
            tomogram.quiet_since = (now if tomogram.quiet_since is None else tomogram.quiet_since) if idle else None
            if tomogram.quiet_since is not None and now - tomogram.quiet_since >= self._rules.join_gap_s:
                del self._joined[joined]
                actions += tomogram.close(f"no further run for {self._rules.join_gap_s:g} s (documents.join_gap_s)")
        return actions

    def _descriptor(self, document: dict[str, Any]) -> list[Action]:
        uid, run_uid = uid_of(document, "uid"), uid_of(document, "run_start")
        run = self._runs.get(run_uid)
        if run is None:
            return self._without(run_uid, "descriptor", document)
        if uid in self._run_of:
            return self._again("descriptor", uid, run_uid)
        if run.descriptors >= _MAX_DESCRIPTORS:
            raise InputError(f"run {run_uid} has more than {_MAX_DESCRIPTORS} descriptors")
        self._touch(run)
        actions = run.descriptor(uid, document)
        self._run_of[uid] = run
        return actions + self._replay(uid)

    def _event(self, document: dict[str, Any]) -> list[Action]:
        descriptor = uid_of(document, "descriptor")
        run = self._run_of.get(descriptor)
        if run is None:
            return self._without(descriptor, "event", document)
        self._touch(run)
        return run.event(descriptor, document)

    def _event_page(self, document: dict[str, Any]) -> list[Action]:
        actions: list[Action] = []
        for event in events_of(document):
            actions += self._guarded("event_page", event, self._event)
        return actions

    def _stop(self, document: dict[str, Any]) -> list[Action]:
        run_uid = uid_of(document, "run_start")
        run = self._runs.get(run_uid)
        if run is None:
            return self._again("stop", run_uid, run_uid) if self._is_past(run_uid) else self._orphan("start", run_uid)
        actions = run.stop(document)
        self._forget(run)
        return actions

    def _resource(self, document: dict[str, Any]) -> list[Action]:
        uid, run_uid = uid_of(document, "uid"), uid_of(document, "run_start")
        run = self._runs.get(run_uid)
        if run is None:
            return self._without(run_uid, "stream_resource" if "mimetype" in document else "resource", document)
        if uid in self._run_of:
            return self._again("resource", uid, run_uid)
        self._touch(run)
        actions = run.resource(uid, document)
        self._run_of[uid] = run
        return actions + self._replay(uid)

    def _datum(self, document: dict[str, Any]) -> list[Action]:
        uid = uid_of(document, "resource")
        run = self._run_of.get(uid)
        if run is None:
            return self._without(uid, "datum", document)
        self._touch(run)
        return run.datum(uid, document)

    def _datum_page(self, document: dict[str, Any]) -> list[Action]:
        actions: list[Action] = []
        for datum in datums_of(document):
            actions += self._guarded("datum_page", datum, self._datum)
        return actions

    def _stream_datum(self, document: dict[str, Any]) -> list[Action]:
        resource, descriptor = uid_of(document, "stream_resource"), uid_of(document, "descriptor")
        for uid in (descriptor, resource):
            if uid not in self._run_of:
                return self._without(uid, "stream_datum", document)
        run = self._run_of[descriptor]
        if self._run_of[resource] is not run:
            raise InputError("a stream_datum joins the descriptor of one run to the file of another")
        self._touch(run)
        return run.stream_datum(resource, descriptor, document)

    def _not_understood(self, document: dict[str, Any]) -> list[Action]:
        self._tally.not_understood += 1
        return self._once("bulk", "warning", "bulk_events and bulk_datum, which Bluesky gave up, are not read")

    # -- runs --------------------------------------------------------------------------------------------------------

    def _touch(self, run: Run) -> None:
        """The run spoke: it goes to the end of the order of silence."""
        run.quiet_since = None
        self._runs[run.uid] = self._runs.pop(run.uid)

    def _give_up(self, run: Run, reason: str) -> list[Action]:
        actions = run.abandon(reason)
        self._forget(run)
        return actions

    def _forget(self, run: Run) -> None:
        """Keep of an ended run its line for the status display, and its uids to know its late documents by."""
        self._tally.ended.add(run.tally)
        run.tomogram.tally.add(run.tally)
        run.tomogram.open_runs -= 1
        self._recent.append(run.summary())
        del self._runs[run.uid]
        past = [uid for uid, owner in self._run_of.items() if owner is run]
        for uid in past:
            del self._run_of[uid]
        self._past.extend(past)

    def _is_past(self, run_uid: str) -> bool:
        return any(summary.uid == run_uid for summary in self._recent)

    # -- documents out of place --------------------------------------------------------------------------------------

    def _replay(self, uid: str) -> list[Action]:
        """Hand on what waited for the start or descriptor `uid`."""
        actions: list[Action] = []
        for held in self._waiting.release(uid):
            actions += self._guarded(held.name, held.document, self._handlers[held.name])
        return actions

    def _without(self, uid: str, name: str, document: dict[str, Any]) -> list[Action]:
        """A document whose start or descriptor is not there: late, early, or of a run whose beginning was missed."""
        if self._is_past(uid) or uid in self._past:
            self._tally.after_stop += 1
            return self._once(f"late {uid}", "warning", f"a {name} came after its run ended and is left out")
        return self._orphaned(self._waiting.hold(uid, name, document))

    def _orphaned(self, given_up: list[PendingDocument]) -> list[Action]:
        return [
            action for held in given_up for action in self._orphan(_WAITS_FOR.get(held.name, "descriptor"), held.wanted)
        ]

    def _orphan(self, lacks: str, uid: str) -> list[Action]:
        self._tally.orphans += 1
        message = f"documents refer to the {lacks} {uid}, which never came: joined late, or documents were lost"
        return self._once(f"orphan {uid}", "warning", message)

    def _again(self, name: str, uid: str, run_uid: str) -> list[Action]:
        self._tally.duplicates += 1
        return self._once(f"again {name} {uid}", "info", f"a {name} document came again and is left out", run_uid)

    def _once(self, what: str, level: Level, message: str, run_uid: str | None = None) -> list[Action]:
        """A note, unless the same was said a short while ago."""
        if what in self._reported:
            return []
        self._reported.append(what)
        return [Note(run_uid, level, message)]

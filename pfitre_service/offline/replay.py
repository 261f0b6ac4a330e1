"""`pfitre replay`: stored documents through a running service, as if their scan ran now."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from pfitre_service.catalog_access import connect_catalog
from pfitre_service.config import Settings, load_profile, load_settings, merged
from pfitre_service.errors import ServiceError, SettingsError
from pfitre_service.ingest.scan_files.file_order import Order
from pfitre_service.ingest.stored_runs.stored_documents import StoredDocuments, stored_documents
from pfitre_service.model import Measurement
from pfitre_service.offline.flow_controlled_publisher import FlowControlledPublisher
from pfitre_service.offline.fresh_uids import FreshUids
from pfitre_service.service.embedded import demo_settings
from pfitre_service.service.serve import make_supervisor
from pfitre_service.store import layout
from pfitre_service.store.catalog import Catalog, TomogramSummary
from pfitre_service.text_output import make_console, printable

_READY_S = 90.0
_STANDSTILL_S = 300.0
_WATCH_S = 0.25
_NEWEST = 200


@dataclass(slots=True)
class Player:
    """Sends documents at their own pace and keeps account of them."""

    link: FlowControlledPublisher
    speed: float
    """Times as fast as it was; infinite for as fast as it is taken."""
    new_uids: FreshUids | None
    sent: Counter[str] = field(default_factory=Counter)
    """Document name to number."""
    runs: list[str] = field(default_factory=list)
    """Uids of the runs as they were sent."""
    _open: list[str] = field(default_factory=list)
    _began: tuple[float, float] | None = None
    """Time of the first document, and when it was sent."""

    def play(self, stored: StoredDocuments, console: Console) -> None:
        """Everything to its end. Runs that do not end in the source, or because of Ctrl-C, are ended as aborted."""
        columns = (TextColumn("sent"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        why = f"{stored.source} ends without a stop document"
        try:
            with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
                for name, document in bar.track(stored.documents, total=stored.total):
                    self.send(name, document)
        except KeyboardInterrupt:
            why = "the replay was interrupted"
            raise
        finally:
            for run in list(self._open):
                now = time.time()
                stop = {"uid": str(uuid.uuid4()), "run_start": run, "time": now, "exit_status": "abort", "reason": why}
                self._publish("stop", stop)

    def send(self, name: str, document: dict[str, Any]) -> None:
        """One document, when its time has come."""
        if self.new_uids is not None:
            document = self.new_uids.renamed(name, document)
        self._wait_for(document.get("time"))
        self._publish(name, document)

    def _publish(self, name: str, document: dict[str, Any]) -> None:
        self.link.publish(name, document)
        self.sent[name] += 1
        if name == "start":
            self.runs.append(document["uid"])
            self._open.append(document["uid"])
        if name == "stop" and document.get("run_start") in self._open:
            self._open.remove(document["run_start"])

    def _wait_for(self, moment: Any) -> None:
        """Pages have a list of times: they came when the last was known."""
        moment = moment[-1] if isinstance(moment, list) and moment else moment
        if not isinstance(moment, int | float) or self.speed == float("inf"):
            return
        if self._began is None:
            self._began = (moment, time.monotonic())
        due = self._began[1] + (moment - self._began[0]) / self.speed
        if (wait := due - time.monotonic()) > 0:
            threading.Event().wait(wait)


def replay(
    source: str,
    *,
    run: str | None,
    axis: float | None,
    angles: Path | None,
    flats: str | None,
    darks: str | None,
    measurement: Measurement | None,
    order: Order,
    speed: str,
    keep_uids: bool,
    wait: bool,
    embedded: Path | None,
    profile: Path | None,
    overrides: Mapping[str, Any],
) -> dict[str, Any]:
    """Plays `source` into the service of these settings, or into one that lives in the folder `embedded` as long.

    The summary that `--json` prints. Raises InputError for the source, ServiceError for the service.
    """
    console = make_console(stderr=True)
    factor = speed_of(speed)
    settings = load_settings(profile, overrides) if embedded is None else _embedded(embedded, profile, overrides)
    with console.status(Text(f"opening {printable(source)}")):
        stored = stored_documents(
            source,
            run,
            settings.documents,
            axis=axis,
            angles=angles,
            flats=flats,
            darks=darks,
            measurement=measurement,
            order=order,
        )
    console.print(stored.source)
    for note in stored.notes:
        console.print(printable(note), markup=False)
    with contextlib.ExitStack() as stack:
        if embedded is not None:
            supervisor = make_supervisor(settings, log_level=logging.getLogger().getEffectiveLevel())
            with console.status("starting Tiled, 0MQ proxy, ingest and worker"):
                stack.enter_context(supervisor.running(_READY_S))
        link = stack.enter_context(FlowControlledPublisher.connected(settings))
        catalog = stack.enter_context(connect_catalog(settings))
        player = Player(link, factor, None if keep_uids else FreshUids())
        began = time.monotonic()
        player.play(stored, console)
        with console.status("storing"):
            details = link.until_taken()
        seconds = time.monotonic() - began
        if wait or embedded is not None:
            with console.status("waiting for the final volume"):
                _until_settled(catalog, player.runs)
        tomograms = _tomograms_of(catalog, player.runs)
    summary = _summary(stored, player, tomograms, details, seconds)
    _say(console, summary)
    return summary


def speed_of(text: str) -> float:
    """`1`, `10`, `0.5` or `max` (infinite). Raises SettingsError."""
    if text == "max":
        return float("inf")
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise SettingsError(f"--speed takes a number over 0, such as 1 or 10, or max; got {text!r}")
    return speed


def _embedded(folder: Path, profile: Path | None, overrides: Mapping[str, Any]) -> Settings:
    return demo_settings(folder, merged(load_profile(profile) if profile is not None else {}, overrides))


def _tomograms_of(catalog: Catalog, runs: list[str]) -> list[TomogramSummary]:
    return [one for one in catalog.summaries(_NEWEST) if not set(runs).isdisjoint(one.metadata.get("run_uids") or [])]


def _until_settled(catalog: Catalog, runs: list[str]) -> None:
    """Until every tomogram of these runs came to its end, as long as something moves."""
    seen, since, pause = "", time.monotonic(), threading.Event()
    while waits := [one for one in _tomograms_of(catalog, runs) if one.status not in layout.ENDED]:
        now = " ".join(f"{one.key} {one.frames} {one.revision} {one.status}" for one in waits)
        if now != seen:
            seen, since = now, time.monotonic()
        if time.monotonic() - since > _STANDSTILL_S:
            open_ones = [str(one.key) for one in waits if one.acquisition == "receiving"]
            hint = "; a tomogram of many runs ends after documents.join_gap_s" if open_ones else ""
            raise ServiceError(f"nothing moved for {_STANDSTILL_S:g} s, and these are not final: {now}{hint}")
        pause.wait(_WATCH_S)


def _summary(
    stored: StoredDocuments,
    player: Player,
    tomograms: list[TomogramSummary],
    details: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    return {
        "source": stored.source,
        "seconds": seconds,
        "documents_sent": dict(player.sent),
        "left_out": stored.left_out(),
        "runs": player.runs,
        "tomograms": [_line(one) for one in tomograms],
        "frames_stored": sum(sum(one.frames.values()) for one in tomograms),
        "notes": details.get("notes", []),
    }


def _line(one: TomogramSummary) -> dict[str, Any]:
    return {
        "tomogram": str(one.key),
        "status": one.status,
        "acquisition": one.acquisition,
        "reason": one.metadata.get("reason") or one.reason,
        "frames": dict(one.frames),
        "frames_used": one.metadata.get("frames_used"),
    }


def _say(console: Console, summary: Mapping[str, Any]) -> None:
    for line in _lines(summary):
        console.print(line)


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    sent = ", ".join(f"{count} {name}" for name, count in summary["documents_sent"].items())
    yield f"sent and stored in {summary['seconds']:.1f} s: {sent}"
    yield from (f"left out: {fault}" for fault in summary["left_out"])
    for one in summary["tomograms"]:
        frames = ", ".join(f"{count} {role}s" for role, count in one["frames"].items())
        yield f"tomogram {one['tomogram']} is {one['status']}: {frames} stored; {one['reason'] or 'no reason given'}"
    if not summary["tomograms"]:
        yield "no tomogram came of it: see the notes, or `pfitre doctor`"
        yield from summary["notes"]

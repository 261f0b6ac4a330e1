"""`pfitre demo`: the whole service on embedded defaults, one live scan, and what came of it.

A real RunEngine in this process publishes its documents to a real 0MQ proxy; ingest, Tiled and worker run in processes
of their own. What the demo reports of the volume it has read from Tiled, as any client would.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from pfitre_service.config import Settings, load_settings
from pfitre_service.errors import ServiceError
from pfitre_service.model import Progress, TomogramKey
from pfitre_service.service.connection import catalog_url, connect_catalog
from pfitre_service.service.demo_display import Display
from pfitre_service.service.demo_picture import draw
from pfitre_service.service.engine import Engine, EngineParameters
from pfitre_service.service.ports import free_ports
from pfitre_service.service.serve import make_supervisor
from pfitre_service.service.session import stored_references
from pfitre_service.service.supervisor import Supervisor
from pfitre_service.store.catalog import Catalog, TomogramSummary
from pfitre_service.store.failure import StoreMissingError, StoreUnavailableError
from pfitre_service.store.reader import TomogramReader
from pfitre_service.twin.scans import DemoScan, build_scan

_READY_S = 90.0
_FINAL_S = 280.0
_WATCH_S = 0.25


@dataclass
class Watch:
    """What a reader of the catalogue has seen of one tomogram."""

    key: TomogramKey | None = None
    first_volume_at: float | None = None
    revisions: set[int] = field(default_factory=set)
    """Revisions of the volume that were there to be read while the scan ran."""
    second_projection_at: float | None = None
    last_projection_at: float | None = None
    sent: int = 0
    _projection_stream: str | None = None

    def on_document(self, name: str, document: Mapping[str, Any]) -> None:
        """Subscribed to the RunEngine: notes when projections are taken."""
        if name == "start":
            self.key = TomogramKey(document["uid"])
        elif name == "descriptor" and document["name"] == "primary":
            self._projection_stream = document["uid"]
        elif name == "event" and document["descriptor"] == self._projection_stream:
            self.sent += 1
            self.last_projection_at = time.monotonic()
            if self.sent == 2:
                self.second_projection_at = self.last_projection_at

    def on_revision(self, revision: int | None, *, scanning: bool) -> None:
        """Called with the revision of the stored volume, again and again."""
        if revision is None:
            return
        if self.first_volume_at is None:
            self.first_volume_at = time.monotonic()
        if scanning:
            self.revisions.add(revision)


def run_demo(
    name: str,
    *,
    output: Path,
    exposure_s: float,
    keep: bool,
    overrides: Mapping[str, Any],
    on_summary: Callable[[dict[str, Any]], None],
) -> None:
    """Runs the demo, calls `on_summary` with what came of it, and with `keep` goes on until Ctrl-C.

    Raises ServiceError when the tomogram does not come to its end, InputError for a scan that does not exist.
    """
    console = Console(stderr=True)
    scan = build_scan(name, exposure_s=exposure_s)
    settings = demo_settings(output, overrides)
    console.print(f"[bold]{scan.name}[/bold]: {scan.description}", highlight=False)
    supervisor = make_supervisor(settings, log_level=logging.getLogger().getEffectiveLevel())
    with contextlib.ExitStack() as stack:
        with console.status("starting Tiled, 0MQ proxy, ingest and worker"):
            stack.enter_context(supervisor.running(_READY_S))
            catalog = stack.enter_context(connect_catalog(settings))
        console.print(f"Tiled at {catalog_url(settings)}", highlight=False)
        watch, final = _scan_and_watch(scan, settings, supervisor, catalog, console)
        reader = catalog.reader(_known(watch.key))
        summary = _summarize(scan, settings, watch, final, reader)
        summary["picture"] = _picture(scan, settings, reader, output / f"{scan.name}.png")
        _say(console, summary, keep=keep, data_dir=settings.data_dir)
        on_summary(summary)
        if keep:
            _until_interrupted(console)


def demo_settings(output: Path, overrides: Mapping[str, Any]) -> Settings:
    """The defaults on free ports, so that a demo never meets a service that runs already; data below `output`."""
    ports = [f"127.0.0.1:{port}" for port in free_ports(8)]
    embedded = {
        "data_dir": output / "data",
        "profile_name": "demo",
        "tiled": {"port": int(ports[0].rpartition(":")[2])},
        "proxy": {"publish": ports[1], "subscribe": ports[2]},
        "source": {"address": ports[2]},
        "health": dict(zip(("supervisor", "tiled", "proxy", "ingest", "worker"), ports[3:], strict=True)),
        "worker": {"publish_interval_s": 1.0},
    }
    merged = {
        section: {**value, **overrides.get(section, {})} if isinstance(value, dict) else overrides.get(section, value)
        for section, value in embedded.items()
    }
    return load_settings(None, {**overrides, **merged})


def _scan_and_watch(
    scan: DemoScan, settings: Settings, supervisor: Supervisor, catalog: Catalog, console: Console
) -> tuple[Watch, Progress]:
    watch, scanning = Watch(), threading.Event()
    scanning.set()
    with Display(console, supervisor, len(scan.angles)) as display, _watching(watch, scanning, catalog, display):
        with run_engine(settings, supervisor) as RE:
            RE.subscribe(watch.on_document)
            RE(scan.plan())
        scanning.clear()
        final = _wait_final(catalog, _known(watch.key))
    return watch, final


@contextlib.contextmanager
def run_engine(settings: Settings, supervisor: Supervisor) -> Iterator[Any]:
    """A RunEngine whose documents go to the service's proxy, and are known to arrive there."""
    from bluesky import RunEngine
    from bluesky.callbacks.zmq import Publisher

    publisher = Publisher(settings.proxy.publish)
    RE = RunEngine({})
    try:
        RE.subscribe(publisher)
        _until_heard(RE, supervisor)
        yield RE
    finally:
        publisher.close()


def _until_heard(RE: Any, supervisor: Supervisor) -> None:
    """A publisher that connected a moment ago loses what it sends: empty runs, until one has come through."""
    from bluesky import plan_stubs as bps

    deadline = time.monotonic() + 20.0
    while not _ingest_details(supervisor).get("documents", {}).get("start"):
        if time.monotonic() > deadline:
            raise ServiceError("documents published to the proxy did not reach ingest within 20 s; see the log above")
        RE(_empty_run(bps))
        threading.Event().wait(0.3)


def _empty_run(bps: Any) -> Iterator[Any]:
    yield from bps.open_run({"plan_name": "connection_test"})
    yield from bps.close_run()


def _ingest_details(supervisor: Supervisor) -> dict[str, Any]:
    report = supervisor.status()["details"]["processes"]["ingest"]["health"]
    return dict(report["details"]) if report else {}


@contextlib.contextmanager
def _watching(watch: Watch, scanning: threading.Event, catalog: Catalog, display: Display) -> Iterator[None]:
    """Looks at the catalogue four times a second, as a live viewer might."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(_WATCH_S):
            if watch.sent >= 1 and watch.key is not None:
                summary = _summary_or_none(catalog, watch.key)
                watch.on_revision(None if summary is None else summary.revision, scanning=scanning.is_set())
            display.refresh(watch.sent)

    thread = threading.Thread(target=look, name="demo-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _summary_or_none(catalog: Catalog, key: TomogramKey) -> TomogramSummary | None:
    try:
        return catalog.summary(key)
    except (StoreMissingError, StoreUnavailableError):
        return None


def _wait_final(catalog: Catalog, key: TomogramKey) -> Progress:
    deadline = time.monotonic() + _FINAL_S
    pause = threading.Event()
    while time.monotonic() < deadline:
        summary = _summary_or_none(catalog, key)
        if summary is not None and summary.status == "final":
            return catalog.reader(key).progress()[-1]
        if summary is not None and summary.status == "failed":
            raise ServiceError(f"the tomogram failed: {summary.metadata.get('reason')}")
        pause.wait(_WATCH_S)
    raise ServiceError(f"the tomogram was not final {_FINAL_S:g} s after the scan; see the log above")


def _summarize(
    scan: DemoScan, settings: Settings, watch: Watch, final: Progress, reader: TomogramReader
) -> dict[str, Any]:
    metadata, counts = reader.metadata(), reader.counts()
    volume = reader.volume()
    first, second, last = watch.first_volume_at, watch.second_projection_at, watch.last_projection_at
    summary: dict[str, Any] = {
        "scan": scan.name,
        "tomogram": str(watch.key),
        "status": metadata["status"],
        "reason": metadata["reason"],
        "frames_sent": watch.sent,
        "frames_stored": counts["projection"],
        "frames_used": metadata["frames_used"],
        "volume_shape": [] if volume is None else list(volume.shape),
        "revisions_during_scan": len(watch.revisions),
        "iterations": final.iterations,
        "seconds_to_first_volume": first - second if first is not None and second is not None else None,
        "seconds_after_last_frame": metadata["status_time"] - (time.time() - (time.monotonic() - (last or 0.0))),
        "compute_seconds": final.seconds,
        "residual": final.residual,
        "heldout_error": final.heldout_error,
        "heldout_error_physics": final.heldout_error_physics,
        "prior": metadata["prior"],
        "warnings": metadata["warnings"],
        "tiled_url": catalog_url(settings),
    }
    if scan.truth is not None and volume is not None:
        summary |= {
            "psnr_result": psnr(volume, scan.truth),
            "psnr_physics": psnr(_present(reader.physics()), scan.truth),
        }
    return summary


def psnr(volume: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> float:
    """Peak signal-to-noise ratio in dB, the peak being the truth's range."""
    error = float(np.mean((volume - truth) ** 2))
    return float(10 * np.log10(float(np.ptp(truth)) ** 2 / error))


def _picture(scan: DemoScan, settings: Settings, reader: TomogramReader, path: Path) -> Path:
    """Preview, physics and result side by side; the preview is made of all stored angles."""
    acquisition = reader.acquisition()
    geometry = acquisition.geometry
    if geometry is None:
        raise ServiceError("the catalogue holds no projection")
    engine = Engine(geometry, EngineParameters(measurement=acquisition.measurement, preprocess=settings.preprocess))
    engine.set_references(stored_references(reader, settings.preprocess))
    for batch in reader.batches("projection"):
        engine.add(batch)
    pictures = {
        "instant preview": engine.preview(),
        "physics alone": _present(reader.physics()),
        "result": _present(reader.volume()),
    }
    if scan.truth is not None:
        pictures["truth"] = scan.truth
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(path, pictures, title=scan.description)
    return path


def _present(volume: np.ndarray[Any, Any] | None) -> np.ndarray[Any, Any]:
    if volume is None:
        raise ServiceError("the catalogue holds no volume")
    return volume


def _known(key: TomogramKey | None) -> TomogramKey:
    if key is None:
        raise ServiceError("the scan opened no run")
    return key


def _say(console: Console, summary: dict[str, Any], *, keep: bool, data_dir: Path) -> None:
    first, after = summary["seconds_to_first_volume"], summary["seconds_after_last_frame"]
    lines = [
        f"[bold]{summary['status']}[/bold]: {summary['reason']}",
        f"first volume {first:.1f} s after the second projection, final volume {after:.1f} s after the last one",
        f"held-out error {summary['heldout_error']:.4f} (physics alone {summary['heldout_error_physics']:.4f}): "
        "the part of the held-out projections that the volume does not explain",
        f"picture: {summary['picture']}",
    ]
    if keep:
        lines.append(f"Tiled: {summary['tiled_url']}/api/v1/metadata/tomograms/{summary['tomogram']}")
    else:
        lines.append(f"look at it again: pfitre serve --data-dir {data_dir}")
    for line in lines:
        console.print(line, highlight=False)


def _until_interrupted(console: Console) -> None:
    console.print("the service goes on; Ctrl-C ends it", highlight=False)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()

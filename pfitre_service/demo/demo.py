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
from pathlib import Path
from typing import Any

from rich.console import Console

from pfitre_service.catalog_access import catalog_url, connect_catalog
from pfitre_service.config import Settings, merged
from pfitre_service.demo.display import Display
from pfitre_service.demo.shown_scans import Beamline, ShownScan, choose_scan
from pfitre_service.demo.summary import sentences, summarize
from pfitre_service.demo.watch import Watch, wait_final, watching
from pfitre_service.errors import ServiceError
from pfitre_service.model import Progress
from pfitre_service.service.embedded import demo_settings
from pfitre_service.service.serve import make_supervisor
from pfitre_service.store.catalog import Catalog
from pfitre_service.supervision.supervisor import Supervisor
from pfitre_service.text_output import make_console

_READY_S = 90.0


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
    console = make_console(stderr=True)
    scan = choose_scan(name, exposure_s=exposure_s, folder=output / "detector")
    settings = demo_settings(output, merged({"documents": scan.documents}, overrides))
    console.print(f"{scan.name}: {scan.description}")
    supervisor = make_supervisor(settings, log_level=logging.getLogger().getEffectiveLevel())
    with contextlib.ExitStack() as stack:
        with console.status("starting Tiled, 0MQ proxy, ingest and worker"):
            stack.enter_context(supervisor.running(_READY_S))
            catalog = stack.enter_context(connect_catalog(settings))
        console.print(f"Tiled at {catalog_url(settings)}")
        watch = Watch(settings.documents, tuple(scan.truths))
        final = _scan_and_watch(scan, settings, supervisor, catalog, watch, console)
        summary = summarize(scan, settings, watch, final, catalog, output)
        for line in [*sentences(summary), _where_to_look(settings, watch, keep)]:
            console.print(line)
        on_summary(summary)
        if keep:
            _until_interrupted(console)


def _scan_and_watch(
    scan: ShownScan,
    settings: Settings,
    supervisor: Supervisor,
    catalog: Catalog,
    watch: Watch,
    console: Console,
) -> dict[str, Progress]:
    scanning = threading.Event()
    scanning.set()
    with contextlib.ExitStack() as running:
        beamline = running.enter_context(_started(scan, console))
        with Display(console, supervisor, scan.projections) as display, watching(watch, scanning, catalog, display):
            with run_engine(settings, supervisor) as RE:
                RE.subscribe(watch.on_document)
                RE(beamline.plan)
            running.close()
            scanning.clear()
            return wait_final(catalog, watch.keys)


@contextlib.contextmanager
def _started(scan: ShownScan, console: Console) -> Iterator[Beamline]:
    with contextlib.ExitStack() as stack:
        with console.status("starting the beamline"):
            beamline = stack.enter_context(scan.start())
        if beamline.says:
            console.print(beamline.says, highlight=False, soft_wrap=True)
        yield beamline


@contextlib.contextmanager
def run_engine(settings: Settings, supervisor: Supervisor) -> Iterator[Any]:
    """A RunEngine whose documents go to the service's proxy, and are known to arrive there."""
    from bluesky import RunEngine
    from bluesky.callbacks.zmq import Publisher
    from bluesky.utils import RunEngineInterrupted

    publisher = Publisher(settings.proxy.publish)
    RE = RunEngine({})
    try:
        RE.subscribe(publisher)
        _until_heard(RE, supervisor)
        yield RE
    except RunEngineInterrupted as error:
        # Ctrl-C pauses a RunEngine, and nobody is left here to resume: devices are put in order, and the run ends.
        RE.abort(reason="interrupted")
        raise KeyboardInterrupt from error
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


def _where_to_look(settings: Settings, watch: Watch, keep: bool) -> str:
    if not keep:
        return f"look at it again: pfitre serve --data-dir {settings.data_dir}"
    found = [f"{catalog_url(settings)}/api/v1/metadata/tomograms/{key}" for key in watch.keys.values()]
    return f"Tiled: {' '.join(found)}"


def _until_interrupted(console: Console) -> None:
    console.print("the service goes on; Ctrl-C ends it")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()

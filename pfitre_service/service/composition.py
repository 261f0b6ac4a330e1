"""The composition root: which processes make the service, and what each of them runs.

    receive  hears documents over 0MQ and keeps them (left out where they come from Kafka or Tiled, which keep them)
    tiled    the catalogue (left out where `tiled.uri` names one that runs already)
    ingest   documents in, frames stored
    worker   frames in, volume out
    epics    slices and status as process variables (only where `epics.prefix` is set)

`pfitre serve` runs them under one supervisor; in containers `pfitre process NAME` runs each alone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pfitre_service.catalog_access import api_key, catalog_url
from pfitre_service.config import Settings
from pfitre_service.service.receiver import ingest_process, receive_process
from pfitre_service.supervision.process import HeartbeatEvent, ProcessContext, ProcessMain, ProcessSpec

if TYPE_CHECKING:
    from fastapi import FastAPI

_WORKER_NICENESS = 5


def tiled_process(settings: Settings, context: ProcessContext) -> None:
    """The embedded Tiled server, and the page."""
    from pfitre_service.export.http_downloads import add_downloads
    from pfitre_service.export.tiled_formats import add_formats
    from pfitre_service.store.server.server import run_server  # uvicorn: not for the other processes
    from pfitre_service.viewer.mount import add_page

    def extend(app: FastAPI) -> None:
        add_formats(app, catalog_url(settings), api_key(settings))
        add_downloads(app, catalog_url(settings))  # before the page, whose mount takes every address below /view
        add_page(app)

    def told(problem: str) -> None:
        serving = f"serving {catalog_url(settings)}"
        context.health.set_state("degraded" if problem else "idle", problem or serving)

    run_server(
        settings.data_dir,
        host=settings.tiled.host,
        port=settings.tiled.port,
        api_key=api_key(settings),
        anonymous_read=settings.tiled.allows_anonymous_read,
        allowed_hosts=settings.tiled.allowed_hosts,
        stop=HeartbeatEvent(context),
        extend=extend,
        on_ready=lambda url: context.health.set_state("idle", f"serving {url}"),
        on_trouble=told,
    )


def worker_process(settings: Settings, context: ProcessContext) -> None:
    """The solver. It gives way to all others: what a scan sends must be stored as it comes, its picture can wait."""
    os.nice(_WORKER_NICENESS)  # first, so that every thread of torch has it
    from pfitre_service.service.worker.worker import (
        run_worker,  # torch: two seconds that the other processes do without
    )

    run_worker(settings, context)


def epics_process(settings: Settings, context: ProcessContext) -> None:
    """The process variables. They give way as the solver does."""
    os.nice(_WORKER_NICENESS)
    from pfitre_service.epics.pva_process import run_epics  # p4p, an extra

    run_epics(settings, context)


PROCESSES: dict[str, ProcessMain] = {
    "receive": receive_process,
    "tiled": tiled_process,
    "ingest": ingest_process,
    "worker": worker_process,
    "epics": epics_process,
}


def process_specs(settings: Settings) -> list[ProcessSpec]:
    """The processes that these settings ask for, in the order of their start."""
    embedded = settings.tiled.uri is None
    catalog = ("tiled",) if embedded else ()
    receive = ("receive",) if settings.source.kind == "zmq" else ()
    epics = ("epics",) if settings.epics.prefix else ()
    health, start_s = settings.health, settings.tiled.start_timeout_s
    specs = {
        "receive": ProcessSpec("receive", receive_process, health.receive),
        "tiled": ProcessSpec("tiled", tiled_process, health.tiled, start_timeout_s=start_s),
        "ingest": ProcessSpec("ingest", ingest_process, health.ingest, (*receive, *catalog), start_s),
        "worker": ProcessSpec("worker", worker_process, health.worker, catalog, start_s, heartbeat_timeout_s=300.0),
        "epics": ProcessSpec("epics", epics_process, health.epics, catalog, start_s, heartbeat_timeout_s=300.0),
    }
    return [specs[name] for name in (*receive, *catalog, "ingest", "worker", *epics)]

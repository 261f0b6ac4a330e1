"""The process that listens for documents and stores their frames."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict

from pfitre_service.catalog_access import connect_catalog
from pfitre_service.config import Settings
from pfitre_service.service.document_source import document_source
from pfitre_service.service.ingestion import Ingestion, store_thread
from pfitre_service.supervision.process import HeartbeatEvent, ProcessContext


def ingest_process(settings: Settings, context: ProcessContext) -> None:
    """The process that listens for documents and stores their frames."""
    source = document_source(settings)
    with connect_catalog(settings) as catalog, store_thread(settings, catalog) as store:
        ingestion = Ingestion(settings.documents, store, profile_name=settings.profile_name, receiver="ingest")
        ingestion.resume(catalog)

        def tell() -> None:
            ingestion.expire()
            state, reason, details = ingestion.report()
            if not source.counts.connected and state == "idle":
                state, reason = "waiting", source.counts.waits_for
            if state != "degraded" and (full := nearly_full(settings)):
                state, reason = "degraded", f"{full}; {reason}"
            context.health.set_state(state, reason)
            context.health.update({**details, "source": asdict(source.counts)})

        try:
            source.run(ingestion.handle, HeartbeatEvent(context), _at_most_every(0.5, tell))
        finally:
            ingestion.close()


def nearly_full(settings: Settings) -> str:
    """That frames will soon find no room on the disk of the data folder; empty where there is enough."""
    if settings.tiled.uri:
        return ""
    free = shutil.disk_usage(settings.data_dir).free >> 20
    if free >= settings.tiled.low_disk_mib:
        return ""
    return f"{free} MiB are left on the disk of {settings.data_dir} (tiled.low_disk_mib: {settings.tiled.low_disk_mib})"


def _at_most_every(seconds: float, call: Callable[[], None]) -> Callable[[], None]:
    due = 0.0

    def limited() -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due:
            due = now + seconds
            call()

    return limited

"""The two processes that hear documents: one keeps what it hears on the disk, the other stores what it means."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pfitre_service.catalog_access import connect_catalog
from pfitre_service.config import Settings
from pfitre_service.ingest import Source, SpoolReader, SpoolSource, SpoolWriter, ZmqReceiver
from pfitre_service.service.document_source import document_source
from pfitre_service.service.ingestion import Ingestion, store_thread
from pfitre_service.service.settlement import Settlement, coming_runs
from pfitre_service.supervision.process import HeartbeatEvent, ProcessContext

_TELL_S = 0.5


def receive_process(settings: Settings, context: ProcessContext) -> None:
    """The process that reads the sockets and nothing else: what it hears is in the spool before anything is done."""
    proxy, source = settings.proxy, settings.source
    addresses = (proxy.publish, proxy.subscribe) if proxy.enabled else (source.address, None)
    max_bytes = source.max_message_mib << 20
    with (
        SpoolWriter(spool_folder(settings), most_bytes=spool_bytes(settings), sync_ms=settings.spool.sync_ms) as spool,
        ZmqReceiver(*addresses, prefix=source.prefix.encode(), max_message_bytes=max_bytes) as receiver,
    ):

        def tell() -> None:
            trouble = receiver.full or spool.problem or nearly_full(settings)
            if trouble:
                context.health.set_state("degraded", trouble)
            elif not receiver.connected:
                context.health.set_state("waiting", f"no document proxy at {source.address} yet")
            elif proxy.enabled:
                context.health.set_state(
                    "idle", f"publishers to {receiver.in_address}, subscribers to {receiver.out_address}"
                )
            else:
                context.health.set_state("idle", f"listening at {receiver.in_address}")
            context.health.update(
                {
                    "messages": receiver.messages,
                    "oversized": receiver.oversized,
                    "kept_bytes": receiver.kept_bytes,
                    "last_message_time": receiver.last_message_time,
                    "longest_keep_ms": 1000 * receiver.longest_s,
                    "longest_unsynced_ms": 1000 * spool.longest_unsynced_s,
                    "spool_bytes": spool.nbytes,
                    "next_message": spool.number,
                }
            )

        tell()
        receiver.run(
            lambda parts: spool.append(receiver.in_address, parts),
            HeartbeatEvent(context),
            _at_most_every(_TELL_S, tell),
        )


def ingest_process(settings: Settings, context: ProcessContext) -> None:
    """The process that makes frames of what was heard, and stores them."""
    with ExitStack() as stack:
        spooled = settings.source.kind == "zmq"
        spool = stack.enter_context(SpoolReader(spool_folder(settings))) if spooled else None
        catalog = stack.enter_context(connect_catalog(settings))
        store = stack.enter_context(store_thread(settings, catalog))
        ingestion = Ingestion(
            settings.documents, store, profile_name=settings.profile_name, receiver="ingest", kept=spooled
        )
        stack.callback(ingestion.close)
        settle: Callable[[], dict[str, Any]] = dict
        source: Source
        handle: Callable[[str, dict[str, Any]], None] = ingestion.handle
        if spool is None:
            source = document_source(settings)
            ingestion.resume(catalog)
        else:
            context.health.set_state("receiving", "goes through what is in the spool")
            max_bytes = settings.source.max_message_mib << 20
            coming = coming_runs(spool, max_bytes, context.health.beat)
            ingestion.resume(catalog, coming=coming, done=spool.position.done)
            source, handle, settle = spooled_source(settings, spool, ingestion, store.has_room)

        def tell() -> None:
            ingestion.expire()
            kept = settle()
            state, reason, details = ingestion.report()
            if not source.counts.connected and state == "idle":
                state, reason = "waiting", source.counts.waits_for
            if state != "degraded" and (full := nearly_full(settings)):
                state, reason = "degraded", f"{full}; {reason}"
            context.health.set_state(state, reason)
            context.health.update({**details, "source": asdict(source.counts), "spool": kept})

        source.run(handle, HeartbeatEvent(context), _at_most_every(_TELL_S, tell))


def spooled_source(
    settings: Settings, spool: SpoolReader, ingestion: Ingestion, has_room: Callable[[int], bool]
) -> tuple[SpoolSource, Callable[[str, dict[str, Any]], None], Callable[[], dict[str, Any]]]:
    """The source on the spool; what takes its documents in; and what frees the spool and tells how far that went."""
    prefix, max_bytes = settings.source.prefix.encode(), settings.source.max_message_mib << 20
    source = SpoolSource(spool, prefix=prefix, max_message_bytes=max_bytes, has_room=has_room)
    settlement = Settlement(spool, ingestion, most_bytes=spool_bytes(settings), hold_s=settings.documents.hold_s)

    def handle(name: str, document: dict[str, Any]) -> None:
        ingestion.handle(name, document)
        if name == "start":
            settlement.took_start(source.number)

    def settle() -> dict[str, Any]:
        settlement.settle(source.number)
        return {
            "settled": spool.position.number,
            "next_message": source.number,
            "bytes": spool.nbytes,
            "behind_ms": 1000 * source.behind_s,
            "lost": spool.lost,
        }

    return source, handle, settle


def spool_folder(settings: Settings) -> Path:
    """Where messages are kept between the two."""
    return settings.data_dir / "spool"


def spool_bytes(settings: Settings) -> int:
    """That they may take at most."""
    return int(settings.spool.gib * (1 << 30))


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

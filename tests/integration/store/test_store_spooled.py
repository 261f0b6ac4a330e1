"""What is heard goes through the spool into a real catalogue, over several lives of the process that reads it."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pfitre_service.config import Settings, load_settings
from pfitre_service.ingest import DocumentRules, SpoolReader, SpoolWriter
from pfitre_service.ingest.spool.folder import Position
from pfitre_service.model import TomogramKey
from pfitre_service.service.ingestion import Ingestion
from pfitre_service.service.receiver import spool_bytes, spool_folder, spooled_source
from pfitre_service.service.settlement import coming_runs
from pfitre_service.store import layout
from pfitre_service.store.tiled_http import nodes
from pfitre_service.store.writer_thread import StoreThread


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(None, {"data_dir": tmp_path, "documents": {"join_gap_s": 3600.0}})


@pytest.fixture
def uid(key):
    return str(key)


def hear(settings: Settings, documents: Any) -> None:
    """As the process `receive` does."""
    with SpoolWriter(spool_folder(settings), most_bytes=spool_bytes(settings), sync_ms=5) as spool:
        for name, document in documents:
            spool.append("here", [b" " + name.encode() + b" " + pickle.dumps(document)])


def live(
    catalog: Any,
    settings: Settings,
    documents: int | None = None,
    *,
    until: Callable[[Position], bool] = lambda position: True,
) -> tuple[dict[str, Any], SpoolReader]:
    """One life of ingest, which ends after so many documents, or when all there is was taken in and its spool is
    settled so far. Its report, and its spool, closed."""
    store, stop, taken = StoreThread(catalog), threading.Event(), []
    ingestion = Ingestion(settings.documents, store, profile_name="sim", receiver="ingest", kept=True)
    with SpoolReader(spool_folder(settings)) as spool:
        coming = coming_runs(spool, 1 << 28, lambda: None)
        heard = max((record.number for record in spool.unsettled(b" ")), default=spool.number - 1) + 1
        ingestion.resume(catalog, coming=coming, done=spool.position.done)
        source, handle, settle = spooled_source(settings, spool, ingestion, store.has_room)

        def take(name: str, document: dict[str, Any]) -> None:
            handle(name, document)
            taken.append(name)
            if len(taken) == documents:
                stop.set()

        def idle() -> None:
            told = settle()
            if documents is None and told["next_message"] == heard and until(spool.position):
                stop.set()

        try:
            source.run(take, stop, idle)
            assert source.counts.handler_failures == 0
            return ingestion.report()[2], spool
        finally:
            ingestion.close()
            assert store.close(20).waiting_jobs == 0


def run(uid: str, points: int, **start: Any) -> list[tuple[str, dict[str, Any]]]:
    keys = {
        "camera": {"dtype": "array", "shape": [4, 6], "source": "sim"},
        "theta": {"dtype": "number", "shape": [], "source": "sim"},
    }
    begin = {"uid": uid, "time": 1.0, "motors": ["theta"], "num_points": points, **start}
    described = {"uid": f"{uid}-d", "run_start": uid, "name": "primary", "data_keys": keys, "time": 1.0}
    events = [event(uid, number) for number in range(1, points + 1)]
    end = {"uid": f"{uid}-s", "run_start": uid, "exit_status": "success", "num_events": {"primary": points}}
    return [("start", begin), ("descriptor", described), *events, ("stop", end)]


def event(uid: str, number: int, take: int = 0) -> tuple[str, dict[str, Any]]:
    data = {"camera": np.full((4, 6), number + 100 * take, float), "theta": float(number)}
    made = {"uid": f"{uid}-{number}-{take}", "descriptor": f"{uid}-d", "seq_num": number, "time": 2.0, "data": data}
    return "event", {**made, "timestamps": dict.fromkeys(data, 2.0)}


def images(reader: Any) -> list[float]:
    return [float(image[0, 0]) for batch in reader.batches("projection") for image in batch.images]


def test_a_run_comes_whole_through_five_lives_as_through_one(catalog, settings, uid):
    hear(settings, run(uid, 12))
    for documents in (1, 2, 5, 9, 13):
        live(catalog, settings, documents)
    report, _ = live(catalog, settings, until=lambda position: position.number >= 15)
    reader = catalog.reader(TomogramKey(uid))
    acquisition = reader.acquisition()
    assert (acquisition.state, acquisition.received["missing"], acquisition.received["duplicates"]) == (
        "complete",
        {},
        0,
    )
    assert images(reader) == list(range(1, 13))
    assert (report["missing"], report["duplicates"]) == (0, 0)


def test_a_tomogram_whose_making_was_interrupted_is_made_again(catalog, wire, settings, uid):
    nodes.create_container(wire, layout.ROOT, uid, {"status": "receiving", "run_uids": [uid]})
    hear(settings, run(uid, 3))
    live(catalog, settings)
    reader = catalog.reader(TomogramKey(uid))
    assert (reader.acquisition().state, images(reader)) == ("complete", [1, 2, 3])


def test_an_open_run_holds_the_spool_from_its_start_and_its_end_frees_it(catalog, settings, uid):
    other = f"{uid}-other"
    documents = run(uid, 4)
    hear(settings, [*run(other, 3), *documents[:4]])
    _, spool = live(catalog, settings, until=lambda position: position.number >= 6)
    assert (spool.position.number, spool.position.done) == (6, ())
    hear(settings, documents[4:])
    _, spool = live(catalog, settings, until=lambda position: position.number >= 13)
    assert spool.position.number == 13
    assert images(catalog.reader(TomogramKey(uid))) == [1, 2, 3, 4]


def test_a_run_that_ended_behind_an_open_one_is_not_begun_again(catalog, settings, uid):
    other = f"{uid}-other"
    hear(settings, [*run(uid, 4)[:2], *run(other, 3)])
    live(catalog, settings, until=lambda position: other in position.done)
    before = catalog.reader(TomogramKey(other)).acquisition()
    report, spool = live(catalog, settings)
    assert spool.position.done == (other,)
    assert [one["reason"] for one in report["recent_runs"]] == ["it was stored before this process started"]
    assert catalog.reader(TomogramKey(other)).acquisition() == before


def test_of_a_point_taken_again_the_last_take_counts_after_a_crash_too(catalog, settings, uid):
    documents = run(uid, 4)
    documents.insert(4, event(uid, 2, take=1))
    hear(settings, documents)
    for count in (4, 5, 6):
        live(catalog, settings, count)
    live(catalog, settings, until=lambda position: position.number >= len(documents))
    reader = catalog.reader(TomogramKey(uid))
    summary = catalog.summary(TomogramKey(uid))
    counted = [image for row, image in enumerate(images(reader)) if row not in summary.withdrawn]
    assert sorted(counted) == [1, 3, 4, 102]
    assert reader.acquisition().received["retaken"] == 1


def test_joined_runs_come_once_more_without_being_counted_twice(catalog, settings, uid):
    settings = settings.model_copy(update={"documents": DocumentRules(join_by=("sample",), redone_within=0.0)})
    runs = [run(f"{uid}-{number}", 2, sample=uid) for number in range(3)]
    hear(settings, [document for one in runs for document in one])
    for documents in (4, 7, 12):
        live(catalog, settings, documents)
    store = StoreThread(catalog)
    ingestion = Ingestion(settings.documents, store, profile_name="sim", receiver="ingest", kept=True)
    with SpoolReader(spool_folder(settings)) as spool:
        ingestion.resume(catalog, coming=coming_runs(spool, 1 << 28, lambda: None))
        source, handle, _ = spooled_source(settings, spool, ingestion, store.has_room)
        stop = threading.Event()
        source.run(handle, stop, lambda: stop.set() if source.number == 15 else None)
        ingestion.close_joined()
        ingestion.close()
    assert store.close(20).waiting_jobs == 0
    reader = catalog.reader(TomogramKey(f"{uid}-0"))
    acquisition = reader.acquisition()
    assert (acquisition.state, acquisition.received["projections"]) == ("complete", 6)
    assert images(reader) == [1, 2] * 3


def test_over_half_full_an_open_run_is_kept_by_the_catalogue_alone(catalog, settings, uid, caplog):
    tight = settings.model_copy(update={"spool": settings.spool.model_copy(update={"gib": 20_000 / 2**30})})
    documents = run(uid, 20)
    hear(tight, documents[:12])
    assert 2 * sum(file.stat().st_size for file in spool_folder(tight).glob("*.spool")) < 20_000
    _, spool = live(catalog, tight)
    assert spool.position.number == 0
    hear(tight, documents[12:21])
    _, spool = live(catalog, tight, until=lambda position: position.number >= 18)
    assert "half full" in caplog.text
    hear(tight, documents[21:])
    live(catalog, tight)
    reader = catalog.reader(TomogramKey(uid))
    assert images(reader) == list(range(1, 21))
    assert (reader.acquisition().state, reader.acquisition().received["missing"]) == ("complete", {})

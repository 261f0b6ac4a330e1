"""From documents to the catalogue, without sockets."""

from __future__ import annotations

import numpy as np
import pytest

from pfitre_service.errors import InputError
from pfitre_service.ingest import DocumentRules
from pfitre_service.model import TomogramKey
from pfitre_service.service.ingestion import Ingestion
from pfitre_service.store import layout
from pfitre_service.store.tiled_http import nodes
from pfitre_service.store.writer_thread import StoreThread


def run(uid, points, *, first=1, stop=True):
    """Documents of one run; those before its event `first` and, unless asked for, its end are left out."""
    keys = {"camera": {"dtype": "array", "shape": [4, 6], "source": "s"}, "theta": {"dtype": "number", "source": "s"}}
    keys["theta"]["shape"] = []
    if first == 1:
        yield "start", {"uid": uid, "time": 1.0, "motors": ["theta"], "num_projections": points}
        yield "descriptor", {"uid": f"{uid}-d", "run_start": uid, "name": "primary", "data_keys": keys}
    for number in range(first, points + 1):
        data = {"camera": np.full((4, 6), number, float), "theta": float(number)}
        yield "event", {"uid": str(number), "descriptor": f"{uid}-d", "seq_num": number, "time": 2.0, "data": data}
    if stop:
        end = {"uid": "s", "run_start": uid, "exit_status": "success", "num_events": {"primary": points}}
        yield "stop", end


def ingest(catalog, documents, *, resume=False, receiver="ingest"):
    """Takes the documents in, stores what they hold, and returns the last report."""
    store = StoreThread(catalog)
    ingestion = Ingestion(DocumentRules(), store, profile_name="sim", receiver=receiver)
    try:
        if resume:
            ingestion.resume(catalog)
        for name, document in documents:
            ingestion.handle(name, document)
        return ingestion.report()
    finally:
        assert store.close(20).waiting_jobs == 0


@pytest.fixture
def uid(key):
    return str(key)


def test_a_run_becomes_a_tomogram_with_every_frame(catalog, key, uid):
    state, reason, details = ingest(catalog, run(uid, 5))
    acquisition = catalog.reader(key).acquisition()
    assert (acquisition.state, acquisition.expected_frames) == ("complete", 5)
    assert list(catalog.reader(key).angles()) == [1, 2, 3, 4, 5]
    metadata = catalog.reader(key).metadata()
    assert (metadata["profile"], metadata["run_uids"], metadata["measurement"]) == ("sim", [uid], "transmission")
    assert (state, details["frames"]) == ("idle", {"projection": 5})
    assert "complete" in reason


def test_a_run_under_way_is_shown(catalog, key, uid):
    state, reason, _ = ingest(catalog, run(uid, 3, stop=False))
    assert state == "receiving"
    assert "3 projections" in reason


def test_a_process_that_comes_after_a_crash_goes_on_where_the_other_stopped(catalog, key, uid):
    ingest(catalog, run(uid, 4, stop=False))
    _, _, details = ingest(catalog, run(uid, 9, first=7), resume=True)
    reader = catalog.reader(key)
    assert list(reader.angles()) == [1, 2, 3, 4, 7, 8, 9]
    assert reader.acquisition().state == "complete"
    assert reader.acquisition().received["missing"] == {"primary": 2}
    assert details["missing"] == 2


def test_frames_that_come_again_after_a_crash_are_stored_once(catalog, key, uid):
    ingest(catalog, run(uid, 4, stop=False))
    ingest(catalog, run(uid, 6), resume=True)
    assert list(catalog.reader(key).angles()) == [1, 2, 3, 4, 5, 6]
    assert catalog.reader(key).acquisition().state == "complete"
    assert catalog.reader(key).acquisition().received["duplicates"] == 4


def test_a_tomogram_that_ended_is_not_taken_up_again(catalog, key, uid):
    ingest(catalog, run(uid, 3))
    _, reason, _ = ingest(catalog, [], resume=True)
    assert uid not in reason
    assert catalog.reader(key).acquisition().state == "complete"


def test_a_tomogram_that_somebody_else_receives_is_left_to_them(catalog, key, uid):
    ingest(catalog, run(uid, 3, stop=False), receiver="callback of somebody")
    _, reason, _ = ingest(catalog, [], resume=True)
    assert uid[:8] not in reason
    assert catalog.reader(key).acquisition().state == "receiving"


def test_a_tomogram_whose_making_was_interrupted_is_given_up_and_stops_nobody(catalog, wire, key, uid):
    nodes.create_container(wire, layout.ROOT, key.id, {"status": "receiving", "run_uids": [uid]})
    ingest(catalog, run(f"{uid}-next", 2), resume=True)
    acquisition = catalog.reader(key).acquisition()
    assert (acquisition.state, acquisition.reason) == (
        "abandoned",
        "its making was interrupted, so it cannot be resumed",
    )
    assert catalog.reader(TomogramKey(f"{uid}-next")).acquisition().state == "complete"


def test_a_full_queue_is_counted_and_noted(catalog, key, uid):
    store = StoreThread(catalog)
    ingestion = Ingestion(DocumentRules(), store, profile_name="sim", receiver="ingest")
    documents = list(run(uid, 3))
    for name, document in documents[:3]:
        ingestion.handle(name, document)
    store.close(20)
    for name, document in documents[3:]:
        ingestion.handle(name, document)
    _, _, details = ingestion.report()
    assert details["refused_by_store"] == 2
    assert any("2 frames" in note or "1 frames refused, the store is closed" in note for note in details["notes"])


def test_a_run_whose_geometry_cannot_be_is_resumed_all_the_same(catalog, key, uid):
    documents = list(run(uid, 2, stop=False))
    documents[0][1]["rotation_axis"] = 1e9
    ingest(catalog, documents)
    ingest(catalog, run(uid, 3, first=3), resume=True)
    acquisition = catalog.reader(key).acquisition()
    assert (acquisition.state, acquisition.received["missing"]) == ("complete", {})
    with pytest.raises(InputError, match="rotation axis"):
        _ = acquisition.geometry

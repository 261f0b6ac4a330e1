"""Tomograms of many runs in the catalogue, with a restart between two runs; references of another run."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from pfitre_service.model import TomogramKey
from pfitre_service.preprocess import PreprocessParameters
from pfitre_service.service.ingestion import Ingestion
from pfitre_service.service.worker.session import stored_references
from pfitre_service.store.writer_thread import StoreThread
from pfitre_service.testing.forms import FORMS
from pfitre_service.twin.beamlines.exposures import expose
from pfitre_service.twin.beamlines.hxn import hxn_tomography
from pfitre_service.twin.beamlines.raster_sample import raster_sample


def ingest(catalog: Any, rules: Any, documents: Iterable[tuple[str, dict[str, Any]]], *, end: bool) -> dict[str, Any]:
    """One life of the process that takes documents in; `end`: no further run comes."""
    store = StoreThread(catalog)
    ingestion = Ingestion(rules, store, profile_name="test", receiver="ingest")
    try:
        ingestion.resume(catalog)
        for name, document in documents:
            ingestion.handle(name, document)
        if end:
            ingestion.close_joined()
        return ingestion.report()[2]
    finally:
        ingestion.close()
        assert store.close(20).waiting_jobs == 0


@pytest.fixture(scope="module")
def catalog(server):
    """That frames come out alike beside the folder is held by tests/contract/store."""
    with server.catalog(beside=False) as catalog:
        yield catalog


@pytest.fixture(scope="module")
def sample():
    return raster_sample(angles=8)


@pytest.fixture
def runs(RE, sample, rules_of_profile, tmp_path):
    """Rules, and the documents of each run in its turn."""
    grouped: list[list[tuple[str, dict[str, Any]]]] = []

    def keep(name: str, document: dict[str, Any]) -> None:
        if name == "start":
            grouped.append([])
        grouped[-1].append((name, document))

    RE(hxn_tomography(sample, tmp_path, redone=3, align_every=5), keep)
    # The catalogue is shared with other tests: a sample of its own keeps their tomograms apart.
    tag = uuid.uuid4().hex
    for run in grouped:
        run[0] = ("start", {**run[0][1], "tag": tag})
    return rules_of_profile("hxn-xrf", tmp_path, join_by=("tag",)), grouped


def test_three_tomograms_go_on_after_a_restart_and_the_redone_run_is_withdrawn(catalog, runs, sample):
    rules, grouped = runs
    first = next(run[0][1]["uid"] for run in grouped if run[0][1]["scan"]["type"] == "2D_FLY_PANDA")
    keys = {element: TomogramKey(f"{first}-{element}") for element in rules.maps.elements}
    ingest(catalog, rules, [item for run in grouped[:6] for item in run], end=False)
    for key in keys.values():
        assert catalog.reader(key).acquisition().state == "receiving"
    ingest(catalog, rules, [item for run in grouped[6:] for item in run], end=True)
    for element, key in keys.items():
        reader = catalog.reader(key)
        acquisition = reader.acquisition()
        assert (acquisition.state, acquisition.received["projections"]) == ("complete", len(sample.angles) + 1)
        angles, (batch,) = reader.angles(), list(reader.batches("projection"))
        np.testing.assert_allclose(angles, [*sample.angles, sample.angles[3]])
        assert sorted(reader.angle_of_run().values()) == pytest.approx(sorted(sample.angles))
        np.testing.assert_allclose(batch.images[-1], sample.maps[element][3], rtol=1e-4, atol=1e-5)
        assert catalog.summary(key).metadata["element"] == element
        assert catalog.summary(key).geometry.pixel_size_nm == pytest.approx(100.0)


def test_a_restart_in_the_middle_of_a_run_loses_only_what_cannot_be_known(catalog, runs, sample):
    rules, grouped = runs
    whole, cut = grouped[1], grouped[2]
    ingest(catalog, rules, [*whole, *cut[:5]], end=False)
    report = ingest(catalog, rules, [*cut[5:], *(item for run in grouped[3:] for item in run)], end=True)
    key = TomogramKey(f"{whole[0][1]['uid']}-Cu")
    reader = catalog.reader(key)
    assert reader.acquisition().state == "complete"
    found = sorted(reader.angle_of_run().values())
    assert set(np.round(found, 6)) <= set(np.round(sample.angles, 6))
    assert len(found) >= len(sample.angles) - 1
    assert report["malformed"] == 0


def test_flats_and_darks_of_another_run_are_found_there(catalog, RE, rules_of_form, tmp_path):
    exposures = expose(angles=16)
    documents: list[tuple[str, dict[str, Any]]] = []
    RE(FORMS["hex"].plan(exposures, tmp_path), lambda name, document: documents.append((name, document)))
    ingest(catalog, rules_of_form("hex", tmp_path), documents, end=True)
    references, scan = (TomogramKey(document["uid"]) for name, document in documents if name == "start")
    assert catalog.summary(scan).frames == {"projection": 16, "flat": 6, "dark": 4}
    assert catalog.summary(references).frames == {"projection": 0, "flat": 6, "dark": 4}
    assert catalog.reader(scan).references().key == references
    found, notes = stored_references(catalog.reader(scan), PreprocessParameters())
    assert notes == ()
    np.testing.assert_allclose(found.flat, np.median(exposures.flats, axis=0))
    np.testing.assert_allclose(found.dark, np.median(exposures.darks, axis=0))

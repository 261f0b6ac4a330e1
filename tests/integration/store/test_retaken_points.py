"""A real RunEngine is paused and resumed: points since its last checkpoint are taken again, and only those count."""

from __future__ import annotations

import time
from contextlib import suppress

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky.utils import RunEngineInterrupted
from ophyd.sim import SynAxis, SynSignal

from pfitre_service.config import Settings, WorkerSettings
from pfitre_service.ingest import DocumentRules
from pfitre_service.model import TomogramKey
from pfitre_service.service.ingestion import Ingestion
from pfitre_service.service.worker.publisher import Publisher
from pfitre_service.store.writer_thread import StoreThread

SETTINGS = Settings(worker=WorkerSettings(device="cpu", publish_interval_s=0.0, batch_frames=8, heldout_every=0))
ANGLES = np.arange(-72.0, 73.0, 8.0)
PAUSED_AT = {4, 11}
"""Places in ANGLES at which the scan is paused, after the image was taken."""


class Beamline:
    """A camera that sees a disc off the axis; while the beam is gone, every count is a tenth."""

    def __init__(self) -> None:
        self.theta = SynAxis(name="theta")
        self.beam, self.open = 1.0, True
        self.camera = SynSignal(func=self.image, name="camera")

    def image(self):
        columns = np.arange(24) - 11.5 - 4 * np.cos(np.deg2rad(self.theta.position))
        shadow = np.sqrt(np.clip(16 - columns**2, 0, None)) / 20
        counts = 1000 * np.exp(-shadow) if not self.open else np.full(24, 1000.0)
        return np.tile(counts * self.beam, (4, 1)).astype(np.float32)


def scan(beamline, *, broken):
    """Two flats and all angles. Broken: paused three times, each after an exposure without beam."""

    @bpp.run_decorator(md={"motors": ["theta"]})
    def plan():
        yield from bps.stage(beamline.camera)
        for place in range(2):
            beamline.open = True
            yield from exposed("flat", broken and place == 1)
        for place, angle in enumerate(ANGLES):
            beamline.open = False
            yield from exposed("primary", broken and place in PAUSED_AT, float(angle))
        yield from bps.unstage(beamline.camera)

    def exposed(stream, pause, angle=None):
        yield from bps.checkpoint()
        if angle is not None:
            yield from bps.mv(beamline.theta, angle)
        beamline.beam = 0.1 if pause else 1.0
        devices = [beamline.camera] + ([] if angle is None else [beamline.theta])
        yield from bps.trigger_and_read(devices, name=stream)
        if pause:
            yield from bps.pause()

    return plan()


def documents_of(RE, beamline, *, broken):
    documents = []
    with suppress(RunEngineInterrupted):
        RE(scan(beamline, broken=broken), lambda name, document: documents.append((name, document)))
    while RE.state == "paused":
        beamline.beam = 1.0
        with suppress(RunEngineInterrupted):
            RE.resume()
    return documents


def received(catalog, documents, *, stop_after=None):
    """Takes the documents in; `stop_after` so many the process ends, and another one goes on."""
    parts = [documents] if stop_after is None else [documents[:stop_after], documents[stop_after:]]
    for number, part in enumerate(parts):
        store = StoreThread(catalog)
        ingestion = Ingestion(DocumentRules(), store, profile_name="sim", receiver="ingest")
        if number:
            ingestion.resume(catalog)
        for name, document in part:
            ingestion.handle(name, document)
        ingestion.close()
        assert store.close(20).waiting_jobs == 0
    return catalog.reader(TomogramKey(documents[0][1]["uid"]))


def final_volume(catalog, reader, make_worker):
    with Publisher(catalog) as publisher:
        worker = make_worker(catalog, publisher, SETTINGS)
        ends_at = time.monotonic() + 120
        while catalog.summary(reader.key).status != "final":
            assert time.monotonic() < ends_at, f"not final: {reader.metadata().get('reason')}"
            worker.observe()
            worker.work()
    return reader.volume()


@pytest.fixture(scope="module")
def catalog(start_server):
    with start_server().catalog() as catalog:
        yield catalog


@pytest.fixture(scope="module")
def scans(module_engine):
    beamline = Beamline()
    module_engine.record_interruptions = True
    return {broken: documents_of(module_engine, beamline, broken=broken) for broken in (False, True)}


@pytest.fixture(scope="module")
def expected(catalog, scans, make_worker):
    """The volume of the scan that nothing happened to."""
    return final_volume(catalog, received(catalog, scans[False]), make_worker)


def test_the_run_engine_takes_points_again_as_this_is_written_for(scans):
    events = [document for name, document in scans[True] if name == "event"]
    taken = [(event["descriptor"], event["seq_num"]) for event in events if "camera" in event["data"]]
    assert len(taken) - len(set(taken)) == 1 + len(PAUSED_AT)
    assert len({event["uid"] for event in events}) == len(events)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_paused_scan_gives_the_volume_of_an_unbroken_one(
    catalog, scans, expected, restarted, module_engine, make_worker
):
    broken = scans[True] if not restarted else documents_of(module_engine, Beamline(), broken=True)
    first_retake = next(
        at
        for at, (name, document) in enumerate(broken)
        if name == "event" and document["seq_num"] == 2 and "camera" in document["data"]
    )
    reader = received(catalog, broken, stop_after=first_retake + 1 if restarted else None)
    counts = reader.acquisition().received
    assert (counts["retaken"], counts["duplicates"], counts["missing"], counts["refused"]) == (3, 0, {}, {})
    assert len(reader.withdrawn("projection")) == len(PAUSED_AT)
    assert reader.withdrawn("flat") == {1}
    np.testing.assert_allclose(final_volume(catalog, reader, make_worker), expected, atol=1e-3 * expected.max())
    assert f"{len(ANGLES)} of " in reader.metadata()["reason"]

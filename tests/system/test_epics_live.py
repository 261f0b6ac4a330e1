"""An EPICS beamline against a running service: documents over 0MQ, images in files, an IOC that dies."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from pfitre_service.errors import ServiceError
from pfitre_service.model import TomogramKey
from pfitre_service.testing.forms import FORMS
from pfitre_service.twin.beamlines.epics import epics_beamline
from pfitre_service.twin.beamlines.exposures import PlayedExposures, expose
from pfitre_service.twin.plans import tomo_scan

pytestmark = pytest.mark.slow

# The volume is where the solver converges to, whenever the frames came: nothing is held out, for that ends earlier.
CONVERGED = {
    "prior": {"name": "tv"},
    "recon": {"tolerance": 2e-5, "max_iterations": 800},
    "worker": {"heldout_every": 0, "publish_interval_s": 0.1, "poll_interval_s": 0.05},
}


def stored_images(reader, role):
    return np.concatenate([batch.images for batch in reader.batches(role)])


def relative_difference(volume, other):
    return float(np.linalg.norm(volume - other) / np.linalg.norm(other))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("epics")


@pytest.fixture(scope="module")
def service(tmp_path_factory, start_service, folder):
    overrides = {"documents": {"roots": [str(folder)]}, **CONVERGED}
    with start_service(tmp_path_factory.mktemp("service"), overrides) as service:
        yield service


@pytest.fixture(scope="module")
def exposures():
    return expose(angles=16)


@pytest.fixture
def take(RE, service, exposures, folder):
    """Runs the whole scan; `disturb(beamline, event)` is called after each projection."""

    def scan(disturb=lambda beamline, event: None):
        started = []
        RE.subscribe(service.publisher)
        RE.subscribe(lambda name, document: started.append(document["uid"]), "start")
        source = partial(PlayedExposures, exposures)
        with epics_beamline(source, folder, exposure_s=0.01, rotation_axis=exposures.axis) as beamline:

            def projected(name, event):
                if "rotation" in event["data"]:
                    disturb(beamline, event)

            RE.subscribe(projected, "event")
            flats, darks = len(exposures.flats), len(exposures.darks)
            angles = exposures.angles.tolist()
            try:
                RE(tomo_scan(beamline.detector, beamline.rotation, angles, flats=flats, darks=darks))
            finally:
                scan.key = TomogramKey(started[-1])

    return scan


def test_the_volume_is_that_of_the_same_frames_in_the_documents(RE, service, exposures, folder, take):
    take()
    metadata = service.ended(take.key)
    assert metadata["frames_used"] == service.stored(take.key) == 16
    assert metadata["revision"] > 1
    (uid,) = RE(FORMS["inline"].plan(exposures, folder))
    service.ended(TomogramKey(uid))
    live, inline = service.reader(take.key), service.reader(TomogramKey(uid))
    for role in ("dark", "flat", "projection"):
        np.testing.assert_array_equal(stored_images(live, role), stored_images(inline, role))
    np.testing.assert_allclose(live.angles(), inline.angles(), atol=1e-6)
    assert relative_difference(live.volume(), inline.volume()) < 1e-3


def test_an_ioc_killed_in_mid_scan_ends_the_tomogram_with_what_there_is(RE, service, take, until):
    def kill(beamline, event):
        if event["seq_num"] == 9:
            beamline.ioc.process.kill()
            beamline.ioc.process.join()

    with pytest.raises(ServiceError, match="ended with exit code -9 while it was in use"):
        take(kill)
    assert RE.state == "idle"
    metadata = service.ended(take.key)
    assert service.reader(take.key).acquisition().state == "failed"
    assert metadata["frames_used"] == service.stored(take.key) == 9
    assert "9 of 16" in metadata["reason"]
    until(lambda: service.health("ingest").state == "idle", "peace")
    take()
    assert service.ended(take.key)["frames_used"] == 16

"""Fluorescence maps of many runs against a running service: a tomogram for each element."""

from __future__ import annotations

import numpy as np
import pytest

from pfitre_service.demo.shown_scans import HXN_DOCUMENTS
from pfitre_service.ingest import DocumentRules
from pfitre_service.model import TomogramKey
from pfitre_service.service.live_tomography import live_tomography
from pfitre_service.twin.beamlines.hxn import hxn_tomography
from pfitre_service.twin.beamlines.raster_sample import raster_sample
from pfitre_service.twin.devices import RotationStage, TomoDetector
from pfitre_service.twin.image_sources import RecordedScan
from pfitre_service.twin.plans import tomo_scan
from pfitre_service.twin.recordings import Recording

pytestmark = pytest.mark.slow

# The volume is where the solver converges to, whenever the maps came: nothing is held out, for that ends earlier.
CONVERGED = {
    "prior": {"name": "tv"},
    "recon": {"tolerance": 2e-5, "max_iterations": 400},
    "worker": {"heldout_every": 0, "publish_interval_s": 0.1, "poll_interval_s": 0.05},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hxn")


@pytest.fixture(scope="module")
def sample():
    return raster_sample(angles=8)


@pytest.fixture(scope="module")
def service(tmp_path_factory, start_service, folder):
    documents = HXN_DOCUMENTS | {"roots": [str(folder)], "join_gap_s": 3.0}
    with start_service(tmp_path_factory.mktemp("service"), {"documents": documents, **CONVERGED}) as service:
        yield service


@pytest.fixture(scope="module")
def tomograms(module_engine, service, sample, folder, until):
    """By element: the reader of its final tomogram."""
    maps = []

    def of_maps(name, document):
        if document["scan"]["type"] == "2D_FLY_PANDA":
            maps.append(document["uid"])

    tokens = [module_engine.subscribe(service.publisher), module_engine.subscribe(of_maps, "start")]
    module_engine(hxn_tomography(sample, folder, redone=None))
    for token in tokens:
        module_engine.unsubscribe(token)
    keys = {element: TomogramKey(f"{maps[0]}-{element}") for element in sample.truth}
    for key in keys.values():
        until(lambda key=key: has_ended(service, key), f"the end of {key}", 200)
        assert service.ended(key)["frames_used"] == len(sample.angles)
    return {element: service.reader(key) for element, key in keys.items()}


def has_ended(service, key):
    summary = service.summary(key)
    return summary is not None and summary.status in ("final", "failed")


def images(reader):
    return np.concatenate([batch.images for batch in reader.batches("projection")])


def test_many_runs_become_a_tomogram_for_each_element(tomograms, sample):
    assert list(tomograms) == ["Cu", "Fe", "Ni"]
    for element, reader in tomograms.items():
        np.testing.assert_allclose(reader.angles(), sample.angles)
        np.testing.assert_allclose(images(reader), sample.maps[element], rtol=1e-4, atol=1e-5)
        runs = reader.metadata()["run_uids"]
        assert len(runs) == len(sample.angles)
        assert set(runs) == {run for run, *_ in reader.frame_ids()}


def test_the_volume_is_that_of_the_same_maps_as_images_of_a_single_run(RE, service, tomograms, sample):
    stage = RotationStage(name="rotation")
    source = RecordedScan(Recording(sample.maps["Cu"], sample.angles))
    detector = TomoDetector(name="detector", source=source, stage=stage, exposure_s=0)
    settings = service.settings.model_copy(update={"documents": DocumentRules()})
    with live_tomography(settings=settings) as live:
        RE.subscribe(live)
        (uid,) = RE(tomo_scan(detector, stage, sample.angles.tolist()))
    service.ended(TomogramKey(uid))
    inline, joined = service.reader(TomogramKey(uid)).volume(), tomograms["Cu"].volume()
    assert np.linalg.norm(joined - inline) / np.linalg.norm(inline) < 1e-3

"""Fluorescence maps of many runs against a running service: a tomogram for each element."""

from __future__ import annotations

import numpy as np
import pytest

from pfitre_service.model import TomogramKey
from pfitre_service.service.demo_scans import HXN_DOCUMENTS
from pfitre_service.twin.beamlines.hxn import hxn_tomography
from pfitre_service.twin.beamlines.raster_sample import raster_sample

pytestmark = pytest.mark.slow

QUICK = {"publish_interval_s": 0.1, "poll_interval_s": 0.05}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hxn")


@pytest.fixture(scope="module")
def sample():
    return raster_sample(angles=10)


@pytest.fixture(scope="module")
def service(tmp_path_factory, start_service, folder):
    documents = HXN_DOCUMENTS | {"roots": [str(folder)], "join_gap_s": 3.0}
    with start_service(tmp_path_factory.mktemp("service"), {"documents": documents, "worker": QUICK}) as service:
        yield service


def test_many_runs_become_a_tomogram_for_each_element(RE, service, sample, folder):
    maps = []

    def of_maps(name, document):
        if document["scan"]["type"] == "2D_FLY_PANDA":
            maps.append(document["uid"])

    RE.subscribe(service.publisher)
    RE.subscribe(of_maps, "start")
    RE(hxn_tomography(sample, folder, redone=None))
    for element in sample.truth:
        key = TomogramKey(f"{maps[0]}-{element}")
        assert service.ended(key)["frames_used"] == len(sample.angles)
        np.testing.assert_allclose(np.sort(service.reader(key).angles()), sample.angles)

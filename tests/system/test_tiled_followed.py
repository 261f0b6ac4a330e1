"""A Tiled catalogue that TiledWriter writes to, followed by the service while the scan runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky_tiled_plugins import TiledWriter
from tiled.client import from_uri

from pfitre_service.model import TomogramKey
from pfitre_service.service.connection import api_key, catalog_url, connect_catalog
from pfitre_service.service.demo import demo_settings
from pfitre_service.service.ports import free_port
from pfitre_service.service.serve import make_supervisor
from pfitre_service.store.catalog import Catalog
from pfitre_service.twin.beamlines.exposures import Exposures, expose
from pfitre_service.twin.beamlines.forms import FORMS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exposures() -> Exposures:
    return expose(angles=16)


@pytest.fixture(scope="module")
def by_0mq(service, module_engine, exposures, tmp_path_factory) -> Any:
    """(z, y, x) of the same scan as it comes over 0MQ."""
    token = module_engine.subscribe(service.publisher)
    (uid,) = module_engine(FORMS["inline"].plan(exposures, tmp_path_factory.mktemp("inline")))
    module_engine.unsubscribe(token)
    service.ended(TomogramKey(uid))
    return service.reader(TomogramKey(uid)).volume()


@pytest.fixture(scope="module")
def detector_files(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("detector")


@pytest.fixture(scope="module")
def followed(tmp_path_factory, detector_files) -> Iterator[tuple[Catalog, Any]]:
    """The catalogue of tomograms of a service that follows the container `raw` of its own Tiled, and that container."""
    port = free_port()
    settings = demo_settings(
        tmp_path_factory.mktemp("followed"),
        {
            "tiled": {"port": port},
            "proxy": {"enabled": False},
            "source": {"kind": "tiled", "address": f"http://127.0.0.1:{port}/api/v1/metadata/raw"},
            "documents": {"rotation": "rotation", "roots": [str(detector_files)]},
            "worker": {"publish_interval_s": 0.1, "poll_interval_s": 0.05},
        },
    )
    with make_supervisor(settings, log_level=logging.WARNING).running(90), connect_catalog(settings) as catalog:
        client = from_uri(catalog_url(settings), api_key=api_key(settings))
        yield catalog, client.create_container("raw")
        client.context.close()


@pytest.mark.parametrize("form", ["inline"])
def test_a_run_is_reconstructed_while_tiled_writer_writes_it(
    followed, by_0mq, module_engine, exposures, detector_files, until, form
):
    catalog, archive = followed
    stored_at_the_last_angle = []

    def look(name: str, document: dict[str, Any]) -> None:
        if name == "event" and document["seq_num"] == 16:
            until(lambda: catalog.summaries(1)[-1].frames["projection"] >= 12, "frames in the catalogue")
            stored_at_the_last_angle.append(catalog.summaries(1)[-1].frames["projection"])

    tokens = [module_engine.subscribe(TiledWriter(archive, batch_size=1)), module_engine.subscribe(look)]
    (uid,) = module_engine(FORMS[form].plan(exposures, detector_files))
    for token in tokens:
        module_engine.unsubscribe(token)
    key = TomogramKey(uid)
    until(lambda: catalog.summary(key).status == "final", "the final volume", timeout_s=150)
    summary = catalog.summary(key)
    assert stored_at_the_last_angle
    assert summary.frames == {"projection": 16, "flat": len(exposures.flats), "dark": len(exposures.darks)}
    assert (summary.metadata["frames_used"], summary.acquisition) == (16, "complete")
    volume = catalog.reader(key).volume()
    assert np.linalg.norm(volume - by_0mq) < 1e-4 * np.linalg.norm(by_0mq)

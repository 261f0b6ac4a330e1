"""A Tiled catalogue that TiledWriter writes to, followed by the service while the scan runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky_tiled_plugins import TiledWriter
from tiled.client import from_uri

from pfitre_service.addresses import free_ports
from pfitre_service.catalog_access import api_key, catalog_url, connect_catalog
from pfitre_service.config import Settings
from pfitre_service.errors import StoreMissingError
from pfitre_service.model import TomogramKey
from pfitre_service.service.embedded import demo_settings
from pfitre_service.service.live_tomography import live_tomography
from pfitre_service.service.serve import make_supervisor
from pfitre_service.store.catalog import Catalog
from pfitre_service.testing.forms import FORMS
from pfitre_service.twin.beamlines.exposures import Exposures, expose

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exposures() -> Exposures:
    return expose(angles=16)


@pytest.fixture(scope="module")
def detector_files(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("detector")


@pytest.fixture(scope="module")
def followed(tmp_path_factory, detector_files) -> Iterator[tuple[Catalog, Any, Settings]]:
    """The catalogue of tomograms of a service that follows the container `raw` of its own Tiled, and that container."""
    port = free_ports(1)[0]
    settings = demo_settings(
        tmp_path_factory.mktemp("followed"),
        {
            "tiled": {"port": port},
            "proxy": {"enabled": False},
            "source": {"kind": "tiled", "address": f"http://127.0.0.1:{port}/api/v1/metadata/raw"},
            "documents": {"rotation": "rotation", "roots": [str(detector_files)]},
            "prior": {"name": "none"},
            "worker": {"publish_interval_s": 0.1, "poll_interval_s": 0.05},
        },
    )
    with make_supervisor(settings, log_level=logging.WARNING).running(90), connect_catalog(settings) as catalog:
        client = from_uri(catalog_url(settings), api_key=api_key(settings))
        yield catalog, client.create_container("raw"), settings
        client.context.close()


@pytest.fixture(scope="module")
def until_final(until) -> Callable[[Catalog, TomogramKey], None]:
    def wait(catalog: Catalog, key: TomogramKey) -> None:
        until(lambda: found(catalog, key) in ("final", "failed"), f"the end of {key}", timeout_s=150)

    def found(catalog: Catalog, key: TomogramKey) -> str:
        try:
            return catalog.summary(key).status
        except StoreMissingError:
            return "nothing yet"

    return wait


@pytest.fixture(scope="module")
def by_callback(followed, until_final, module_engine, exposures, detector_files) -> Any:
    """Frames and volume of the same scan with its images in the documents, which come without Tiled between."""
    catalog, _, settings = followed
    with live_tomography(settings=settings) as live:
        token = module_engine.subscribe(live)
        (uid,) = module_engine(FORMS["inline"].plan(exposures, detector_files))
        module_engine.unsubscribe(token)
    until_final(catalog, TomogramKey(uid))
    return of_tomogram(catalog, TomogramKey(uid))


@pytest.mark.parametrize("form", ["inline"])
def test_a_run_is_reconstructed_while_tiled_writer_writes_it(
    followed, by_callback, module_engine, exposures, detector_files, until, until_final, form
):
    catalog, archive, _ = followed
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
    until_final(catalog, key)
    summary = catalog.summary(key)
    assert stored_at_the_last_angle
    assert summary.frames == {"projection": 16, "flat": len(exposures.flats), "dark": len(exposures.darks)}
    assert (summary.metadata["frames_used"], summary.acquisition) == (16, "complete")
    (direct, volume), (frames, followed_volume) = by_callback, of_tomogram(catalog, key)
    for role in ("projection", "flat", "dark"):
        np.testing.assert_array_equal(frames[role][0], direct[role][0])
        np.testing.assert_allclose(frames[role][1], direct[role][1], atol=1e-5)
    # Frames that come slowly are dealt out to the iterations otherwise; the solver ends within 1 % of the same volume.
    assert np.linalg.norm(followed_volume - volume) < 1e-2 * np.linalg.norm(volume)


def of_tomogram(catalog: Catalog, key: TomogramKey) -> tuple[dict[str, tuple[Any, Any]], Any]:
    """(frame, row, column) and (frame,) degrees of each role, and the volume (z, y, x)."""
    reader = catalog.reader(key)
    frames = {
        role: (np.concatenate([batch.images for batch in reader.batches(role)]), reader.angles(role))
        for role in ("projection", "flat", "dark")
    }
    return frames, reader.volume()

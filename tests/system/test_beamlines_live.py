"""One scan in every form of documents, through a running service: the same volume as with images in the events."""

from __future__ import annotations

import numpy as np
import pytest

from pfitre_service.model import TomogramKey
from pfitre_service.service.live_tomography import live_tomography
from pfitre_service.testing.forms import FORMS
from pfitre_service.twin.beamlines.exposures import expose

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exposures():
    return expose(angles=16)


@pytest.fixture(scope="module")
def reconstruct(service, exposures, module_engine, rules_of_form, tmp_path_factory):
    """Runs the scan in one form; returns the final volume and its metadata."""

    def run(name):
        folder, form, uids = tmp_path_factory.mktemp(name), FORMS[name], []
        settings = service.settings.model_copy(update={"documents": rules_of_form(name, folder)})
        with live_tomography(settings=settings) as live:
            tokens = [
                module_engine.subscribe(live),
                module_engine.subscribe(lambda _, document: uids.append(document["uid"]), "start"),
            ]
            try:
                module_engine(form.plan(exposures, folder))
            finally:
                for token in tokens:
                    module_engine.unsubscribe(token)
        key = TomogramKey(uids[-1])
        metadata = service.ended(key)
        return service.reader(key).volume(), metadata

    return run


@pytest.fixture(scope="module")
def inline(reconstruct):
    return reconstruct("inline")[0]


@pytest.mark.parametrize("name", [name for name in FORMS if name != "inline"])
def test_the_volume_is_that_of_the_inline_form(reconstruct, inline, name):
    volume, metadata = reconstruct(name)
    difference = np.linalg.norm(volume - inline) / np.linalg.norm(inline)
    assert difference < 1e-4  # an angle that was interpolated on time stamps is good to 1e-5 degrees
    assert metadata["frames_used"] == 16

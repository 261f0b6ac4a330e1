"""Every form of documents, made by the real libraries, gives the very frames and angles that were exposed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine

from pfitre_service.ingest import (
    AddFrames,
    AddReferences,
    CloseTomogram,
    DocumentRules,
    FrameFiles,
    Note,
    ReadFrames,
    TomogramAssembler,
    frames_of,
)
from pfitre_service.model import Frame
from pfitre_service.testing.forms import FORMS
from pfitre_service.twin.beamlines.exposures import Exposures, expose

Documents = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def exposures() -> Exposures:
    return expose(angles=16)


@pytest.fixture(scope="module", params=list(FORMS))
def scan(
    request: pytest.FixtureRequest,
    module_engine: RunEngine,
    rules_of_form: Callable[[str, Path], DocumentRules],
    exposures: Exposures,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """(rules, documents) of one form."""
    folder, form = tmp_path_factory.mktemp("scan"), FORMS[request.param]
    documents: Documents = []
    module_engine(form.plan(exposures, folder), lambda name, document: documents.append((name, document)))
    return rules_of_form(request.param, folder), documents


class Taken:
    """What the assembler made of documents, with the files read."""

    def __init__(self, rules: DocumentRules, documents: Documents) -> None:
        self.assembler = TomogramAssembler(rules)
        self.actions = [action for name, document in documents for action in self.assembler.handle(name, document)]
        files = FrameFiles(rules.roots)
        self.frames: list[Frame] = []
        for action in self.actions:
            if isinstance(action, AddFrames | AddReferences):
                self.frames += action.frames
            elif isinstance(action, ReadFrames):
                self.frames += frames_of(action, files)

    def images(self, role: str) -> np.ndarray:
        """In the order of streams, events and parts."""
        ordered = sorted(self.of(role), key=lambda frame: (frame.seq_num, frame.part))
        return np.stack([frame.image for frame in ordered])

    def of(self, role: str) -> list[Frame]:
        return [frame for frame in self.frames if frame.role == role]

    @property
    def warnings(self) -> list[str]:
        return [action.message for action in self.actions if isinstance(action, Note) and action.level != "info"]


def check(taken: Taken, exposures: Exposures) -> None:
    ordered = sorted(taken.of("projection"), key=lambda frame: frame.angle)
    np.testing.assert_allclose([frame.angle for frame in ordered], exposures.angles, atol=1e-4)
    np.testing.assert_array_equal(np.stack([frame.image for frame in ordered]), exposures.projections)
    np.testing.assert_array_equal(taken.images("flat"), exposures.flats)
    np.testing.assert_array_equal(taken.images("dark"), exposures.darks)


def test_frames_and_angles_are_those_that_were_exposed(scan, exposures):
    taken = Taken(*scan)
    check(taken, exposures)
    assert taken.warnings == []
    closed = [action for action in taken.actions if isinstance(action, CloseTomogram)]
    assert {action.exit_status for action in closed} == {"success"}
    assert sum(action.counts.projections for action in closed) == len(exposures.angles)
    assert not any(action.counts.missing or action.counts.refused for action in closed)


@pytest.mark.parametrize("seed", range(3))
def test_documents_out_of_order_and_twice_give_the_same(scan, exposures, seed):
    rules, documents = scan
    check(Taken(rules, disturbed(documents, seed)), exposures)


def disturbed(documents: Documents, seed: int) -> Documents:
    """Neighbours swapped and some documents twice; a stop stays behind all of its run."""
    chance = random.Random(seed)
    mixed = [item for item in documents for _ in range(1 + (chance.random() < 0.2))]
    order = sorted(range(len(mixed)), key=lambda place: place + 4 * chance.random())
    shuffled = [mixed[place] for place in order]
    starts = [document["uid"] for name, document in documents if name == "start"]
    ends: Documents = []
    for uid in starts:
        ends += [item for item in shuffled if item[0] == "stop" and item[1]["run_start"] == uid]
    return [item for item in shuffled if item[0] != "stop"] + ends


@pytest.mark.parametrize(
    ("form", "kind", "counted"),
    [
        ("inline", "event", "missing"),
        ("ad-hdf5", "event", "missing"),
        ("ad-hdf5", "datum", "incomplete"),
        ("stream-step", "event", "incomplete"),
        ("stream-step", "stream_datum", "incomplete"),
    ],
)
def test_a_lost_document_costs_its_own_frame_and_is_counted(
    form, kind, counted, RE, rules_of_form, exposures, tmp_path
):
    documents: Documents = []
    RE(FORMS[form].plan(exposures, tmp_path), lambda name, document: documents.append((name, document)))
    places = [place for place, (name, _) in enumerate(documents) if name == kind]
    del documents[places[-3]]  # of the projections, which come last
    taken = Taken(rules_of_form(form, tmp_path), documents)
    angles = [frame.angle for frame in taken.of("projection")]
    np.testing.assert_allclose(angles, np.delete(exposures.angles, -3), atol=1e-4)
    (closed,) = [action for action in taken.actions if isinstance(action, CloseTomogram)]
    assert {"missing": closed.counts.missing.get("primary"), "incomplete": closed.counts.refused.get("incomplete")} == {
        "missing": 1,
        "incomplete": 1 if counted == "incomplete" else None,
    }
    assert any("never came" in warning for warning in taken.warnings)

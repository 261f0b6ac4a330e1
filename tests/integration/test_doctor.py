"""`pfitre doctor`: what the live service would understand, explained."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pfitre_service.cli import app
from pfitre_service.ingest import DocumentRules
from pfitre_service.offline.run_diagnosis import RunDiagnosis
from pfitre_service.testing.forms import FORMS
from pfitre_service.testing.recorder import record_to
from pfitre_service.twin.beamlines.exposures import Exposures, expose


@pytest.fixture(scope="module")
def exposures() -> Exposures:
    return expose(angles=16)


def explained(rules: DocumentRules, documents: Any) -> tuple[bool, dict[str, list[str]]]:
    """Whether it was understood, and the texts of each verdict."""
    understanding = RunDiagnosis(rules)
    texts: dict[str, list[str]] = {"good": [], "plain": [], "warning": [], "bad": []}
    for line in understanding.take(documents):
        texts[line.verdict].append(f"{line.about}: {line.text}")
    return understanding.is_understood, texts


@pytest.fixture
def run_of(RE, exposures, tmp_path):
    """The documents of one form, its files below `tmp_path`."""

    def run(name: str) -> list[tuple[str, dict[str, Any]]]:
        documents: list[tuple[str, dict[str, Any]]] = []
        RE(FORMS[name].plan(exposures, tmp_path), lambda kind, document: documents.append((kind, document)))
        return documents

    return run


@pytest.mark.parametrize("form", ["inline", "ad-hdf5", "fxi", "stream-step", "stream-tiff", "hex", "diamond", "dxfile"])
def test_every_form_is_understood_with_its_profile(run_of, rules_of_form, tmp_path, form):
    understood, texts = explained(rules_of_form(form, tmp_path), run_of(form))
    assert understood
    assert texts["bad"] + texts["warning"] == []
    assert "frames: 16 projections of 8 x 48 uint16" in texts["good"]
    assert any(text.startswith("angles: -60 to 60 degrees, 16 different of 16") for text in texts["good"])


@pytest.mark.parametrize(
    ("form", "changes", "says"),
    [
        ("inline", {"rotation": "theta"}, "no data key 'theta' (documents.rotation)"),
        (
            "inline",
            {"projection_streams": ("tomo",)},
            "looked for in the streams 'tomo' (documents.projection_streams)",
        ),
        ("inline", {"only": {"plan_name": ("count",)}}, "documents.only asks for 'count'"),
        ("inline", {"flat_streams": ("white",)}, "set documents.flat_streams or references_from"),
        ("ad-hdf5", {"roots": ()}, "16 frames cannot be read: stream 'primary'"),
        ("ad-hdf5", {"path_map": {"/": "/elsewhere/"}, "roots": ("/elsewhere",)}, "documents.path_map says where"),
    ],
)
def test_what_is_wrong_is_named_with_the_setting_to_change(run_of, rules_of_form, tmp_path, form, changes, says):
    rules = dataclasses.replace(rules_of_form(form, tmp_path), **changes)
    understood, texts = explained(rules, run_of(form))
    assert understood == ("flat_streams" in changes)  # which a volume can do without
    assert any(says in text for text in [*texts["warning"], *texts["bad"], *texts["plain"]]), texts


def test_a_file_that_is_gone_and_a_lost_document_are_told_of(run_of, rules_of_form, tmp_path):
    documents = run_of("ad-hdf5")
    del documents[max(place for place, (name, _) in enumerate(documents) if name == "event")]
    understood, texts = explained(rules_of_form("ad-hdf5", tmp_path), documents)
    assert understood
    assert any("never came" in text for text in texts["warning"])
    for file in tmp_path.glob("*.h5"):
        file.unlink()
    understood, texts = explained(rules_of_form("ad-hdf5", tmp_path), documents)
    assert not understood
    assert any("is not there" in text for text in texts["warning"])
    assert any("15 frames cannot be read" in text for text in texts["bad"])


def test_angles_that_look_like_radians_are_doubted(run_of, rules_of_form, tmp_path):
    documents = run_of("inline")
    for name, document in documents:
        if name == "event" and "rotation" in document["data"]:
            document["data"]["rotation"] /= 57.3
    _, texts = explained(rules_of_form("inline", tmp_path), documents)
    assert any("documents.angle_unit" in text for text in [*texts["warning"], *texts["bad"]])


def test_the_command_explains_a_file_and_says_by_its_exit_code_whether_it_is_understood(RE, exposures, tmp_path: Path):
    RE(FORMS["inline"].plan(exposures, tmp_path), record_to(tmp_path / "run.jsonl"))
    arguments = ["doctor", "--run", str(tmp_path / "run.jsonl")]
    good = CliRunner().invoke(app, [*arguments, "--json"])
    assert (good.exit_code, json.loads(good.stdout)["understood"]) == (0, True)
    bad = CliRunner().invoke(app, [*arguments, "--set", "documents.image=camera"])
    assert bad.exit_code == 1
    assert "no data key 'camera' (documents.image)" in bad.stdout
    other = CliRunner().invoke(app, ["doctor", "--source", str(tmp_path / "run.jsonl"), "--run", "1", "--json"])
    assert json.loads(other.stdout)["understood"]

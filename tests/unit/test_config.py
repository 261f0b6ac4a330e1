from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from pfitre_service.config import Settings, environment_tree, load_profile, load_settings, setting_paths
from pfitre_service.errors import SettingsError


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("PFITRE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def profile(tmp_path):
    """Writes a profile folder and returns it."""

    def write(text):
        folder = tmp_path / "beamline"
        folder.mkdir()
        (folder / "profile.toml").write_text(text)
        return folder

    return write


def test_the_defaults_stand_by_themselves():
    settings = load_settings()
    assert settings == Settings()
    assert settings.tiled.host == "127.0.0.1"
    assert settings.proxy.subscribe == settings.source.address


def test_the_command_line_beats_the_environment_which_beats_the_profile(profile, monkeypatch):
    folder = profile("[tiled]\nport = 1001\nqueue_mib = 11\n[worker]\ndevice = 'cpu'\n")
    monkeypatch.setenv("PFITRE_TILED__PORT", "1002")
    settings = load_settings(folder, {"worker": {"device": "cuda:1"}})
    assert (settings.tiled.port, settings.tiled.queue_mib, settings.worker.device) == (1002, 11, "cuda:1")
    assert load_settings(folder, {"tiled": {"port": 1003}}).tiled.port == 1003


def test_a_profile_is_named_after_its_folder_or_file_unless_it_says_otherwise(profile, tmp_path):
    folder = profile("")
    assert load_settings(folder).profile_name == "beamline"
    (tmp_path / "hxn.toml").write_text("")
    assert load_settings(tmp_path / "hxn.toml").profile_name == "hxn"
    (tmp_path / "named.toml").write_text("profile_name = 'other'")
    assert load_settings(tmp_path / "named.toml").profile_name == "other"


@pytest.mark.parametrize("folder", sorted(Path("profiles").glob("*/profile.toml")), ids=lambda path: path.parent.name)
def test_every_profile_that_is_shipped_loads(folder):
    assert load_settings(folder.parent).profile_name == folder.parent.name


@pytest.mark.parametrize(
    ("tree", "blamed"),
    [
        ({"tiled": {"prot": 1}}, "tiled.prot"),
        ({"titled": {}}, "titled"),
        ({"recon": {"steps": 3}}, "recon.steps"),
        ({"prior": {"tv": {"wait": 1}}}, "prior.tv.wait"),
        ({"worker": {"heldout_every": 1}}, "worker.heldout_every"),
        ({"worker": {"publish_interval_s": -1}}, "worker.publish_interval_s"),
        ({"worker": {"poll_interval_s": 0}}, "worker.poll_interval_s"),
        ({"tiled": {"port": "many"}}, "tiled.port"),
        ({"prior": {"name": ["magic"]}}, "prior.name"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_by_its_path(tree, blamed):
    with pytest.raises(SettingsError, match=blamed):
        load_settings(None, tree)


def test_every_fault_is_told_at_once():
    with pytest.raises(SettingsError, match=r"tiled\.port.*; worker\.threads"):
        load_settings(None, {"tiled": {"port": "x"}, "worker": {"threads": -1}})


def test_an_unknown_variable_in_the_environment_is_refused():
    with pytest.raises(SettingsError, match=r"PFITRE_TILED__PROT.*for example PFITRE_TILED__PORT"):
        environment_tree({"PFITRE_TILED__PROT": "1"})


def test_variables_of_others_are_left_alone():
    assert environment_tree({"PATH": "/bin", "PFITREX": "1", "pfitre_tiled__port": "1"}) == {}


def test_lists_in_the_environment_are_json():
    tree = environment_tree({"PFITRE_DOCUMENTS__FLAT_STREAMS": '["white", "bright"]'})
    assert load_settings(None, tree).documents.flat_streams == ("white", "bright")
    with pytest.raises(SettingsError, match="must be a JSON list"):
        environment_tree({"PFITRE_DOCUMENTS__FLAT_STREAMS": "[white"})


@pytest.mark.parametrize(
    ("text", "said"), [("tiled = [", "cannot read the profile"), ("\x00", "cannot read"), ("tiled = 3", "tiled")]
)
def test_a_profile_that_cannot_be_read_is_named(profile, text, said):
    with pytest.raises(SettingsError, match=said):
        load_settings(profile(text))


def test_a_profile_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingsError, match="no profile at"):
        load_profile(tmp_path / "nowhere")


def test_settings_cannot_be_changed_later():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().data_dir = Path("elsewhere")


def test_every_setting_is_documented_where_it_stands():
    definitions = Settings.model_json_schema()["$defs"]
    undocumented = [
        f"{name}.{field}"
        for name, definition in definitions.items()
        for field, schema in definition.get("properties", {}).items()
        if not schema.get("description")
    ]
    assert undocumented == []


def test_every_setting_can_be_set_from_the_environment():
    paths = setting_paths()
    assert {"tiled.port", "recon.rho", "prior.tv.weight", "data_dir", "health.worker"} <= paths
    for path in paths:
        *_, name = path.split(".")
        tree = environment_tree({"PFITRE_" + path.replace(".", "__").upper(): "1"})
        while len(tree) == 1 and isinstance(next(iter(tree.values())), dict):
            tree = next(iter(tree.values()))
        assert tree == {name: "1"}


def test_settings_survive_the_way_through_toml(profile):
    folder = profile('data_dir = "/data"\n[documents]\nrotation = "zpssx"\nprojection_streams = ["primary", "fly"]\n')
    assert tomllib.loads((folder / "profile.toml").read_text())["documents"]["rotation"] == "zpssx"
    documents = load_settings(folder).documents
    assert (documents.rotation, documents.projection_streams) == ("zpssx", ("primary", "fly"))

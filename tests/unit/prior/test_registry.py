"""Weights files: saved, registered, found by name, verified, refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from pfitre_service.errors import InputError, SettingsError
from pfitre_service.prior import registry

RECIPE = {"seed": 3, "steps": 100}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def packaged(monkeypatch, tmp_path):
    """The package's folder, empty unless a test fills it, so that tests do not hang on what ships."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr(registry, "PACKAGE_FOLDER", folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "user"
    folder.mkdir()
    return folder


def small_network(architecture: str = "pfitre-s") -> nn.Module:
    assert architecture == "pfitre-s"
    torch.manual_seed(5)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 1, 3))


def put(folder: Path, name: str = "mine", **how) -> registry.WeightsInfo:
    settings = {"architecture": "pfitre-s", "recipe": RECIPE} | how
    info = registry.save(small_network().state_dict(), folder / f"{name}.safetensors", **settings)
    return registry.register(info, folder, name)


def edit_manifest(folder: Path, **changes) -> None:
    manifest = folder / "weights.json"
    document = json.loads(manifest.read_text())
    document["weights"][0] |= changes
    manifest.write_text(json.dumps(document))


def flip_a_bit(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 0b100
    file.write_bytes(data)


# Saving and loading


def test_what_is_saved_and_registered_is_loaded_by_name(folder):
    registered = put(folder, half=False)
    state, info = registry.load("mine", folder)
    assert info == registered
    assert (info.name, info.architecture, info.source) == ("mine", "pfitre-s", "user")
    assert info.bytes == info.path.stat().st_size
    expected = small_network().state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_half_precision_on_disk_comes_back_as_float32_and_takes_half_the_room(tmp_path):
    state = {"weight": torch.randn(64, 64)}
    kept = {
        half: registry.save(state, tmp_path / f"{half}.safetensors", architecture="pfitre-s", recipe={}, half=half)
        for half in (True, False)
    }
    assert kept[False].bytes - kept[True].bytes == pytest.approx(2 * 64 * 64, abs=16)
    registry.register(kept[True], tmp_path, "half")
    loaded, _ = registry.load("half", tmp_path)
    assert loaded["weight"].dtype == torch.float32
    torch.testing.assert_close(loaded["weight"], state["weight"], rtol=1e-3, atol=1e-6)


def test_the_header_says_what_the_weights_are(folder):
    with safe_open(put(folder).path, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["architecture"] == "pfitre-s"
    assert json.loads(metadata["recipe"]) == RECIPE
    assert {"license", "created", "version"} <= metadata.keys()


def test_layers_with_two_names_are_kept_once_and_come_back_as_one(folder):
    network = nn.Module()
    network.first = nn.Linear(50, 50)
    network.second = network.first
    info = registry.save(network.state_dict(), folder / "two.safetensors", architecture="pfitre-s", recipe={})
    assert info.bytes < 1.5 * 50 * 51 * 2
    registry.register(info, folder, "two")
    state, _ = registry.load("two", folder)
    assert state.keys() == network.state_dict().keys()
    assert state["second.weight"].data_ptr() == state["first.weight"].data_ptr()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_values_that_the_file_cannot_hold_are_refused_and_the_old_file_stays(folder, value):
    before = put(folder)
    with pytest.raises(InputError, match="bias"):
        registry.save({"bias": torch.tensor([value])}, before.path, architecture="pfitre-s", recipe={})
    assert registry.load("mine", folder)[1] == before
    assert sorted(path.name for path in folder.iterdir()) == ["mine.safetensors", "weights.json"]


def test_a_path_that_cannot_be_written_is_a_settings_error(tmp_path):
    with pytest.raises(SettingsError, match="folder that can be written to"):
        registry.save({}, tmp_path / "absent" / "a.safetensors", architecture="pfitre-s", recipe={})


def test_registering_again_replaces_the_entry_and_leaves_the_others(folder):
    put(folder, "first")
    put(folder, "second")
    put(folder, "first", recipe={"seed": 4})
    assert sorted(info.name for info in registry.available(folder)) == ["first", "second"]
    assert all(each.ok for each in registry.check(folder, build=small_network))


def test_a_model_card_is_kept_with_its_weights(folder):
    info = put(folder)
    card = folder / "mine.md"
    card.write_text("# mine")
    registry.register(info, folder, "mine", card=card)
    assert registry.available(folder)[0].card == card


def test_a_file_in_another_folder_cannot_be_registered(folder, tmp_path):
    info = registry.save({}, tmp_path / "astray.safetensors", architecture="pfitre-s", recipe={})
    with pytest.raises(SettingsError, match="must lie in"):
        registry.register(info, folder, "astray")


# Finding


def test_the_package_comes_first_and_its_names_cannot_be_taken(folder, packaged):
    put(folder)
    put(packaged, "pfitre-s")
    assert [(info.name, info.source) for info in registry.available(folder)] == [
        ("pfitre-s", "package"),
        ("mine", "user"),
    ]
    with pytest.raises(SettingsError, match="choose another name"):
        put(folder, "pfitre-s")


def test_a_users_weights_with_a_name_that_the_package_took_later_are_reported(folder, packaged):
    put(folder, "pfitre-s")
    put(packaged, "pfitre-s")
    assert registry.load("pfitre-s", folder)[1].source == "package"
    refused = [each for each in registry.check(folder, build=small_network) if not each.ok]
    assert [(each.source, each.name) for each in refused] == [("user", "pfitre-s")]


def test_no_folder_holds_no_weights(tmp_path):
    assert registry.available(tmp_path / "absent") == ()
    assert registry.check(tmp_path / "absent", build=small_network) == ()


def test_the_default_folder_follows_the_xdg_specification(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert registry.default_folder() == tmp_path / "pfitre" / "weights"
    put_there = registry.default_folder()
    put_there.mkdir(parents=True)
    put(put_there)
    assert [info.name for info in registry.available()] == ["mine"]
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert registry.default_folder() == Path.home() / ".local" / "share" / "pfitre" / "weights"


def test_an_unknown_name_is_refused_with_the_choices(folder):
    put(folder, "mine")
    put(folder, "yours")
    with pytest.raises(SettingsError, match=r"'theirs'.*mine, yours"):
        registry.load("theirs", folder)


def test_listing_weights_does_not_import_torch():
    code = "import sys; from pfitre_service.prior import registry; registry.available(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


# Refusing


def only_reason(folder: Path) -> str:
    (found,) = registry.check(folder, build=small_network)
    assert not found.ok
    return found.reason


@pytest.mark.parametrize("position", [3, 200, -1])
def test_a_flipped_bit_is_refused_before_the_file_is_parsed(folder, position):
    flip_a_bit(put(folder).path, position)
    with pytest.raises(InputError, match="SHA-256"):
        registry.load("mine", folder)
    assert "SHA-256" in only_reason(folder)


def test_a_truncated_file_is_refused_and_not_listed(folder):
    path = put(folder).path
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="cut short"):
        registry.load("mine", folder)
    assert registry.available(folder) == ()
    assert "cut short" in only_reason(folder)


def test_an_absent_file_is_refused(folder):
    put(folder).path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        registry.load("mine", folder)
    assert "cannot be read" in only_reason(folder)


@pytest.mark.parametrize("content", [b"", b"\x08", b"a text file, not weights", b"\xff" * 64])
def test_a_file_that_is_no_safetensors_is_refused_even_with_its_right_hash(folder, content):
    path = put(folder).path
    path.write_bytes(content)
    edit_manifest(folder, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    with pytest.raises(InputError, match="safetensors"):
        registry.load("mine", folder)


def test_an_architecture_that_is_not_known_is_refused(folder):
    put(folder, architecture="pfitre-next")
    with pytest.raises(InputError, match="newer pfitre"):
        registry.load("mine", folder)


def test_a_manifest_that_names_another_architecture_than_the_file_is_refused(folder):
    put(folder)
    edit_manifest(folder, architecture="pfitre-m")
    with pytest.raises(InputError, match=r"'pfitre-m'.*'pfitre-s'"):
        registry.load("mine", folder)


def test_check_finds_a_state_dict_that_the_architecture_does_not_take(folder):
    info = registry.save(
        {"0.weight": torch.zeros(4, 1, 5, 5)}, folder / "a.safetensors", architecture="pfitre-s", recipe={}
    )
    registry.register(info, folder, "a")
    reason = only_reason(folder)
    assert "3 missing: 0.bias, 1.weight, 1.bias" in reason
    assert "0.weight (4, 1, 5, 5) instead of (4, 1, 3, 3)" in reason


@pytest.mark.parametrize("name", ["", "..", "../mine", "Mine", "a/b", "a\n", "-a", "a" * 65, "/etc/passwd"])
def test_a_name_that_could_lead_elsewhere_is_refused(folder, name):
    info = put(folder)
    with pytest.raises(SettingsError):
        registry.register(info, folder, name)
    with pytest.raises(SettingsError):
        registry.load(name, folder)


@pytest.mark.parametrize("file", ["../outside.safetensors", "/etc/passwd", "..", "", "a/b.safetensors", None, 3])
def test_a_manifest_cannot_reach_outside_its_folder(folder, file):
    put(folder)
    edit_manifest(folder, file=file)
    assert registry.available(folder) == ()
    assert "'file'" in only_reason(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": "AB"},
        {"sha256": None},
        {"bytes": "3"},
        {"bytes": True},
        {"bytes": -1},
        {"name": "../a"},
        {"card": "../a"},
    ],
    ids=str,
)
def test_a_malformed_entry_is_reported_and_harms_no_other(folder, changes):
    put(folder, "broken")
    put(folder, "good")
    edit_manifest(folder, **changes)
    assert [info.name for info in registry.available(folder)] == ["good"]
    assert sorted(each.ok for each in registry.check(folder, build=small_network)) == [False, True]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"weights": 3}', "\xff"])
def test_a_manifest_that_cannot_be_read_is_reported_and_not_overwritten(folder, text):
    info = put(folder)
    manifest = folder / "weights.json"
    manifest.write_text(text, encoding="latin-1")
    assert registry.available(folder) == ()
    assert "weights.json" in only_reason(folder)
    with pytest.raises(InputError, match=r"weights\.json"):
        registry.register(info, folder, "mine")
    assert manifest.read_text(encoding="latin-1") == text


def test_a_name_given_twice_counts_once(folder):
    put(folder)
    manifest = folder / "weights.json"
    entries = json.loads(manifest.read_text())["weights"]
    manifest.write_text(json.dumps({"weights": entries * 2}))
    assert [each.ok for each in registry.check(folder, build=small_network)] == [True, False]

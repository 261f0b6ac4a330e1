"""Checkpoints of the published network: imported strictly, or refused with nothing run and nothing left behind."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from pfitre_service.errors import InputError, SettingsError
from pfitre_service.prior import registry
from pfitre_service.prior.zhao2025 import ALIASES, Zhao2025


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
    yield folder
    shutil.rmtree(folder)  # pytest keeps its folders for three runs, and the network is large


@pytest.fixture(scope="module")
def published():
    torch.manual_seed(11)
    return Zhao2025().state_dict()


@pytest.fixture(scope="module")
def published_file(published, tmp_path_factory):
    file = tmp_path_factory.mktemp("published") / "ckpt_100.pth"
    torch.save({"epoch": 100, "net_state_dict": published, "net_opt_state_dict": {"state": {}}}, file)
    yield file
    file.unlink()


@pytest.fixture(scope="module")
def featherweight():
    """A state dict of the published names and shapes that takes no room: every tensor is one number, expanded."""
    with torch.device("meta"):
        shapes = Zhao2025().state_dict()
    return {name: torch.tensor(0.25).expand(value.shape) for name, value in shapes.items()}


def saved(content, tmp_path) -> Path:
    file = tmp_path / "given.pth"
    torch.save(content, file)
    return file


def flip_a_bit(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 0b100
    file.write_bytes(data)


@pytest.mark.slow
def test_a_published_checkpoint_is_imported_strictly_and_comes_back(published, published_file, folder):
    folder = folder / "made" / "by the import"
    info = registry.import_checkpoint(published_file, name=None, folder=folder)
    assert (info.name, info.architecture, info.source) == ("ckpt_100", "pfitre-zhao2025", "user")
    assert info.bytes < 0.51 * published_file.stat().st_size

    state, loaded = registry.load("ckpt_100", folder)
    assert loaded == info
    network = Zhao2025()
    network.load_state_dict(state, strict=True)
    for name, value in published.items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=1e-3, atol=1e-7)
    assert [each.ok for each in registry.check(folder, build=lambda _: Zhao2025())] == [True]


def test_a_bare_state_dict_is_imported_too(featherweight, folder, tmp_path):
    registry.import_checkpoint(saved(featherweight, tmp_path), name="bare", folder=folder)
    state, _ = registry.load("bare", folder)
    assert all((value == 0.25).all() for value in state.values())


def test_values_beyond_half_precision_are_kept_as_float32(featherweight, folder, tmp_path):
    large = featherweight | {"final.bias": torch.tensor([1e6, 0.1, -3.0])}
    registry.import_checkpoint(saved(large, tmp_path), name="large", folder=folder)
    assert torch.equal(registry.load("large", folder)[0]["final.bias"], large["final.bias"])


def refused(file: Path, folder: Path, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as failure:
        registry.import_checkpoint(file, name="refused", folder=folder)
    assert str(file) in str(failure.value)
    assert "weights_only" not in str(failure.value), "the way around the safety is not advertised"
    assert list(folder.iterdir()) == [], "a refused file leaves nothing behind"


class Attack:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("place", ["beside", "inside", "alone"])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(featherweight, folder, tmp_path, place):
    trace = tmp_path / "trace"
    attack = Attack(f"touch {trace}")
    content = {
        "beside": {"net_state_dict": featherweight, "epoch": attack},
        "inside": {"net_state_dict": featherweight | {"final.bias": attack}},
        "alone": attack,
    }[place]
    file = saved(content, tmp_path)
    refused(file, folder, r"system'\. Nothing in it was run")
    assert not trace.exists()
    torch.load(file, weights_only=False)
    assert trace.exists(), "the attack would have worked"


def test_a_truncated_checkpoint_is_refused(published_file, folder, tmp_path):
    file = tmp_path / "cut.pth"
    with published_file.open("rb") as whole:
        file.write_bytes(whole.read(100_000))
    refused(file, folder, "cut short")


def test_a_flipped_bit_in_a_checkpoint_is_refused(featherweight, folder, tmp_path):
    file = saved({"net_state_dict": featherweight}, tmp_path)
    flip_a_bit(file, file.read_bytes().index(b"net_state_dict"))
    refused(file, folder, "damaged")


@pytest.mark.parametrize("content", [b"", b"a text file\n" * 100, b"\x80\x04K\x01.", bytes(4096)], ids=len)
def test_a_file_that_is_no_checkpoint_is_refused(folder, tmp_path, content):
    file = tmp_path / "given.pth"
    file.write_bytes(content)
    refused(file, folder, "something else, or was cut short")


def test_a_zip_archive_that_swells_is_refused_unopened(folder, tmp_path):
    file = tmp_path / "bomb.pth"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10_000_000))
    refused(file, folder, "compressed")


def test_a_zip_archive_of_something_else_is_refused(folder, tmp_path):
    file = tmp_path / "other.pth"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "nothing of use")
    refused(file, folder, "damaged")


def test_no_file_and_a_folder_are_refused(folder, tmp_path):
    refused(tmp_path / "absent.pth", folder, "there is no file")
    refused(tmp_path, folder, "there is no file")


@pytest.mark.parametrize(
    "content", [[1, 2], {"model": {"a": torch.zeros(1)}}, {"net_state_dict": 3}, {"net_state_dict": {"a": 3}}], ids=str
)
def test_a_checkpoint_of_another_kind_is_refused(folder, tmp_path, content):
    refused(saved(content, tmp_path), folder, "must hold {'net_state_dict'")


def test_missing_and_unexpected_names_are_told(featherweight, folder, tmp_path):
    state = {name: value for name, value in featherweight.items() if not name.startswith("pool")}
    state["module.pool1.weight"] = torch.zeros(1)
    file = saved({"net_state_dict": state}, tmp_path)
    refused(file, folder, r"4 missing: pool1\.weight, .* and 1 more; 1 unexpected: module\.pool1\.weight")


def test_a_layer_that_the_forward_pass_never_uses_must_be_there_too(featherweight, folder, tmp_path):
    state = {name: value for name, value in featherweight.items() if name != "dec5.block.1.weight"}
    refused(saved(state, tmp_path), folder, r"1 missing: dec5\.block\.1\.weight")


def test_a_wrong_shape_is_told_however_large_it_claims_to_be(featherweight, folder, tmp_path):
    state = featherweight | {"final.weight": torch.zeros(()).expand(3, 10**6, 10**6)}
    refused(saved(state, tmp_path), folder, r"final\.weight \(3, 1000000, 1000000\) instead of \(3, 32, 1, 1\)")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(featherweight, folder, tmp_path, value):
    state = featherweight | {"final.bias": torch.tensor([0.0, value, 0.0])}
    refused(saved(state, tmp_path), folder, r"final\.bias is not finite")


def test_whole_numbers_are_refused(featherweight, folder, tmp_path):
    refused(saved(featherweight | {"final.bias": torch.zeros(3, dtype=torch.int64)}, tmp_path), folder, "is int64")


def test_two_names_of_one_layer_that_differ_are_refused(featherweight, folder, tmp_path):
    alias, layer = next(iter(ALIASES.items()))
    state = featherweight | {f"{alias}.bias": torch.ones(64)}
    refused(saved(state, tmp_path), folder, rf"{alias}\.bias and {layer}\.bias are one layer and differ")


def test_a_name_of_the_packages_cannot_be_imported_over(featherweight, folder, packaged, tmp_path):
    own = registry.save({}, packaged / "own.safetensors", architecture="pfitre-zhao2025", recipe={})
    registry.register(own, packaged, "pfitre-s")
    with pytest.raises(SettingsError, match="choose another name"):
        registry.import_checkpoint(saved(featherweight, tmp_path), name="pfitre-s", folder=folder)


def test_a_file_name_that_makes_no_weights_name_asks_for_one(featherweight, folder, tmp_path):
    file = saved(featherweight, tmp_path).rename(tmp_path / "網.pth")
    with pytest.raises(SettingsError, match="give one"):
        registry.import_checkpoint(file, folder=folder)

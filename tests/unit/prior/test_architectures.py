"""Architectures by name, and networks with their weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pfitre_service.errors import InputError, SettingsError
from pfitre_service.prior import registry
from pfitre_service.prior.architectures import ARCHITECTURES, build, load_network
from pfitre_service.prior.network import DIRECTIONS, PfitreNet
from pfitre_service.prior.network_prior import NetworkPrior
from pfitre_service.prior.published_prior import PublishedPrior
from pfitre_service.prior.zhao2025 import Zhao2025


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A user's folder of weights, and none that ship with the package."""
    monkeypatch.setattr(registry, "PACKAGE_FOLDER", tmp_path / "package")
    (tmp_path / "package").mkdir()
    (tmp_path / "user").mkdir()
    return tmp_path / "user"


def put(network: torch.nn.Module, folder: Path, name: str, architecture: str, *, half: bool = False) -> None:
    info = registry.save(
        network.state_dict(), folder / f"{name}.safetensors", architecture=architecture, recipe={}, half=half
    )
    registry.register(info, folder, name)


@pytest.fixture
def trained() -> PfitreNet:
    torch.manual_seed(6)
    network = build("pfitre-s").eval().requires_grad_(False)
    network.last.weight.normal_(0, 0.1)
    return network


def test_what_weights_may_be_for_can_be_built():
    assert tuple(ARCHITECTURES) == registry.ARCHITECTURES
    with torch.device("meta"):
        kinds = [type(build(name)) for name in ARCHITECTURES]
    assert kinds == [PfitreNet, PfitreNet, Zhao2025]


def test_the_two_sizes_differ():
    with torch.device("meta"):
        small, medium = (sum(p.numel() for p in build(name).parameters()) for name in ("pfitre-s", "pfitre-m"))
    assert small < medium


@pytest.mark.parametrize("name", ["", "pfitre-xl", "PFITRE-S"])
def test_an_unknown_architecture_is_refused_with_those_that_there_are(name):
    with pytest.raises(InputError, match=r"no architecture .*pfitre-s, pfitre-m, pfitre-zhao2025"):
        build(name)


def test_a_network_comes_back_from_its_weights_as_it_was(folder, trained):
    put(trained, folder, "mine", "pfitre-s")
    loaded = load_network("mine", folder=folder)
    assert (loaded.info.name, loaded.info.architecture) == ("mine", "pfitre-s")
    expected = trained.state_dict()
    state = loaded.network.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    given = torch.rand(1, 5, 40, 33, generator=torch.Generator().manual_seed(1))
    coverage = torch.full((1, DIRECTIONS), 0.4)
    torch.testing.assert_close(loaded.network(given, coverage), trained(given, coverage), rtol=1e-4, atol=1e-5)


def test_a_loaded_network_only_answers(folder, trained):
    put(trained, folder, "mine", "pfitre-s")
    network = load_network("mine", folder=folder).network
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_half_precision_on_disk_answers_nearly_the_same(folder, trained):
    put(trained, folder, "mine", "pfitre-s", half=True)
    network = load_network("mine", folder=folder).network
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    given = torch.rand(1, 5, 32, 32, generator=torch.Generator().manual_seed(1))
    coverage = torch.full((1, DIRECTIONS), 0.4)
    exact = trained(given, coverage)
    assert float((network(given, coverage) - exact).std() / (exact - given[:, 1]).std()) < 0.01


def test_tomograms_share_the_network_but_not_what_they_observed(folder, trained):
    put(trained, folder, "mine", "pfitre-s")
    loaded = load_network("mine", folder=folder)
    first, second = loaded.prior(), loaded.prior()
    assert isinstance(first, NetworkPrior)
    assert first.name == "mine"
    assert first.network is second.network
    first.observe(torch.ones(1, 32, 32), torch.ones(1, 32, 32), torch.ones(DIRECTIONS))
    assert second.physics is None
    assert second.coverage is None


@pytest.mark.slow
def test_weights_of_the_published_network_become_its_own_kind_of_prior(folder):
    put(Zhao2025(), folder, "published", "pfitre-zhao2025", half=True)
    prior = load_network("published", folder=folder).prior()
    assert isinstance(prior, PublishedPrior)
    assert isinstance(prior.network, Zhao2025)


def test_a_name_that_nothing_has_is_refused(folder):
    with pytest.raises(SettingsError, match="there are no weights 'mine'"):
        load_network("mine", folder=folder)

"""The network: any size, nothing changed before it is trained, its arithmetic, and what it is told."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pfitre_service.prior import registry
from pfitre_service.prior.network import (
    CHANNELS,
    DIRECTIONS,
    MEDIUM,
    SMALL,
    NetworkShape,
    PfitreNet,
    coverage_features,
)
from pfitre_service.prior.zhao2025 import Zhao2025

TINY = NetworkShape(
    channels=(4, 4, 6, 6, 8),
    growth=(2, 2, 2, 2, 4),
    dilations=((1,), (1, 2), (1, 2), (1, 2), (1, 2, 4)),
    blocks_down=(1, 1, 2, 1, 2),
    blocks_up=(1, 1, 1, 1),
)
SHAPES = {"tiny": TINY, "small": SMALL, "medium": MEDIUM}
SIZES = [(64, 64), (63, 63), (65, 65), (1, 1), (31, 33), (40, 71), (96, 32)]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def trained(shape: NetworkShape, seed: int = 1) -> PfitreNet:
    """A network in which nothing is zero, as if trained."""
    torch.manual_seed(seed)
    network = PfitreNet(shape)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1)
    return network.eval().requires_grad_(False)


def pictures(batch: int, height: int, width: int, seed: int = 2) -> torch.Tensor:
    return torch.rand(batch, CHANNELS, height, width, generator=torch.Generator().manual_seed(seed))


def wedge(first: int, last: int) -> torch.Tensor:
    coverage = torch.zeros(1, DIRECTIONS)
    coverage[0, first:last] = 0.8
    return coverage


def multiplications(network: nn.Module, *inputs: torch.Tensor) -> int:
    """Multiply-accumulates of every convolution and linear layer in one forward pass of shapes alone."""
    counted = 0

    def count(layer: nn.Module, given: tuple[torch.Tensor, ...], answer: torch.Tensor) -> None:
        nonlocal counted
        at = given[0] if isinstance(layer, nn.ConvTranspose2d) else answer
        channels = layer.weight.shape[0]
        counted += at.numel() // channels * layer.weight.numel()

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layer.register_forward_hook(count)
    network(*inputs)
    return counted


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_an_untrained_network_returns_the_slice_with_a_share_of_total_variations_answer(shape):
    torch.manual_seed(0)
    network = PfitreNet(shape).eval().requires_grad_(False)
    given = pictures(2, 37, 50)
    answer = network(given, wedge(3, 20).expand(2, -1))
    share = 1 / (1 + math.e)
    torch.testing.assert_close(answer, (1 - share) * given[:, 1] + share * given[:, 4])


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_slices_of_any_size_come_back_as_large_as_they_were(size, device):
    network = trained(TINY).to(device)
    given = pictures(2, *size).to(device)
    answer = network(given, wedge(3, 20).expand(2, -1).to(device))
    assert answer.shape == (2, *size)
    assert bool(torch.isfinite(answer).all())
    assert not torch.equal(answer, given[:, 1])


def test_one_pixel_more_at_the_edge_changes_the_middle_hardly():
    """Odd sizes are padded at the right and the bottom: far from there the answer must be that of the even size."""
    network = trained(SMALL)
    given = pictures(1, 128, 128)
    given[..., 96:] = 0
    told = wedge(0, 25)
    even, odd = network(given, told), network(given[..., :127], told)
    inside = (..., slice(32, 96), slice(0, 64))
    change = (even - given[:, 1])[inside].abs().mean()
    assert float((even[..., :127] - odd)[inside].abs().mean() / change) < 0.05


@pytest.mark.parametrize("shape", [TINY, SMALL], ids=["tiny", "small"])
def test_a_slices_answer_does_not_depend_on_its_batch(shape):
    network = trained(shape)
    given = pictures(3, 40, 33)
    told = torch.cat((wedge(0, 20), wedge(10, 36), wedge(0, 0)))
    together = network(given, told)
    for index in range(3):
        alone = network(given[index : index + 1], told[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [TINY, SMALL], ids=["tiny", "small"])
def test_the_answer_depends_on_which_angles_were_measured(shape):
    network = trained(shape)
    given = pictures(1, 40, 40)
    here, there = network(given, wedge(0, 18)), network(given, wedge(18, 36))
    assert float((here - there).std()) > 0.01 * float((here - given[:, 1]).std())


def test_a_network_that_was_told_nothing_in_training_is_deaf_to_coverage():
    network = trained(TINY)
    for name, parameter in network.named_parameters():
        if ".modulation." in name:
            parameter.zero_()
    given = pictures(1, 40, 40)
    assert torch.equal(network(given, wedge(0, 18)), network(given, wedge(18, 36)))


@pytest.mark.parametrize("channel", range(CHANNELS), ids=["below", "here", "above", "physics", "smooth"])
def test_the_correction_depends_on_every_picture(channel):
    network = trained(TINY)
    torch.manual_seed(0)
    untrained = PfitreNet(TINY).eval().requires_grad_(False)
    given = pictures(1, 40, 40)
    other = given.clone()
    other[:, channel] += 0.5 * pictures(1, 40, 40, seed=9)[:, 0]
    told = wedge(0, 18)
    correction, other_correction = (network(each, told) - untrained(each, told) for each in (given, other))
    assert float((correction - other_correction).std()) > 0.01 * float(correction.std())


@pytest.mark.parametrize(("gate", "channel"), [(60.0, 4), (-60.0, 1)], ids=["open", "closed"])
def test_the_gate_chooses_what_the_correction_is_added_to(gate, channel):
    network = trained(TINY)
    network.last.weight.zero_()
    # Four pixels come out at once: their corrections, then their gates.
    network.last.bias.copy_(torch.tensor([0.25] * 4 + [gate] * 4))
    given = pictures(2, 33, 40)
    answer = network(given, wedge(3, 20).expand(2, -1))
    torch.testing.assert_close(answer, given[:, channel] + 0.25)


def test_every_parameter_learns_once_the_last_layer_is_not_zero():
    network = trained(TINY).requires_grad_(True)
    network(pictures(1, 64, 64), wedge(0, 18)).square().mean().backward()
    # Those of what is cropped or unused would not.
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize(("shape", "per_pixel"), [(SMALL, 50e3), (MEDIUM, 181e3)], ids=["small", "medium"])
def test_costs_at_most_a_tenth_of_the_published_networks_arithmetic(shape, per_pixel):
    with torch.device("meta"):
        ours = multiplications(PfitreNet(shape), torch.empty(1, CHANNELS, 320, 320), torch.empty(1, DIRECTIONS))
        published = multiplications(Zhao2025(), torch.empty(1, 3, 320, 320))
    assert published == pytest.approx(292e9, rel=0.02)
    assert ours <= published / 10
    assert ours / 320**2 == pytest.approx(per_pixel, rel=0.02)


@pytest.mark.parametrize(("name", "shape"), [("pfitre-s", SMALL), ("pfitre-m", MEDIUM)])
def test_its_weights_file_is_smaller_than_sixteen_mebibytes(name, shape, tmp_path):
    info = registry.save(trained(shape).state_dict(), tmp_path / f"{name}.safetensors", architecture=name, recipe={})
    assert info.bytes < 16 * 2**20


def test_coverage_says_whether_and_how_densely_a_direction_was_measured():
    coverage = torch.tensor([[0.0, 0.05, 1.0, 4.0]])
    features = coverage_features(coverage)
    assert features.shape == (1, 8)
    assert features[0].tolist() == pytest.approx([0.0, 0.5, 1 / 1.05, 4 / 4.05, 0.0, 0.05, 1.0, 1.0])

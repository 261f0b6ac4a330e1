"""The published network: names, shapes, arithmetic, and what its authors do around it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from pfitre_service.prior.zhao2025 import (
    ALIASES,
    DilatedDenseBlock,
    ResidualDenseBlock,
    Zhao2025,
    destandardise,
    standardise,
)

VGG11 = {0: (3, 64), 3: (64, 128), 6: (128, 256), 8: (256, 256)}
VGG11 |= {11: (256, 512), 13: (512, 512), 16: (512, 512), 18: (512, 512)}
DECODERS = {"center": (512, 512, 256), "dec5": (768, 512, 256), "dec4": (1024, 512, 128)}
DECODERS |= {"dec3": (512, 256, 64), "dec2": (192, 128, 32)}


def slice_statistics(slices):
    """Mean and standard deviation of each slice as published: of the slice repeated in three channels with Bessel's
    correction, that is of N pixels with N - 1/3 in the denominator. A constant slice has the deviation 1."""
    spread, mean = torch.std_mean(slices, dim=(-2, -1), correction=1 / 3, keepdim=True)
    return mean, torch.where(spread > 0, spread, torch.ones_like(spread))


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return Zhao2025().eval().requires_grad_(False)


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Every name in a published checkpoint, with its shape."""
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(name, given, channels, size):
        shapes[f"{name}.weight"] = (channels, given, size, size)
        shapes[f"{name}.bias"] = (channels,)

    convolution("pool1", 64, 64, 2)
    convolution("pool2", 128, 128, 2)
    for index, (given, channels) in VGG11.items():
        convolution(f"encoder.{index}", given, channels, 3)
    for alias, index in zip(
        ("conv1", "conv2", "conv3s", "conv3", "conv4s", "conv4", "conv5s", "conv5"), VGG11, strict=True
    ):
        convolution(alias, *VGG11[index], 3)
    for block, count in (("ResBlock", 6), ("ResidualDenseBlock", 5)):
        for index in range(count):
            convolution(f"{block}.conv{index + 1}", 256 * (index + 1), 256, 3)
    for name, (given, middle, channels) in DECODERS.items():
        convolution(f"{name}.block.0.conv", given, middle, 3)
        shapes[f"{name}.block.1.weight"] = (middle, channels, 2, 2)
    convolution("dec1.conv", 96, 32, 3)
    convolution("final", 32, 3, 1)
    return shapes


def by_hand(state, pictures):
    """The published forward pass, written from the parameters' names alone."""

    def convolved(name, x, **how):
        return functional.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), **how)

    def dilated(x):
        outputs = [x]
        for index, dilation in enumerate((2, 4, 8, 4, 2, 1), start=1):
            seen = torch.cat(outputs, dim=1)
            outputs.insert(
                0, functional.gelu(convolved(f"ResBlock.conv{index}", seen, padding="same", dilation=dilation))
            )
        return x + outputs[0]

    def dense(x):
        outputs = [x]
        for index in range(1, 5):
            name = f"ResidualDenseBlock.conv{index}"
            outputs.insert(0, functional.gelu(convolved(name, torch.cat(outputs, dim=1), padding="same")))
        return x + 0.2 * convolved("ResidualDenseBlock.conv5", torch.cat(outputs, dim=1), padding="same")

    def decoded(name, x):
        middle = functional.gelu(convolved(f"{name}.block.0.conv", x, padding="same"))
        return functional.gelu(functional.conv_transpose2d(middle, state[f"{name}.block.1.weight"], stride=2))

    first = functional.gelu(convolved("conv1", pictures, padding="same"))
    second = functional.gelu(convolved("conv2", convolved("pool1", first, stride=2), padding="same"))
    third = functional.gelu(convolved("conv3s", convolved("pool2", second, stride=2), padding="same"))
    blocks = dense(dilated(dense(dilated(third))))
    third = decoded("dec3", torch.cat((blocks, third), dim=1))
    second = decoded("dec2", torch.cat((third, second), dim=1))
    first = functional.gelu(convolved("dec1.conv", torch.cat((second, first), dim=1), padding="same"))
    return convolved("final", first).mean(dim=1, keepdim=True)


def test_has_the_published_names_and_shapes(network):
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == published_shapes()


def test_a_published_state_dict_loads_strictly_and_second_names_are_the_same_layer(network):
    fresh = Zhao2025()
    fresh.load_state_dict(network.state_dict(), strict=True)
    state = fresh.state_dict()
    assert all(
        state[f"{alias}.weight"].data_ptr() == state[f"{layer}.weight"].data_ptr() for alias, layer in ALIASES.items()
    )
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_gives_the_numbers_of_the_published_forward_pass(network):
    pictures = torch.randn(2, 3, 24, 40, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(network(pictures), by_hand(network.state_dict(), pictures), rtol=1e-4, atol=1e-6)


def test_every_tensor_of_the_used_layers_matters_and_no_other_does():
    network = Zhao2025()
    network(torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))).square().sum().backward()
    unused = {name.split(".")[0] for name, value in network.named_parameters() if value.grad is None}
    reached = {name for name, value in network.named_parameters() if value.grad is not None and value.grad.any()}
    assert unused == {"encoder", "center", "dec5", "dec4"}
    assert {name for name in reached if name.startswith("encoder")} == {
        f"encoder.{index}.{parameter}" for index in (0, 3, 6) for parameter in ("weight", "bias")
    }


@pytest.mark.parametrize(("height", "width"), [(64, 64), (61, 33), (5, 66), (1, 3)])
def test_takes_any_size_and_answers_in_the_same_size(network, height, width):
    pictures = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(4))
    answer = network(pictures)
    assert answer.shape == (1, 1, height, width)
    assert answer.isfinite().all()


def test_an_odd_slice_is_the_slice_continued_by_its_edge(network):
    pictures = torch.randn(1, 3, 22, 29, generator=torch.Generator().manual_seed(5))
    continued = torch.cat((pictures, *[pictures[..., -1:]] * 3), dim=3)
    continued = torch.cat((continued, *[continued[..., -1:, :]] * 2), dim=2)
    torch.testing.assert_close(network(pictures), network(continued)[..., :22, :29])


def test_arithmetic_for_one_slice_is_the_published_figure():
    """293.5 GMAC for 320 x 320 (the strided convolutions that pool included) and 23.2 M parameters used, of 44.0 M."""
    operations = 0
    used = set()

    def count(layer, given, answer):
        nonlocal operations
        used.update(layer.parameters())
        pixels, channels = (given[0], layer.out_channels) if layer.transposed else (answer, layer.in_channels)
        operations += pixels.numel() * channels * layer.kernel_size[0] * layer.kernel_size[1]

    with torch.device("meta"):
        network = Zhao2025()
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.register_forward_hook(count)
        network(torch.empty(1, 3, 320, 320))
    assert operations == pytest.approx(293.5e9, rel=1e-3)
    assert sum(value.numel() for value in used) == pytest.approx(23.2e6, rel=1e-3)
    assert sum(value.numel() for value in network.parameters()) == pytest.approx(43.98e6, rel=1e-3)


def test_blocks_with_no_weights_pass_their_input_on():
    x = torch.randn(1, 256, 4, 4, generator=torch.Generator().manual_seed(6))
    for block in (DilatedDenseBlock(), ResidualDenseBlock()):
        for value in block.parameters():
            nn.init.zeros_(value)
        torch.testing.assert_close(block(x), x)


def test_standardising_is_the_published_two_steps():
    """Scaled to 0..1 by the slice's extremes, then by mean and deviation of the slice in three channels."""
    slices = 40 + 7 * torch.randn(3, 12, 18, generator=torch.Generator().manual_seed(7))
    inputs = standardise(slices, *slice_statistics(slices))
    for slice_, given in zip(slices, inputs, strict=True):
        scaled = ((slice_ - slice_.min()) / (slice_.max() - slice_.min())).expand(3, -1, -1)
        torch.testing.assert_close(given, (scaled - scaled.mean()) / scaled.std(), rtol=1e-4, atol=1e-4)


def test_destandardising_undoes_standardising():
    slices = 1000 * torch.rand(2, 9, 11, generator=torch.Generator().manual_seed(8))
    mean, spread = slice_statistics(slices)
    undone = destandardise(standardise(slices, mean, spread)[:, :1], mean, spread)
    torch.testing.assert_close(undone, slices, rtol=0, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, 5.0])
def test_a_constant_slice_stays_finite(network, value):
    slices = torch.full((1, 16, 16), value)
    statistics = slice_statistics(slices)
    assert destandardise(network(standardise(slices, *statistics)), *statistics).isfinite().all()

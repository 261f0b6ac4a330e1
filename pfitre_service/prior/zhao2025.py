"""The published network, so that its authors' checkpoints give their numbers here (architecture `pfitre-zhao2025`).

Zhao, Ge, Yang, Chu, Yan, npj Comput. Mater. 11, 240 (2025). An encoder-decoder with skip connections that works at
1/4 resolution with two residual dense blocks, used twice each; the encoder's convolutions are those of VGG11
(Simonyan & Zisserman 2014) in a TernausNet (Iglovikov & Shvets 2018). Names and shapes of the parameters are the
checkpoint's. Its file also holds layers that its forward pass never uses (the deeper two thirds of VGG11, `center`,
`dec5`, `dec4`) and second names for the encoder's convolutions; they are kept, so that a checkpoint loads strictly.

Around the network its authors scale one slice to 0..1 by its own extremes, standardise it by its own mean and standard
deviation (not by ImageNet's), repeat it in three channels, average the three that come back, and undo both steps. The
scaling to 0..1 cancels out: `standardise` and `destandardise` are all that is left of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

ARCHITECTURE = "pfitre-zhao2025"

_CONVOLUTIONS = {
    "conv1": 0,
    "conv2": 3,
    "conv3s": 6,
    "conv3": 8,
    "conv4s": 11,
    "conv4": 13,
    "conv5s": 16,
    "conv5": 18,
}
ALIASES = {name: f"encoder.{index}" for name, index in _CONVOLUTIONS.items()}
"""Second names under which the encoder's convolutions stand in a checkpoint."""

_VGG11 = ((64,), (128,), (256, 256), (512, 512), (512, 512))
_REDUCTION = 4


class Zhao2025(nn.Module):
    """The network of the publication.

    Sizes that do not divide by 4 are padded at the right and the bottom with the picture's edge, and cropped again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pool1 = _halve(64)
        self.pool2 = _halve(128)
        self.encoder = _vgg11_features()
        for name, index in _CONVOLUTIONS.items():
            self.add_module(name, self.encoder[index])
        self.ResBlock = DilatedDenseBlock()
        self.ResidualDenseBlock = ResidualDenseBlock()
        self.center = DecoderBlock(512, 512, 256)
        self.dec5 = DecoderBlock(512 + 256, 512, 256)
        self.dec4 = DecoderBlock(512 + 512, 512, 128)
        self.dec3 = DecoderBlock(256 + 256, 256, 64)
        self.dec2 = DecoderBlock(64 + 128, 128, 32)
        self.dec1 = ConvRelu(32 + 64, 32)
        self.final = nn.Conv2d(32, 3, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """The slices without artefacts.

        Parameters
        ----------
        pictures
            (batch, 3, height, width) float32, a standardised slice three times.

        Returns
        -------
        Tensor
            (batch, 1, height, width) float32, standardised.
        """
        height, width = pictures.shape[-2:]
        margin = (0, -width % _REDUCTION, 0, -height % _REDUCTION)
        padded = functional.pad(pictures, margin, mode="replicate") if any(margin) else pictures
        full = functional.gelu(self.encoder[0](padded))
        half = functional.gelu(self.encoder[3](self.pool1(full)))
        quarter = functional.gelu(self.encoder[6](self.pool2(half)))
        features = quarter
        for _ in range(2):
            features = self.ResidualDenseBlock(self.ResBlock(features))
        features = self.dec3(torch.cat((features, quarter), dim=1))
        features = self.dec2(torch.cat((features, half), dim=1))
        features = self.dec1(torch.cat((features, full), dim=1))
        return self.final(features).mean(dim=1, keepdim=True)[..., :height, :width]


class DilatedDenseBlock(nn.Module):
    """x + D(x), D six dilated convolutions of 256 channels: each sees what came before, newest first, x last."""

    dilations = (2, 4, 8, 4, 2, 1)

    def __init__(self) -> None:
        super().__init__()
        for index, dilation in enumerate(self.dilations):
            self.add_module(f"conv{index + 1}", _dense(index, dilation))

    def forward(self, x: Tensor) -> Tensor:
        """x + D(x).

        Parameters
        ----------
        x
            (batch, 256, height, width).

        Returns
        -------
        Tensor
            (batch, 256, height, width).
        """
        seen = x
        for convolution in self.children():
            newest = functional.gelu(convolution(seen))
            seen = torch.cat((newest, seen), dim=1)
        return x + newest


class ResidualDenseBlock(nn.Module):
    """x + 0.2 D(x), D five convolutions of 256 channels, dense in the same way, the last one without GELU."""

    beta = 0.2

    def __init__(self) -> None:
        super().__init__()
        for index in range(5):
            self.add_module(f"conv{index + 1}", _dense(index, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x + 0.2 D(x).

        Parameters
        ----------
        x
            (batch, 256, height, width).

        Returns
        -------
        Tensor
            (batch, 256, height, width).
        """
        *inner, last = self.children()
        seen = x
        for convolution in inner:
            seen = torch.cat((functional.gelu(convolution(seen)), seen), dim=1)
        return x + self.beta * last(seen)


class ConvRelu(nn.Module):
    """A 3x3 convolution, then (whatever the published name says) a GELU.

    Parameters
    ----------
    given
        Channels that go in.
    channels
        Channels that come out.
    """

    def __init__(self, given: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(given, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """GELU of the convolution.

        Parameters
        ----------
        x
            (batch, given, height, width).

        Returns
        -------
        Tensor
            (batch, channels, height, width).
        """
        return functional.gelu(self.conv(x))


class DecoderBlock(nn.Module):
    """Twice the resolution, by a transposed convolution.

    Parameters
    ----------
    given
        Channels that go in.
    middle
        Channels in between.
    channels
        Channels that come out.
    """

    def __init__(self, given: int, middle: int, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            ConvRelu(given, middle), nn.ConvTranspose2d(middle, channels, 2, stride=2, bias=False), nn.GELU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Twice the resolution.

        Parameters
        ----------
        x
            (batch, given, height, width).

        Returns
        -------
        Tensor
            (batch, channels, 2 height, 2 width).
        """
        return self.block(x)


def standardise(slices: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """The network's input.

    Parameters
    ----------
    slices
        (batch, height, width) float32.
    mean, spread
        (batch, 1, 1) or (1, 1, 1), what is taken away and what is divided by.

    Returns
    -------
    Tensor
        (batch, 3, height, width) float32.
    """
    return ((slices - mean) / spread)[:, None].expand(-1, 3, -1, -1)


def destandardise(answer: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """The network's output in the slices' own unit.

    Parameters
    ----------
    answer
        (batch, 1, height, width) float32.
    mean, spread
        As `standardise` was given them.

    Returns
    -------
    Tensor
        (batch, height, width) float32.
    """
    return answer[:, 0] * spread + mean


def _vgg11_features() -> nn.Sequential:
    layers: list[nn.Module] = []
    given = 3
    for stage in _VGG11:
        for channels in stage:
            layers += [nn.Conv2d(given, channels, 3, padding=1), nn.ReLU()]
            given = channels
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def _halve(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 2, stride=2)


def _dense(index: int, dilation: int) -> nn.Conv2d:
    """Convolution `index` of a dense block: its input is the block's own and what `index` others have added."""
    return nn.Conv2d(256 * (index + 1), 256, 3, padding=dilation, dilation=dilation)

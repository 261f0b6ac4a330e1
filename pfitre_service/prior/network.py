"""The network that fills in the missing wedge: a pyramid of residual dense blocks, told which angles were measured.

A wedge artefact is as long as the object that makes it, so the pyramid goes down to 1/32 of the slice, where a few
dilated convolutions see all of it. Fine detail is the data's matter, so the arithmetic begins at half resolution
(four pixels become four channels): that quarters the cost. Neighbouring slices are channels (2.5-D); so is the
reconstruction by the data alone, which shows the network what of its input was measured and what it has made up itself
in an earlier iteration. The measured angles, as `DIRECTIONS` densities, set a gain and an offset for each channel of
each block (FiLM, Perez et al. 2018). Residual dense blocks: Zhang et al. 2018, with dilation as in Zhao et al. 2025.

There is no normalisation layer: the caller divides by the tomogram's scale, and the network's answer is a
correction to pictures that the solver has made.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

DIRECTIONS = 36
"""Coverage is given in bins of 5 degrees."""
CHANNELS = 5
_GATE_CLOSED = 1.0
"""An untrained network begins from the slice rather than from total variation's answer: 27 % of it come in."""
_REDUCTION = 32
"""The coarsest level's pixels are this many pixels wide."""
_EMBEDDING = 128


@dataclass(frozen=True)
class NetworkShape:
    """Width and depth of the pyramid: one entry a level, from 1/2 down to 1/32 of the slice's resolution."""

    channels: tuple[int, ...]
    """Width of each level."""
    growth: tuple[int, ...]
    """Channels that each convolution of a dense block adds."""
    dilations: tuple[tuple[int, ...], ...]
    """Dilations of the convolutions of each level's blocks."""
    blocks_down: tuple[int, ...]
    """Blocks on the way down; those of the last level are the bottom."""
    blocks_up: tuple[int, ...]
    """Blocks on the way up, without the last level."""


SMALL = NetworkShape(
    channels=(32, 64, 96, 128, 128),
    growth=(16, 32, 48, 64, 64),
    dilations=((1, 1, 1), (1, 2, 1, 1), (1, 2, 4, 1), (1, 2, 4, 1), (1, 2, 4, 1)),
    blocks_down=(1, 1, 1, 1, 2),
    blocks_up=(1, 1, 1, 1),
)
MEDIUM = NetworkShape(
    channels=(48, 96, 128, 128, 128),
    growth=(32, 48, 64, 64, 64),
    dilations=((1, 1, 1, 1), (1, 2, 4, 1), (1, 2, 4, 1), (1, 2, 4, 1), (1, 2, 4, 1)),
    blocks_down=(1, 2, 2, 1, 2),
    blocks_up=(1, 2, 1, 1),
)


class PfitreNet(nn.Module):
    """The network: pictures of a slice in, the slice as it likely is out.

    Channels: the slices below, here and above; the data alone; total variation's answer. The network decides pixel by
    pixel how far to begin from the slice and how far from total variation's answer, and adds a correction.

    Parameters
    ----------
    shape
        Width and depth, such as `SMALL`.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.coverage = nn.Sequential(
            nn.Linear(2 * DIRECTIONS, _EMBEDDING), nn.SiLU(), nn.Linear(_EMBEDDING, _EMBEDDING), nn.SiLU()
        )
        widths = shape.channels
        self.first = nn.Conv2d(4 * CHANNELS, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_level(shape, level, count) for level, count in enumerate(shape.blocks_down))
        self.coarser = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.finer = nn.ModuleList(nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in pairwise(widths))
        self.join = nn.ModuleList(nn.Conv2d(2 * fine, fine, 1) for fine in widths[:-1])
        self.up = nn.ModuleList(_level(shape, level, count) for level, count in enumerate(shape.blocks_up))
        self.last = nn.Conv2d(widths[0], 4 * 2, 3, padding=1)
        _silence(self.last)

    def forward(self, pictures: Tensor, coverage: Tensor) -> Tensor:
        """The slices as they likely are.

        Parameters
        ----------
        pictures
            (batch, CHANNELS, height, width) float32, over the tomogram's scale.
        coverage
            (batch, DIRECTIONS) densities of the measured angles, as `directional_coverage` gives them.

        Returns
        -------
        Tensor
            (batch, height, width) float32, over the same scale.
        """
        height, width = pictures.shape[-2:]
        padded = functional.pad(pictures, (0, -width % _REDUCTION, 0, -height % _REDUCTION))
        told = self.coverage(coverage_features(coverage))
        features = self.first(functional.pixel_unshuffle(padded, 2))
        kept = []
        for level, blocks in enumerate(self.down):
            features = blocks(features, told)
            if level < len(self.coarser):
                kept.append(features)
                features = self.coarser[level](features)
        for level in reversed(range(len(self.up))):
            features = functional.pixel_shuffle(self.finer[level](features), 2)
            features = self.join[level](torch.cat((features, kept[level]), dim=1))
            features = self.up[level](features, told)
        correction, gate = functional.pixel_shuffle(self.last(features), 2)[:, :, :height, :width].unbind(1)
        share = torch.sigmoid(gate.float() - _GATE_CLOSED)
        return torch.lerp(pictures[:, 1], pictures[:, 4], share) + correction


class Level(nn.ModuleList):
    """The blocks of one level, one after the other."""

    def forward(self, features: Tensor, told: Tensor) -> Tensor:
        """All blocks, one after the other.

        Parameters
        ----------
        features
            (batch, channels, height, width) at the level's resolution.
        told
            (batch, embedding), what is made of the coverage.

        Returns
        -------
        Tensor
            (batch, channels, height, width).
        """
        for block in self:
            features = block(features, told)
        return features


class DenseBlock(nn.Module):
    """Residual dense block (Zhang et al. 2018), modulated (FiLM, Perez et al. 2018): each convolution sees all that
    came before it, newest first.

    Parameters
    ----------
    channels
        That go in and come out.
    growth
        Channels that each convolution adds.
    dilations
        Of the convolutions, in order.
    """

    def __init__(self, channels: int, growth: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels + index * growth, growth, 3, padding=dilation, dilation=dilation)
            for index, dilation in enumerate(dilations)
        )
        self.fuse = nn.Conv2d(channels + len(dilations) * growth, channels, 1)
        self.modulation = nn.Linear(_EMBEDDING, 2 * channels)
        _silence(self.modulation)
        with torch.no_grad():
            self.fuse.weight.mul_(0.3)

    def forward(self, features: Tensor, told: Tensor) -> Tensor:
        """The features plus what the block adds.

        Parameters
        ----------
        features
            (batch, channels, height, width).
        told
            (batch, embedding), what is made of the coverage.

        Returns
        -------
        Tensor
            (batch, channels, height, width).
        """
        gain, offset = self.modulation(told)[:, :, None, None].chunk(2, dim=1)
        seen = features * (1 + gain) + offset
        for convolution in self.convolutions:
            seen = torch.cat((functional.leaky_relu(convolution(seen), 0.1), seen), dim=1)
        return features + self.fuse(seen)


def coverage_features(coverage: Tensor) -> Tensor:
    """What the network is told of the measured angles: whether anything was measured in a direction, and how densely.

    Parameters
    ----------
    coverage
        (batch, DIRECTIONS) densities, 1 where the directions are sampled as finely as the pixels ask for.

    Returns
    -------
    Tensor
        (batch, 2 DIRECTIONS) between 0 and 1.
    """
    return torch.cat((coverage / (coverage + 0.05), coverage.clamp(max=1.0)), dim=1)


def _level(shape: NetworkShape, level: int, count: int) -> Level:
    return Level(DenseBlock(shape.channels[level], shape.growth[level], shape.dilations[level]) for _ in range(count))


def _silence(layer: nn.Module) -> None:
    """Makes `layer` answer zero until it is trained."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)

"""A trained network as the prior of one tomogram: scaled, turned, in slabs and tiles that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pfitre_service.prior.network import DIRECTIONS
from pfitre_service.prior.orientation import View, describe, neighbours

_REACH = 6.0
"""Values are cut here, in units of the scale, before the network sees them: a hot voxel stays a hot voxel."""


class NetworkPrior:
    """What the network makes of a volume, told which angles were measured.

    Parameters
    ----------
    network
        (batch, 5, y, x) and (batch, directions) -> (batch, y, x), as `PfitreNet`, over the tomogram's scale.
    name
        Of its weights.
    reduced_precision
        Whether it may compute in bfloat16 where the hardware does.
    pixels_at_once
        Of one call of the network, whose activations take about two kilobytes each; one slice at least.
    tile
        Width in pixels; wider slices go through the network in tiles of this width at most.
    overlap
        Pixels that neighbouring tiles share; the answer goes over from one to the other across them.
    """

    directions = DIRECTIONS

    def __init__(
        self,
        network: nn.Module,
        name: str,
        *,
        reduced_precision: bool = True,
        pixels_at_once: int = 2**19,
        tile: int = 1536,
        overlap: int = 192,
    ) -> None:
        self.network = network.eval()
        self.reduced_precision = reduced_precision
        self.pixels_at_once = pixels_at_once
        self.tile, self.overlap = tile, overlap
        self.name = name
        self.physics: Tensor | None = None
        self.smooth: Tensor | None = None
        self.coverage: Tensor | None = None

    def observe(self, physics: Tensor, smooth: Tensor, coverage: Tensor) -> None:
        """What the network is shown besides the slices, from now on.

        Parameters
        ----------
        physics
            (slices, size, size) float32, what the data alone give.
        smooth
            (slices, size, size) float32, total variation's answer.
        coverage
            (directions,) densities of the measured angles.
        """
        self.physics, self.smooth, self.coverage = physics, smooth, coverage

    def __call__(self, v: Tensor, scale: float) -> Tensor:
        """The slices as they likely are; before `observe`, the slices without what is negative.

        Parameters
        ----------
        v
            (slices, size, size) float32.
        scale
            The tomogram's scale of values, in the unit of v.

        Returns
        -------
        Tensor
            (slices, size, size) float32, not negative.
        """
        physics, smooth = self.physics, self.smooth
        if physics is None or smooth is None or self.coverage is None or scale <= 0.0:
            return v.clamp_min(0.0)
        view, coverage = describe(self.coverage)
        result = torch.empty_like(v)
        slab = max(1, self.pixels_at_once // (v.shape[-1] * v.shape[-2]))
        with torch.inference_mode():
            for first in range(0, len(v), slab):
                last = min(first + slab, len(v))
                around = v[max(first - 1, 0) : last + 1]
                slices = neighbours(around)[first - max(first - 1, 0) :][: last - first]
                pictures = torch.cat((slices, physics[first:last, None], smooth[first:last, None]), dim=1)
                result[first:last] = self._answer(pictures.div_(scale).clamp_(-_REACH, _REACH), view, coverage)
        return result.clamp_min_(0.0).mul_(scale)

    def _reduced(self, device: torch.device) -> bool:
        """Half the time where the hardware can do it, and 0.01 of the scale at most from float32: the data step after
        it has the last word."""
        return self.reduced_precision and computes_in_bfloat16(device)

    def _answer(self, pictures: Tensor, view: View, coverage: Tensor) -> Tensor:
        """(batch, 5, y, x) -> (batch, y, x); tile by tile where the slices are wide."""
        told = coverage.expand(len(pictures), -1)
        turned = view.of(pictures)
        height, width = turned.shape[-2:]
        total, weight = turned.new_zeros(len(turned), height, width), turned.new_zeros(height, width)
        for top, ramp_y in self._tiles(height, turned.device):
            for left, ramp_x in self._tiles(width, turned.device):
                inside = (slice(top, top + len(ramp_y)), slice(left, left + len(ramp_x)))
                tile = turned[(..., *inside)].contiguous(memory_format=torch.channels_last)
                ramp = ramp_y[:, None] * ramp_x
                with torch.autocast(tile.device.type, dtype=torch.bfloat16, enabled=self._reduced(tile.device)):
                    answer = self.network(tile, told)
                total[(..., *inside)] += answer.float() * ramp
                weight[inside] += ramp
        return view.back(total / weight)

    def _tiles(self, length: int, device: torch.device) -> Iterator[tuple[int, Tensor]]:
        """Where each tile begins along one axis, and the weight of its pixels, rising and falling over the overlap."""
        if length <= self.tile:
            yield 0, torch.ones(length, device=device)
            return
        count = -(-(length - self.overlap) // (self.tile - self.overlap))
        tile = -(-(length + (count - 1) * self.overlap) // count)
        distance = torch.arange(tile, device=device)
        ramp = (torch.minimum(distance, distance.flip(0)) + 1).div(self.overlap).clamp(max=1.0)
        for index in range(count):
            yield min(index * (tile - self.overlap), length - tile), ramp


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware: elsewhere it would be right, and slower than float32.

    Parameters
    ----------
    device
        CPU or GPU.

    Returns
    -------
    bool
        True where it does.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # of torch itself; a release may rename it
    return device.type == "cpu" and probe is not None and bool(probe())

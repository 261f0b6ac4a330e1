"""The published network as a prior: it knows nothing of angles or neighbours, and wants standardised slices."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pfitre_service.prior.zhao2025 import destandardise, standardise


class PublishedPrior:
    """Each slice through `Zhao2025`, standardised by the mean and spread of the whole volume.

    Upstream takes both from each slice in each iteration, which makes the slices of a stack drift apart.

    Parameters
    ----------
    network
        `Zhao2025` with its weights.
    name
        Of its weights.
    pixels_at_once
        Of one call of the network, whose activations bound its memory; one slice at least.
    """

    directions = 1

    def __init__(self, network: nn.Module, name: str, *, pixels_at_once: int = 2**17) -> None:
        self.network = network.eval()
        self.name = name
        self.pixels_at_once = pixels_at_once

    def observe(self, physics: Tensor, smooth: Tensor, coverage: Tensor) -> None:
        """Nothing: this network was trained for one kind of wedge and is told of none.

        Parameters
        ----------
        physics, smooth, coverage
            Not used.
        """

    def __call__(self, v: Tensor, scale: float) -> Tensor:
        """The slices as they likely are.

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
        if scale <= 0.0:
            return v.clamp_min(0.0)
        positive = v.clamp_min(0.0)
        mean = positive.mean().reshape(1, 1, 1)
        spread = positive.std().clamp_min(1e-6 * scale).reshape(1, 1, 1)
        result = torch.empty_like(v)
        slab = max(1, self.pixels_at_once // (v.shape[-1] * v.shape[-2]))
        with torch.inference_mode():
            for first in range(0, len(v), slab):
                answer = self.network(standardise(positive[first : first + slab], mean, spread))
                result[first : first + slab] = destandardise(answer, mean, spread)
        return result.clamp_min_(0.0)

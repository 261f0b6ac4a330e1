"""The networks that weights may be for, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pfitre_service.errors import InputError
from pfitre_service.prior.network import MEDIUM, SMALL, PfitreNet
from pfitre_service.prior.network_prior import NetworkPrior
from pfitre_service.prior.published_prior import PublishedPrior
from pfitre_service.prior.registry import WeightsInfo, load
from pfitre_service.prior.zhao2025 import ARCHITECTURE as PUBLISHED
from pfitre_service.prior.zhao2025 import Zhao2025

ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "pfitre-s": lambda: PfitreNet(SMALL),
    "pfitre-m": lambda: PfitreNet(MEDIUM),
    PUBLISHED: Zhao2025,
}


def build(architecture: str) -> nn.Module:
    """A fresh network of that architecture, with random weights.

    Parameters
    ----------
    architecture
        One of `ARCHITECTURES`.

    Returns
    -------
    nn.Module
        On the CPU, in training mode.

    Raises
    ------
    InputError
        There is no such architecture.
    """
    if architecture not in ARCHITECTURES:
        raise InputError(f"there is no architecture {architecture!r}; choose one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[architecture]()


def load_network(name: str, device: torch.device | str = "cpu", folder: Path | None = None) -> LoadedNetwork:
    """The network with the weights of that name, ready to answer.

    Parameters
    ----------
    name
        Of the weights, as `pfitre weights list` shows it.
    device
        Where it is to compute.
    folder
        Of a user's weights; None for `default_folder`.

    Returns
    -------
    LoadedNetwork
        The network in evaluation mode, without gradients.

    Raises
    ------
    SettingsError
        Nothing has that name.
    InputError
        The file is absent, cut short, altered, unreadable, or for an unknown architecture.
    """
    state, info = load(name, folder)
    network = build(info.architecture)
    network.load_state_dict(state)
    network = network.to(device).eval().requires_grad_(False)
    nn.utils.convert_conv2d_weight_memory_format(network, torch.channels_last)
    return LoadedNetwork(network, info)


@dataclass(frozen=True)
class LoadedNetwork:
    """A network that only answers, and where its weights come from. Tomograms may share it."""

    network: nn.Module
    """In evaluation mode."""
    info: WeightsInfo
    """The weights it was loaded from."""

    def prior(self) -> NetworkPrior | PublishedPrior:
        """A prior for one tomogram."""
        made = PublishedPrior if self.info.architecture == PUBLISHED else NetworkPrior
        return made(self.network, self.info.name)

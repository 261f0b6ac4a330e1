"""Which priors a tomogram gets."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import torch

from pfitre_service.config import PriorSettings
from pfitre_service.prior.architectures import LoadedNetwork, load_network
from pfitre_service.prior.network_prior import NetworkPrior
from pfitre_service.prior.published_prior import PublishedPrior
from pfitre_service.prior.total_variation import TotalVariation

DEFAULT_NETWORK = "pfitre-s"


@dataclass(frozen=True)
class Priors:
    """The priors of one tomogram: none, total variation, or a network with total variation beside it."""

    classical: TotalVariation | None = None
    """Total variation; None for none."""
    learned: NetworkPrior | PublishedPrior | None = None
    """The network; None for none."""
    weights_sha256: str = ""
    """Of the network's weights; empty without one."""

    @property
    def names(self) -> tuple[str, str]:
        """Of the prior as it was chosen, and of what is left when a network is dropped."""
        without = "none" if self.classical is None else "tv"
        return (without if self.learned is None else self.learned.name), without


def choose_priors(settings: PriorSettings, device: torch.device, *, watched: bool) -> Priors:
    """The priors of one tomogram. `auto` is the network of the package, if angles are held out to watch it, else total
    variation.

    Parameters
    ----------
    settings
        Name, folder of weights and weight of total variation.
    device
        Where they compute.
    watched
        Whether angles are, or will be, held out.

    Returns
    -------
    Priors
        For one tomogram; a network's weights are shared.

    Raises
    ------
    SettingsError
        The name is neither `auto`, `none`, `tv` nor that of weights.
    InputError
        The weights cannot be used.
    """
    name = settings.name if settings.name != "auto" else DEFAULT_NETWORK if watched else "tv"
    if name == "none":
        return Priors()
    if name == "tv":
        return Priors(TotalVariation(settings.tv))
    network = _network(name, str(device), settings.weights_dir)
    return Priors(TotalVariation(settings.tv), network.prior(), network.info.sha256)


@functools.lru_cache(maxsize=4)
def _network(name: str, device: str, folder: Path | None) -> LoadedNetwork:
    """Loaded once a process: tomograms share it, and frames that are added again need no second reading."""
    return load_network(name, device, folder)

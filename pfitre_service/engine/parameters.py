"""What an engine is told besides the data."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

import torch

from pfitre_service.config import PriorSettings, Settings
from pfitre_service.errors import InputError, SettingsError
from pfitre_service.model import Measurement
from pfitre_service.preprocess import PreprocessParameters
from pfitre_service.recon.parameters import AdmmParameters, CalibrationParameters


@dataclass(frozen=True)
class EngineParameters:
    """Of one tomogram."""

    measurement: Measurement = "line_integral"
    """What the images hold."""
    heldout_every: int = 8
    """Every n-th projection is held out; 0 holds none out."""
    device: str = "auto"
    """Torch device, such as cuda:0; `auto` takes a GPU where there is one."""
    preprocess: PreprocessParameters = field(default_factory=PreprocessParameters)
    """From counts to line integrals."""
    recon: AdmmParameters = field(default_factory=AdmmParameters)
    """The solver."""
    prior: PriorSettings = field(default_factory=PriorSettings)
    """What fills in the missing wedge."""
    calibration: CalibrationParameters = field(default_factory=CalibrationParameters)
    """Rotation axis and drift."""
    ray_weights: bool = False
    """Whether frames come with a weight for each ray; the solver then projects, which takes longer with each angle."""
    measurement_said: bool = True
    """Whether a person or a document said what images hold; what was taken for granted is refused where the values
    contradict it."""

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        measurement: Measurement,
        *,
        said: bool,
        ray_weights: bool = False,
        prior: str | None = None,
        iterations: int | None = None,
        device: str | None = None,
    ) -> EngineParameters:
        """As the settings say, but for what is given.

        Parameters
        ----------
        settings
            The whole tree.
        measurement
            What the images hold.
        said
            Whether a person or a document said what images hold.
        ray_weights
            Whether frames come with a weight for each ray.
        prior
            Name of the prior.
        iterations
            Most steps after which the solver stops.
        device
            Torch device; None for that of the settings.

        Returns
        -------
        EngineParameters
            Of one tomogram.

        Raises
        ------
        InputError
            `iterations` is less than 1.
        """
        if iterations is not None and iterations < 1:
            raise InputError(f"iterations must be at least 1, got {iterations}")
        recon = settings.recon if iterations is None else replace(settings.recon, max_iterations=iterations)
        return cls(
            measurement=measurement,
            measurement_said=said,
            ray_weights=ray_weights,
            heldout_every=settings.worker.heldout_every,
            device=device or settings.worker.device,
            preprocess=settings.preprocess,
            recon=recon,
            prior=settings.prior if prior is None else settings.prior.model_copy(update={"name": prior}),
            calibration=settings.calibration,
        )


def use_threads(count: int) -> None:
    """Sets up this process's CPU for the solver. Threads of a solver that must wait for a busy core cost far more than
    they bring.

    Parameters
    ----------
    count
        Number of threads; 0 for all cores but one, so that the rest of the service has room.
    """
    torch.set_num_threads(count or max(1, (os.cpu_count() or 1) - 1))
    torch.set_flush_denormal(True)  # a CPU takes a hundred times longer over numbers next to zero


def choose_device(name: str) -> torch.device:
    """The torch device of a name.

    Parameters
    ----------
    name
        Such as cpu or cuda:0; `auto` takes a GPU where there is one.

    Returns
    -------
    torch.device
        Computes here.

    Raises
    ------
    SettingsError
        It cannot be had.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"device {name!r} cannot be used here: {error}; try cpu or auto") from error
    return device

"""Solver, prior and stopping rule at work on the frames that are in, and what they have come to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pfitre_service.config import PriorSettings
from pfitre_service.engine.accumulator import Accumulators
from pfitre_service.engine.assessment import assess
from pfitre_service.engine.priors import choose_priors
from pfitre_service.engine.volumes import AssessedVolumes, SolvedVolumes
from pfitre_service.recon.operators.data_term import DataTerm, relative_residual
from pfitre_service.recon.parameters import AdmmParameters
from pfitre_service.recon.solvers.pfitre import PfitreSolver


@dataclass(frozen=True)
class Metrics:
    """What is measured of a volume; NaN where nothing was."""

    residual: float
    """||A x - y|| / ||y|| over the solver's angles."""
    heldout_error: float
    """The same over the held-out angles."""
    heldout_error_physics: float
    """The same of the data alone."""
    prior_gap: float
    """||z - x|| / ||x||."""


class TomogramSolver:
    """One way from a cold start to a volume.

    Parameters
    ----------
    frames
        That are in.
    recon
        Balance, iterations and tolerance.
    prior
        Which priors.
    watched
        Whether angles are, or will be, held out.
    device
        Where the priors compute.

    Raises
    ------
    SettingsError
        There is no such prior.
    InputError
        The weights cannot be used.
    """

    def __init__(
        self, frames: Accumulators, recon: AdmmParameters, prior: PriorSettings, *, watched: bool, device: torch.device
    ) -> None:
        self.remarks: dict[str, None] = {}
        """What a person should know of the prior's fate."""
        self._frames = frames
        self._priors = choose_priors(prior, device, watched=watched)
        self._solver = PfitreSolver(
            frames.solved,
            frames.heldout,
            classical=self._priors.classical,
            learned=self._priors.learned,
            parameters=recon,
            watched=watched,
        )
        self._errors = (math.nan, math.nan)
        """Of the result and of the physics, as they were last measured."""
        self._noise_floor = math.nan

    @property
    def prior_name(self) -> str:
        """The prior in use."""
        return self._priors.names[0 if self._solver.learned is not None else -1]

    @property
    def weights_sha256(self) -> str:
        """Of the network in use; empty without one."""
        return self._priors.weights_sha256 if self._solver.learned is not None else ""

    @property
    def settled(self) -> bool:
        """Whether another step would change nothing worth while."""
        return self._solver.at_rest

    def wake(self) -> None:
        """The frames in use have changed: what had settled may move again."""
        self._solver.wake()

    def use(self, frames: Accumulators) -> None:
        """Goes on with other frames, from the volume as it is.

        Parameters
        ----------
        frames
            That are in.
        """
        self._frames = frames
        self._solver.use(frames.solved, frames.heldout)

    def step(self) -> float:
        """One iteration; returns how far the volume moved, ||x - x_previous|| / ||x||."""
        change = self._solver.step()
        self.remarks.update(dict.fromkeys(self._solver.remarks))
        if self._frames.heldout.angles > 0:
            self._noise_floor = self._frames.noise_floor
            self._errors = (self._solver.errors.result, self._solver.errors.physics)
        return change

    def refit(self) -> None:
        """From now on nothing is held out; as many steps as were taken so far, at the most."""
        self._solver.refit()
        self._frames.heldout, self._frames.heldout_every = self._frames.heldout.empty(), 0

    @property
    def metrics(self) -> Metrics:
        """Of the volume as it is now; the errors as they were last measured."""
        residual = relative_residual(self._frames.solved, self._solver.x)
        return Metrics(residual, *self._errors, self._solver.prior_gap)

    def volumes(self) -> SolvedVolumes:
        """The volume as it is now."""
        return SolvedVolumes(self._solver.x.cpu().numpy(), self._solver.physics.x.cpu().numpy())

    def assessed_volumes(self) -> AssessedVolumes:
        """The volume as it is now, with the preview and how far it may be believed, which takes time."""
        quality = assess(self._frames, self._solver, self._errors[0], self._noise_floor)
        numpy = {name: tensor.cpu().numpy() for name, tensor in quality.maps.items()}
        preview = self._frames.preview.volume(self._frames.solved).cpu().numpy()
        return AssessedVolumes(
            self._solver.x.cpu().numpy(),
            self._solver.physics.x.cpu().numpy(),
            **numpy,
            preview=preview,
            statement=quality.statement,
        )


class PublishedSnapshot:
    """A volume that stays in view while another solver is on its way.

    Parameters
    ----------
    revision
        Of the volumes.
    volumes
        That stay in view.
    solving
        What made them.
    frames
        That they are measured on.
    """

    def __init__(self, revision: int, volumes: SolvedVolumes, solving: TomogramSolver, frames: Accumulators) -> None:
        self.revision = revision
        self.volumes = volumes
        self.prior_name = solving.prior_name
        self.weights_sha256 = solving.weights_sha256
        self.remarks = solving.remarks
        self._prior_gap = solving.metrics.prior_gap
        self.measure(frames)

    def measure(self, frames: Accumulators) -> None:
        """Measures the volume on all frames that are in by now.

        Parameters
        ----------
        frames
            That are in.
        """

        def residual(data: DataTerm, volume: object) -> float:
            return relative_residual(data, torch.as_tensor(volume).to(data.device)) if data.angles else math.nan

        volumes = self.volumes
        self.metrics = Metrics(
            residual(frames.solved, volumes.volume),
            residual(frames.heldout, volumes.volume),
            residual(frames.heldout, volumes.physics),
            self._prior_gap,
        )

    def is_no_better_than(self, metrics: Metrics) -> bool:
        """Whether another volume predicts the held-out angles as well.

        Parameters
        ----------
        metrics
            Of the other volume.

        Returns
        -------
        bool
            False where nothing is held out.
        """
        return metrics.heldout_error <= self.metrics.heldout_error

"""The training loop: samples from the twin, rounds of the solver, updates of the network.

For each sample, with x the physics alone at first:

    z <- network(x, neighbours, physics, total variation; coverage)        one update of the weights on loss(z, truth)
    x <- argmin_x 1/2 ||A x - y||^2_W + rho/2 ||x - z||^2      the solver's own data step: what the network sees next

Stage one makes two rounds of it, stage two up to `Recipe.rounds`. Some samples get one more round, on what the
data step makes of the truth: an iterate that is right should be left as it is.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pfitre_service.errors import PfitreError, SettingsError
from pfitre_service.prior.architectures import build
from pfitre_service.prior.orientation import View, describe, neighbours
from pfitre_service.prior.registry import load
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.solvers.data_step import data_step
from pfitre_service.training.loss import loss, unmeasured_share
from pfitre_service.training.muon import Muon
from pfitre_service.training.recipe import Recipe
from pfitre_service.training.samples import DEPTH, Sample
from pfitre_service.training.state_file import read_checkpoint, write_checkpoint

_RHO = (0.03, 3.0)
"""Least and most pull of the answer on the data step, as a share of the summed weights."""
_REACH = 6.0
"""Values are cut here, in units of the scale, as they are in service."""
_LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class Update:
    """One step of the optimiser, from 1."""

    number: int
    """Of the update, from 1."""
    sample: int
    """Number of the lesson."""
    round: int
    """Of the solver on this sample, from 0."""
    stage: int
    """Of the training, 1 or 2."""
    loss: float
    """See `training.loss`."""
    rate: float
    """Learning rate."""


@dataclass(frozen=True, eq=False)
class _Lesson:
    """One sample where it is learnt from."""

    data: NormalEquations
    truth: Tensor
    physics: Tensor
    smooth: Tensor
    unmeasured: Tensor
    view: View
    told: Tensor
    """(DIRECTIONS,) coverage in that view."""

    @classmethod
    def from_sample(cls, sample: Sample, device: torch.device) -> _Lesson:
        view, told = describe(sample.coverage)
        return cls(
            data=on_device(sample.data, device),
            truth=sample.truth.to(device),
            physics=sample.physics.to(device),
            smooth=sample.smooth.to(device),
            unmeasured=unmeasured_share(sample.data).to(device),
            view=view,
            told=told.to(device),
        )


class Trainer:
    """Network, its running average, and the optimiser; `learn` takes in one sample after another. `samples` counts
    lessons: a sample that is learnt from again counts again.

    A checkpoint lies between two samples, so that whoever resumes goes on as if nothing had happened.

    Parameters
    ----------
    recipe
        How it trains.
    device
        Where it computes.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.recipe = recipe.on(device)
        self.device = device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            network = build(recipe.architecture)
        if recipe.begin_with is not None:
            network.load_state_dict(_begin_with(recipe.begin_with, recipe.architecture))
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimiser = Muon(self.network, weight_decay=recipe.weight_decay)
        self.updates = 0
        self.samples = 0
        self.seconds = 0.0
        """Spent on updates; the making of samples is not counted."""
        self.whole = True
        """Whether the last sample was learnt to its end: only then may the state be saved."""

    @property
    def finished(self) -> bool:
        """Whether the recipe's last update was made."""
        return self.updates >= self.recipe.updates

    def learn(self, sample: Sample, on_update: Callable[[Update], None]) -> None:
        """All rounds on sample number `samples`, one update each.

        Parameters
        ----------
        sample
            To learn from.
        on_update
            Told of each update.

        Raises
        ------
        PfitreError
            The loss is not finite.
        """
        begin = time.perf_counter()
        self.whole = False
        rng = np.random.default_rng((self.recipe.seed, 1, self.samples))
        lesson = _Lesson.from_sample(sample, self.device)
        rho = float(np.exp(rng.uniform(*np.log(_RHO)))) * lesson.data.weight
        x = z = lesson.physics
        if rng.random() < self.recipe.from_total_variation:
            x = data_step(lesson.data, lesson.smooth, rho, lesson.smooth, int(rng.integers(3, 7)))
        rounds = self._rounds(rng)
        known = rng.random() < self.recipe.known
        for number in range(rounds + known):
            if number > 0:
                likely = lesson.truth if number == rounds else z
                x = data_step(lesson.data, likely, rho, likely, int(rng.integers(3, 7)))
            stage, rate = self.recipe.stage(self.updates), self.recipe.rate(self.updates)
            z, value = self._update(x, lesson, rate, rng)
            on_update(Update(self.updates, self.samples, number, stage, value, rate))
        self.samples += 1
        self.seconds += time.perf_counter() - begin
        self.whole = True

    def save(self, path: Path) -> None:
        """A checkpoint, replacing the last one whole.

        Parameters
        ----------
        path
            The file.

        Raises
        ------
        SettingsError
            It cannot be written.
        """
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "updates": self.updates,
            "samples": self.samples,
            "seconds": self.seconds,
        }
        write_checkpoint(state, path)

    def resume(self, path: Path) -> None:
        """Goes on from a checkpoint.

        Parameters
        ----------
        path
            The file.

        Raises
        ------
        InputError
            It is no checkpoint of the same architecture.
        """
        state = read_checkpoint(path, self.network, self.optimiser)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.updates, self.samples, self.seconds = state["updates"], state["samples"], state["seconds"]

    def _rounds(self, rng: np.random.Generator) -> int:
        if self.recipe.stage(self.updates) == 1:
            return 2
        return int(rng.integers(2, self.recipe.rounds + 1))

    def _update(self, x: Tensor, lesson: _Lesson, rate: float, rng: np.random.Generator) -> tuple[Tensor, float]:
        """One step of the optimiser on the iterate x; the network's answer before it, and its loss."""
        upside_down, reversed_z = rng.random(2) < 0.5
        self.network.train()
        answer = self._answer(x, lesson, bool(upside_down), bool(reversed_z))
        value = loss(answer, lesson.truth, lesson.unmeasured)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(value)
        steepness = nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT)
        if not (math.isfinite(float(value.detach())) and math.isfinite(float(steepness))):
            raise PfitreError(
                f"the training diverged at update {self.updates + 1}: the loss is {float(value.detach())}, its slope "
                f"{float(steepness)}; the last checkpoint is from before. Train anew with a lower learning_rate than "
                f"{self.recipe.learning_rate}, or at precision float32"
            )
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.updates += 1
        self._follow()
        return answer.detach().clamp_min(0.0), float(value.detach())

    def _answer(self, x: Tensor, lesson: _Lesson, upside_down: bool, reversed_z: bool) -> Tensor:
        """(slices, size, size): the network sees the sample in its folding view, upside down and from below at will."""
        pictures = torch.cat((_stacks(x), lesson.physics[:, None], lesson.smooth[:, None]), dim=1)
        pictures = pictures.clamp(-_REACH, _REACH)
        if reversed_z:
            pictures = pictures[:, [2, 1, 0, 3, 4]]
        pictures = lesson.view.of(pictures)
        if upside_down:
            pictures = pictures.flip((-1, -2))
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        told = lesson.told.expand(len(pictures), -1)
        reduced = self.recipe.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=reduced):
            answer: Tensor = self.network(pictures, told).float()
        if upside_down:
            answer = answer.flip((-1, -2))
        return lesson.view.back(answer)

    @torch.no_grad()
    def _follow(self) -> None:
        """The running average: of all weights at first, of about 1 / (1 - `average`) updates later on."""
        keep = min(self.recipe.average, self.updates / (self.updates + 10))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - keep)


def _begin_with(name: str, architecture: str) -> dict[str, Tensor]:
    """The state of the weights of that name. Raises SettingsError when they are another architecture's."""
    state, info = load(name)
    if info.architecture != architecture:
        raise SettingsError(
            f"a training of {architecture} begins with weights of {architecture}; {name!r} are of {info.architecture}"
        )
    return state


def on_device(data: NormalEquations, device: torch.device) -> NormalEquations:
    """The same accumulators elsewhere.

    Parameters
    ----------
    data
        Accumulators.
    device
        Where they shall lie.

    Returns
    -------
    NormalEquations
        `data` itself where it lies there already.
    """
    if data.device.type == device.type:
        return data
    moved = NormalEquations(data.geometry, device=device)
    moved.merge(data)
    return moved


def _stacks(x: Tensor) -> Tensor:
    """`neighbours` within each object's own slices."""
    return torch.cat([neighbours(part) for part in torch.split(x, DEPTH)])

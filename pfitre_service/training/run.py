"""A whole training: from a recipe to weights that load by name.

from pfitre_service.training.recipe import Recipe
from pfitre_service.training.run import train

result = train(Recipe(updates=9000), Path("training"), workers=2)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pfitre_service.prior.manifest import WeightsInfo
from pfitre_service.training.folder import Journal, Plan, RunFolder
from pfitre_service.training.loop import Trainer, Update
from pfitre_service.training.recipe import Recipe
from pfitre_service.training.stream import SampleStream
from pfitre_service.training.validation import Case, Validation, make_cases, validate
from pfitre_service.training.weights_export import check_free, export
from pfitre_service.twin.families import HELD_BACK_FAMILIES, TRAINING_FAMILIES

logger = logging.getLogger(__name__)

CHECKPOINT_EVERY_S = 300.0

OnProgress = Callable[[Update | Validation], None]


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended, or where it stopped."""

    folder: Path
    """Of the training."""
    updates: int
    """Made so far."""
    samples: int
    """Lessons learnt so far."""
    seconds: float
    """Spent on updates, over all runs of this training."""
    weights: WeightsInfo | None
    """None when it was stopped before its last update."""
    validations: tuple[Validation, ...]
    """Oldest first."""


def train(
    recipe: Recipe,
    folder: Path,
    *,
    families: tuple[str, ...] = tuple(TRAINING_FAMILIES),
    held_back: tuple[str, ...] = tuple(HELD_BACK_FAMILIES),
    workers: int = 0,
    device: torch.device | str = "cpu",
    resume: bool = False,
    name: str | None = None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    on_progress: OnProgress = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    """Trains to the recipe's last update, or until it is asked to stop.

    Denormal numbers are set to be flushed in the calling thread, and stay so. Whatever ends a training, its state after
    the last whole sample is in the folder, or, when it ended in the middle of one, that of the last checkpoint.

    Parameters
    ----------
    recipe
        How the network is trained.
    folder
        See `training.folder`; the weights are registered there.
    families
        What is learnt from.
    held_back
        What validations are made on.
    workers
        Processes that make samples; 0 makes them in between, with the same result.
    device
        Where it computes.
    resume
        Go on with the training in `folder`, exactly as if it had not been stopped.
    name
        Of the weights; ARCHITECTURE-trained for None.
    checkpoint_every_s
        Seconds between two checkpoints.
    on_progress
        Told of every update and validation, in the thread of the caller.
    should_stop
        Asked between two samples.

    Returns
    -------
    TrainingResult
        How it ended.

    Raises
    ------
    SettingsError
        Folder or name cannot be had.
    InputError
        The folder holds another training.
    PfitreError
        The training diverges, or a process that makes samples dies.
    """
    torch.set_flush_denormal(True)
    files, place = RunFolder(folder), torch.device(device)
    name = check_free(f"{recipe.architecture}-trained" if name is None else name, folder)
    trainer = Trainer(_settled(recipe, files, resume), place)
    plan = Plan(trainer.recipe, families, held_back)
    files.begin(plan, resume=resume)
    if files.checkpoint.exists():
        trainer.resume(files.checkpoint)
    settings = trainer.recipe
    cases = make_cases(held_back, size=settings.validation_size, objects=settings.validation_objects, device=place)
    logger.info("training of %s in %s begins at update %d", settings.architecture, folder, trainer.updates)
    with files.journal(trainer.updates) as journal:
        session = _Session(trainer, files, journal, cases, on_progress, checkpoint_every_s)
        session.run(SampleStream(settings, families, first=trainer.samples, workers=workers), should_stop)
        validations = journal.validations
    info = export(trainer, plan, validations, folder=folder, name=name) if trainer.finished else None
    logger.info("training in %s ends at update %d of %d", folder, trainer.updates, settings.updates)
    return TrainingResult(folder, trainer.updates, trainer.samples, trainer.seconds, info, tuple(validations))


def _settled(recipe: Recipe, files: RunFolder, resume: bool) -> Recipe:
    """What `auto` meant when the training began it goes on meaning, on any machine."""
    stored = files.stored_precision() if resume and recipe.precision == "auto" else None
    return recipe if stored is None else replace(recipe, precision=stored)


@dataclass
class _Session:
    """One run of the loop, from where the trainer stands."""

    trainer: Trainer
    files: RunFolder
    journal: Journal
    cases: tuple[Case, ...]
    on_progress: OnProgress
    checkpoint_every_s: float

    def run(self, samples: SampleStream, should_stop: Callable[[], bool]) -> None:
        trainer = self.trainer
        saved_at = time.monotonic()
        try:
            with samples:
                while not (trainer.finished or should_stop()):
                    self._learn(samples)
                    if time.monotonic() - saved_at >= self.checkpoint_every_s:
                        trainer.save(self.files.checkpoint)
                        saved_at = time.monotonic()
        finally:
            # In the middle of a sample there is nothing that could be resumed: the last checkpoint stands.
            if trainer.whole:
                trainer.save(self.files.checkpoint)
        if trainer.finished and not self._validated():
            self._validate()

    def _learn(self, samples: SampleStream) -> None:
        trainer, every = self.trainer, self.trainer.recipe.validate_every
        sample = samples.take()
        before = trainer.updates
        trainer.learn(sample, self._updated)
        if trainer.updates // every > before // every:
            self._validate()

    def _updated(self, update: Update) -> None:
        self.journal.update(update)
        self.on_progress(update)

    def _validate(self) -> None:
        validation = validate(self.trainer.average, self.cases, self.trainer.updates)
        self.journal.validation(validation)
        self.on_progress(validation)

    def _validated(self) -> bool:
        return any(each.updates == self.trainer.updates for each in self.journal.validations)

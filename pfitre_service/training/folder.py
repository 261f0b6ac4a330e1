"""The folder of one training, which whoever resumes it finds again.

recipe.json         the recipe and the families, settled when the training began
checkpoint.pt       the state after a whole sample
log.jsonl           one object an update
validation.jsonl    one object a validation; `best` says whether it was the best so far
NAME.safetensors, NAME.md, weights.json     at the end: the weights, their card, and the manifest of them
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast

from pfitre_service.errors import InputError, SettingsError
from pfitre_service.prior.manifest import write_whole
from pfitre_service.training.loop import Update
from pfitre_service.training.recipe import Precision, Recipe
from pfitre_service.training.validation import Validation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a training is: `recipe.json`.

    Raises
    ------
    SettingsError
        There are no families of one kind, or one is of both.
    """

    recipe: Recipe
    """How the network is trained."""
    families: tuple[str, ...]
    """Those that samples are drawn from."""
    held_back: tuple[str, ...]
    """Those that validations are made on."""

    def __post_init__(self) -> None:
        both = set(self.families) & set(self.held_back)
        if not self.families or not self.held_back or both:
            raise SettingsError(
                "a training needs families to learn from and others, held back, to be validated on; got "
                f"{self.families} and {self.held_back}" + (f", both with {', '.join(sorted(both))}" if both else "")
            )

    def as_json(self) -> dict[str, Any]:
        """What `recipe.json` holds."""
        return {
            "recipe": self.recipe.as_json(),
            "families": list(self.families),
            "held_back": list(self.held_back),
        }


class RunFolder:
    """Files of one training, by name.

    Parameters
    ----------
    path
        The folder; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.pt"
        self.plan = path / "recipe.json"
        self.log = path / "log.jsonl"
        self.validations = path / "validation.jsonl"

    def begin(self, plan: Plan, *, resume: bool) -> None:
        """Makes the folder ready, or finds it as this plan left it.

        Parameters
        ----------
        plan
            Of the training.
        resume
            Whether it goes on.

        Raises
        ------
        SettingsError
            There is a training and `resume` was not asked for, or the other way round.
        InputError
            The training there is another one.
        """
        if not resume:
            self._begin_anew(plan)
        elif not self.plan.is_file():
            raise SettingsError(
                f"there is no training in {self.path} to resume: {self.plan.name} is not there; check the folder, or "
                "begin one without --resume"
            )
        else:
            self._check_same(plan)

    def stored_precision(self) -> Precision | None:
        """The precision that the training there was settled on; None where there is none."""
        precision = self._stored_plan().get("recipe", {}).get("precision") if self.plan.is_file() else None
        return cast("Precision", precision) if precision else None  # `Recipe` checks it

    @contextmanager
    def journal(self, updates: int) -> Iterator[Journal]:
        """Both logs, open to go on: what a run wrote after its last checkpoint is taken out first.

        Parameters
        ----------
        updates
            Number of the last update that stays.

        Yields
        ------
        Journal
            Of this run.
        """
        _truncate(self.log, "update", updates)
        _truncate(self.validations, "updates", updates)
        with ExitStack() as files:
            log, validations = (files.enter_context(path.open("a")) for path in (self.log, self.validations))
            yield Journal(log, validations, self.read_validations())

    def read_validations(self) -> list[Validation]:
        """Those made so far, oldest first.

        Raises
        ------
        InputError
            A line holds no validation.
        """
        if not self.validations.is_file():
            return []
        try:
            return [Validation.from_json(json.loads(line)) for line in self.validations.read_text().splitlines()]
        except (ValueError, TypeError, LookupError) as error:
            raise InputError(
                f"{self.validations} must hold one validation a line; one cannot be read ({error!r}): remove the file"
            ) from error

    def _begin_anew(self, plan: Plan) -> None:
        if self.checkpoint.exists():
            raise SettingsError(
                f"there is a training in {self.path} already: go on with it by --resume, or give another folder"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"cannot make the folder {self.path}: {error}; give another one") from error
        write_whole(self.plan, (json.dumps(plan.as_json(), indent=2) + "\n").encode())

    def _check_same(self, plan: Plan) -> None:
        stored, asked = self._stored_plan(), plan.as_json()
        found = differences(stored.get("recipe", {}), asked["recipe"])
        found += differences(
            {key: stored.get(key) for key in ("families", "held_back")},
            {key: asked[key] for key in ("families", "held_back")},
        )
        if found:
            raise InputError(
                f"the training in {self.path} has another recipe than the one asked for: {'; '.join(found)}. Resume it "
                "with its own, or begin another in another folder"
            )

    def _stored_plan(self) -> dict[str, Any]:
        try:
            document = json.loads(self.plan.read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{self.plan} must hold a training's recipe; it cannot be read: {error}") from error
        if not isinstance(document, dict) or not isinstance(document.get("recipe"), dict):
            raise InputError(f"{self.plan} must be an object with a training's recipe: it is something else")
        return document


class Journal:
    """What happened, one line each, as it happens.

    Parameters
    ----------
    log
        Open file, one line an update.
    validations
        Open file, one line a validation.
    earlier
        Validations made so far, oldest first.
    """

    def __init__(self, log: IO[str], validations: IO[str], earlier: list[Validation]) -> None:
        self.validations = earlier
        self._log = log
        self._validations = validations

    def update(self, update: Update) -> None:
        """Writes one line.

        Parameters
        ----------
        update
            That was made.
        """
        line = {"update": update.number, **asdict(update)}
        del line["number"]
        _write_line(self._log, line)

    def validation(self, validation: Validation) -> None:
        """Writes one line, and whether it was the best so far.

        Parameters
        ----------
        validation
            That was made.
        """
        best = all(validation.score > each.score for each in self.validations)
        self.validations.append(validation)
        _write_line(self._validations, {**validation.as_json(), "best": best})


def differences(stored: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """What differs between two plans or recipes.

    Parameters
    ----------
    stored
        The one in the folder.
    asked
        The one asked for.

    Returns
    -------
    list[str]
        `name: value there, value asked for`, one phrase a field that is not the same.
    """
    absent = "nothing"
    return [
        f"{name}: {stored.get(name, absent)} there, {asked.get(name, absent)} asked for"
        for name in dict.fromkeys((*asked, *stored))
        if stored.get(name, absent) != asked.get(name, absent)
    ]


def _write_line(file: IO[str], line: dict[str, Any]) -> None:
    file.write(json.dumps(line) + "\n")
    file.flush()


def _truncate(path: Path, key: str, last: int) -> None:
    if not path.is_file():
        return
    lines = path.read_text().splitlines()
    kept = [line for line in lines if _number(line, key) <= last]
    if len(kept) < len(lines):
        logger.info("%s: %d lines from after the checkpoint are taken out", path, len(lines) - len(kept))
        write_whole(path, "".join(line + "\n" for line in kept).encode())


def _number(line: str, key: str) -> float:
    """Which update the line tells of; infinite for one that was cut short."""
    try:
        return int(json.loads(line)[key])
    except (ValueError, TypeError, LookupError):
        return float("inf")

"""What `pfitre train` does: the recipe for this machine, a display, and a summary."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pfitre_service.errors import SettingsError
from pfitre_service.text_output import make_console
from pfitre_service.training.display import Display
from pfitre_service.training.recipe import Recipe
from pfitre_service.training.run import TrainingResult, train
from pfitre_service.training.stopping import stop_on_signals

_MOST_WORKERS = 16


def run_train(
    folder: Path,
    *,
    architecture: str | None = None,
    begin_with: str | None = None,
    updates: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    device: str | None = None,
    name: str | None = None,
    smoke: bool = False,
    resume: bool = False,
) -> dict[str, Any]:
    """Trains, and shows how it goes on standard error.

    None stands for the default: random weights, the recipe's architecture and updates (`Recipe.gpu` on a GPU, else
    `Recipe`), a GPU where there is one, as many workers as there are cores. A training that is stopped (Ctrl-C,
    SIGTERM) is `finished`: False in the summary, and resumed with the same options and `resume`. Errors as in
    `training.run.train`.

    Parameters
    ----------
    folder
        Of the training.
    architecture
        One of `prior.registry.ARCHITECTURES`.
    begin_with
        Name of weights to go on from.
    updates
        Steps of the optimiser.
    seed
        Of weights and samples.
    workers
        Processes that make samples.
    device
        Torch device, such as cuda:0.
    name
        Of the weights.
    smoke
        Every part of a training in seconds; the weights are of no use.
    resume
        Go on with the training in `folder`.

    Returns
    -------
    dict[str, Any]
        The summary that `--json` prints.
    """
    place = choose_device(device)
    recipe = choose_recipe(
        place, architecture=architecture, begin_with=begin_with, updates=updates, seed=seed, smoke=smoke
    )
    console = make_console(stderr=True)
    with stop_on_signals() as asked, Display(console, recipe) as display:
        result = train(
            recipe,
            folder,
            workers=choose_workers(smoke) if workers is None else workers,
            device=place,
            resume=resume,
            name=name,
            on_progress=display,
            should_stop=asked.is_set,
        )
    console.print(_closing_words(result, recipe), highlight=False, soft_wrap=True)
    return summarise(result)


def choose_device(wanted: str | None) -> torch.device:
    """The device of a training.

    Parameters
    ----------
    wanted
        Torch device, such as cuda:0; None for a GPU where there is one.

    Returns
    -------
    torch.device
        Computes here.

    Raises
    ------
    SettingsError
        It cannot be had.
    """
    if wanted is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(
            f"--device must be one that torch can compute on here, as cpu or cuda:0; got {wanted!r}: {reason}"
        ) from error
    return device


def choose_recipe(
    device: torch.device,
    *,
    architecture: str | None = None,
    begin_with: str | None = None,
    updates: int | None = None,
    seed: int = 0,
    smoke: bool = False,
) -> Recipe:
    """The recipe with what was asked for in place of its own.

    Parameters
    ----------
    device
        Of the training.
    architecture
        None for the recipe's own.
    begin_with
        Name of weights to go on from; None for random ones.
    updates
        Steps of the optimiser; None for the recipe's own.
    seed
        Of weights and samples.
    smoke
        Every part of a training in seconds.

    Returns
    -------
    Recipe
        The recipe for smoke, for a GPU or for a CPU.
    """
    if smoke:
        recipe = Recipe.smoke(seed=seed)
    elif device.type == "cuda":
        recipe = Recipe.gpu(seed=seed)
    else:
        recipe = Recipe(seed=seed)
    return replace(
        recipe,
        architecture=recipe.architecture if architecture is None else architecture,
        begin_with=begin_with,
        updates=recipe.updates if updates is None else updates,
    )


def choose_workers(smoke: bool) -> int:
    """As many as there are cores for this process; they take only what the updates leave.

    Parameters
    ----------
    smoke
        One is enough.

    Returns
    -------
    int
        Number of processes, 16 at most.
    """
    if smoke:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_WORKERS)


def summarise(result: TrainingResult) -> dict[str, Any]:
    """The result as plain values.

    Parameters
    ----------
    result
        Of the training.

    Returns
    -------
    dict[str, Any]
        What JSON holds.
    """
    weights = result.weights
    return {
        "finished": weights is not None,
        "folder": str(result.folder),
        "updates": result.updates,
        "samples": result.samples,
        "seconds": result.seconds,
        "validation": result.validations[-1].as_json() if result.validations else None,
        "weights": None
        if weights is None
        else {
            "name": weights.name,
            "architecture": weights.architecture,
            "file": str(weights.path),
            "sha256": weights.sha256,
            "bytes": weights.bytes,
            "card": str(weights.card),
        },
    }


def _closing_words(result: TrainingResult, recipe: Recipe) -> str:
    if result.weights is None:
        return (
            f"Stopped at update {result.updates} of {recipe.updates}. Go on with the same command and --resume "
            f"(folder {result.folder})."
        )
    return (
        f"Weights {result.weights.name}: {result.weights.path}, described in {result.weights.card}. Use them with "
        f"--set prior.name={result.weights.name} --set prior.weights_dir={result.folder}"
    )

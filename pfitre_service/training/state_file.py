"""The state of a training as one file: network, average, optimiser, updates, samples, seconds."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pfitre_service.errors import InputError, SettingsError
from pfitre_service.prior.weights_file import differences

_COUNTS = {"updates": int, "samples": int, "seconds": float}
_STATES = ("network", "average", "optimiser")
_DAMAGE = (RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, OSError)
"""What reading raises on bytes that are no checkpoint."""


def write_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Replaces the file whole, or leaves it as it is.

    Parameters
    ----------
    state
        Of the training, as `read_checkpoint` gives it back.
    path
        The file.

    Raises
    ------
    SettingsError
        It cannot be written.
    """
    temporary = path.with_suffix(".part")
    try:
        with temporary.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise SettingsError(
            f"the training's state cannot be written to {path}: {error}; an earlier one is kept. Make room, or give "
            "another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: Path, network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """The state of a training; nothing in the file is run.

    Parameters
    ----------
    path
        The file.
    network
        That the state must fit.
    optimiser
        That the state must fit.

    Returns
    -------
    dict[str, Any]
        On the CPU.

    Raises
    ------
    InputError
        The file is damaged, no checkpoint of a training, or one of another network.
    """
    try:
        state: Any = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, *_DAMAGE) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path} must be a checkpoint of `pfitre train`; it cannot be read ({reason}): remove it to begin anew"
        ) from error
    problem = _problem(state, network, optimiser)
    if problem:
        raise InputError(f"{path} must be a checkpoint of `pfitre train` for this recipe; {problem}")
    return dict(state)


def _problem(state: Any, network: nn.Module, optimiser: torch.optim.Optimizer) -> str:
    if not isinstance(state, dict):
        return f"it holds a {type(state).__name__}"
    absent = [key for key in (*_STATES, *_COUNTS) if not isinstance(state.get(key), _COUNTS.get(key, dict))]
    if absent:
        return f"it lacks {', '.join(absent)}"
    for part in ("network", "average"):
        found = differences(state[part], network.state_dict())
        if found:
            return f"its {part} is of another architecture: {'; '.join(found)}"
    groups = state["optimiser"].get("param_groups")
    if not isinstance(groups, list) or [len(group["params"]) for group in groups] != [
        len(group["params"]) for group in optimiser.param_groups
    ]:
        return "its optimiser is of another kind"
    return ""

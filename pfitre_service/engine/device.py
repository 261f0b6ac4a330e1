"""Where and with how many threads the solver computes."""

from __future__ import annotations

import os

import torch

from pfitre_service.errors import SettingsError


def use_threads(count: int) -> None:
    """Sets up this process's CPU for the solver: `count` threads, 0 for all cores but one, so that the rest of the
    service has room. Threads of a solver that must wait for a busy core cost far more than they bring."""
    torch.set_num_threads(count or max(1, (os.cpu_count() or 1) - 1))
    torch.set_flush_denormal(True)  # a CPU takes a hundred times longer over numbers next to zero


def choose_device(name: str) -> torch.device:
    """The torch device of that name; `auto` takes a GPU where there is one. Raises SettingsError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"device {name!r} cannot be used here: {error}; try cpu or auto") from error
    return device

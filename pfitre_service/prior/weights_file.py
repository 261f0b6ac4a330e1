"""One weights file as bytes: a state dict and what it is, in the safetensors format.

The header's metadata, all strings, holds `architecture`, `recipe` (JSON), `license`, `created` (ISO 8601), `version`
(of this package), and `aliases` (JSON): names under which a tensor stands in the state dict a second time, for the
format keeps each tensor once. Nothing here touches a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from pfitre_service.errors import InputError

METADATA = ("architecture", "recipe", "license", "created", "version")
_HALF_MAX = torch.finfo(torch.float16).max
_LENGTH_BYTES = 8


def fits_half(state: Mapping[str, Tensor]) -> bool:
    """Whether every value stays finite in float16.

    Parameters
    ----------
    state
        State dict of a network.

    Returns
    -------
    bool
        True where it does.
    """
    return all(_peak(value) <= _HALF_MAX for value in state.values())


def serialise(state: Mapping[str, Tensor], metadata: Mapping[str, str], *, half: bool) -> bytes:
    """A state dict as the bytes of a weights file.

    Parameters
    ----------
    state
        State dict of a network.
    metadata
        `METADATA` at least, as strings.
    half
        Floating-point tensors become float16; else float32. Others stay as they are.

    Returns
    -------
    bytes
        The whole file.

    Raises
    ------
    InputError
        Values are not finite, or do not fit.
    """
    # Infinity is beyond every limit; NaN compares false with all of them.
    limit = _HALF_MAX if half else torch.finfo(torch.float32).max
    beyond = [name for name, value in state.items() if not _peak(value) <= limit]
    if beyond:
        raise InputError(
            f"weights must be finite and at most {limit:g} in size to be saved; {_first(beyond)} "
            "are not: save them as float32, or, where the training diverged, go back to an earlier checkpoint"
        )
    names, aliases = _apart(state)
    dtype = torch.float16 if half else torch.float32
    tensors = {
        name: state[name].detach().to("cpu", dtype if state[name].is_floating_point() else None, copy=True).contiguous()
        for name in names
    }
    return save_tensors(tensors, {**metadata, "aliases": json.dumps(aliases, sort_keys=True)})


def parse(data: bytes, where: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads the bytes of a weights file.

    Parameters
    ----------
    data
        The whole file.
    where
        Its name, for error messages.

    Returns
    -------
    tuple[dict[str, Tensor], dict[str, str]]
        State dict, floating-point tensors as float32, and metadata.

    Raises
    ------
    InputError
        The bytes are no weights file, or lack some of `METADATA`.
    """
    try:
        tensors = load_tensors(data)
        header = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")])
        metadata = dict(header.get("__metadata__", {}))
        aliases = dict(json.loads(metadata.pop("aliases", "{}")))
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{where} must be a whole safetensors file; it cannot be read: {error}") from error
    absent = [key for key in METADATA if key not in metadata]
    if absent:
        raise InputError(f"{where} must say its {', '.join(METADATA)} in its header; it lacks {', '.join(absent)}")
    if any(name not in tensors for name in aliases.values()):
        raise InputError(f"{where} gives a tensor a second name that it does not hold: {_first(list(aliases.items()))}")
    state = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    return state | {alias: state[name] for alias, name in aliases.items()}, metadata


def differences(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[str, ...]:
    """What keeps a state dict from loading strictly into a network.

    Parameters
    ----------
    state
        State dict that is to be loaded.
    expected
        State dict of the network.

    Returns
    -------
    tuple[str, ...]
        One phrase a matter; empty where it loads.
    """
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    reshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "of a wrong shape": reshaped}
    return tuple(f"{len(names)} {matter}: {_first(names)}" for matter, names in found.items() if names)


def _apart(state: Mapping[str, Tensor]) -> tuple[list[str], dict[str, str]]:
    """Names of the tensors that are stored, and second names of the same memory with the name it is stored under."""
    stored: dict[tuple[object, ...], str] = {}
    aliases: dict[str, str] = {}
    for name, value in state.items():
        memory = (value.device, value.data_ptr(), value.shape, value.stride(), value.dtype)
        if value.numel() and memory in stored:
            aliases[name] = stored[memory]
        else:
            stored[memory if value.numel() else (name,)] = name
    return list(stored.values()), aliases


def _peak(value: Tensor) -> float:
    """Largest size of a value; NaN if one is NaN."""
    return float(value.abs().max()) if value.numel() and value.is_floating_point() else 0.0


def _first(names: list[str] | list[tuple[str, str]], count: int = 3) -> str:
    shown = ", ".join(str(name)[:120] for name in names[:count])
    return shown + (f" and {len(names) - count} more" if len(names) > count else "")

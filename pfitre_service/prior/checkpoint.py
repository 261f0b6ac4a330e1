"""Reads a checkpoint of the published network as its authors' training writes it, and runs nothing that is in it.

The file is what `torch.save` writes: a ZIP archive whose entries are stored uncompressed, among them a pickle that says
how the tensors are called. It is read with `weights_only=True`, which builds tensors and plain containers and refuses
everything else. Archive and checksums are looked at first, so that a damaged file is told from a hostile one.
"""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pfitre_service.errors import InputError
from pfitre_service.prior.weights_file import differences
from pfitre_service.prior.zhao2025 import ALIASES, Zhao2025

_STATE = "net_state_dict"
_EXPECTED = "a checkpoint of the published PFITRE network (.pth, written by torch.save)"
_DAMAGE = (RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, AssertionError, ArithmeticError)
"""What unpickling raises on bytes that are no pickle."""
_ENCRYPTED = 1


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """Reads {'net_state_dict': …} or a bare state dict.

    Parameters
    ----------
    file
        Checkpoint, as `torch.save` writes it (.pth).

    Returns
    -------
    dict[str, Tensor]
        State dict of `Zhao2025`: every name, float32, finite, on the CPU.

    Raises
    ------
    InputError
        The file is no checkpoint, is damaged, holds more than tensors, or holds another network.
    """
    _check_archive(file)
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{file} must hold tensors and plain containers alone; it asks for {_asked_for(error)}. Nothing in it was "
            "run. Get the file from its authors again, and do not open it in any other way"
        ) from error
    except (*_DAMAGE, struct.error) as error:
        raise InputError(f"expected {_EXPECTED}; {file} is damaged ({error}): fetch it again") from error
    return _strict(_state_dict(content, file), file)


def _check_archive(file: Path) -> None:
    if not file.is_file():
        raise InputError(f"expected {_EXPECTED}; there is no file {file}: check the path")
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED for entry in entries):
                raise InputError(
                    f"expected {_EXPECTED}; {file} is a compressed or encrypted archive, which torch.save never "
                    "writes: if the checkpoint is inside, unpack it first"
                )
            if sum(entry.file_size for entry in entries) > file.stat().st_size:
                raise InputError(f"expected {_EXPECTED}; the entries of {file} claim more bytes than it has")
            broken = archive.testzip()
    except zipfile.BadZipFile as error:
        raise InputError(
            f"expected {_EXPECTED}; {file} ({file.stat().st_size} bytes) is something else, or was cut short: "
            "compare its size with the original's and fetch it again"
        ) from error
    except (OSError, EOFError, ValueError, NotImplementedError, struct.error) as error:
        raise InputError(f"expected {_EXPECTED}; {file} cannot be read: {error}") from error
    if broken is not None:
        raise InputError(f"expected {_EXPECTED}; {file} is damaged (checksum of {broken!r}): fetch it again")


def _asked_for(error: pickle.UnpicklingError) -> str:
    name = re.search(r"GLOBAL (\S+)", str(error))
    return f"{name[1]!r}" if name else "something that is neither"


def _state_dict(content: Any, file: Path) -> dict[str, Tensor]:
    state = content.get(_STATE, content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        came = f"keys {', '.join(map(repr, content))[:200]}" if isinstance(content, Mapping) else type(content).__name__
        raise InputError(f"{file} must hold {{{_STATE!r}: state dict}} or a state dict of tensors; it holds {came}")
    return {str(name): value for name, value in state.items()}


def _strict(state: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    with torch.device("meta"):
        expected = Zhao2025().state_dict()
    # Shapes before values: a tensor of a wrong shape may be far larger than the memory that it was made from.
    problems = [*differences(state, expected)] or _wrong_values(state)
    if problems:
        raise InputError(
            f"{file} must hold the published network's {len(expected)} tensors, finite and of its shapes; "
            f"{'; '.join(problems)}. Weights of another network cannot be imported"
        )
    values = {name: value.detach().float() for name, value in state.items()}
    return values | {name: values[first] for name, first in _second_names(values)}


def _wrong_values(state: Mapping[str, Tensor]) -> list[str]:
    problems = [
        f"{name} is {str(value.dtype).removeprefix('torch.')}, {str(value.layout).removeprefix('torch.')}"
        for name, value in state.items()
        if not value.is_floating_point() or value.layout != torch.strided
    ]
    problems = problems or [f"{name} is not finite" for name, value in state.items() if not value.isfinite().all()]
    problems = problems or [
        f"{name} and {first} are one layer and differ"
        for name, first in _second_names(state)
        if not torch.equal(state[name], state[first])
    ]
    return problems[:3]


def _second_names(state: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Each parameter that stands in the state dict twice: its second name and its first."""
    return [
        (name, f"{ALIASES[layer]}.{parameter}")
        for name in state
        for layer, _, parameter in [name.partition(".")]
        if layer in ALIASES
    ]

"""Trained weights by name: those of the package and those that a user has imported or trained.

A folder of weights holds safetensors files and a manifest with the SHA-256 of each. A file is read once, its hash is
checked, and only the bytes that passed are parsed. A user's weights cannot take a name of the package's. torch is
imported only by the functions that need it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pfitre_service.errors import InputError, PfitreError, SettingsError
from pfitre_service.prior.manifest import (
    CheckedWeights,
    Source,
    WeightsInfo,
    check_name,
    read_manifest,
    remedy,
    write_entry,
    write_whole,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

logger = logging.getLogger(__name__)

__all__ = [
    "ARCHITECTURES",
    "PACKAGE_FOLDER",
    "CheckedWeights",
    "WeightsInfo",
    "available",
    "check",
    "default_folder",
    "import_checkpoint",
    "load",
    "register",
    "save",
]

ARCHITECTURES = ("pfitre-s", "pfitre-m", "pfitre-zhao2025")
"""Those that weights may be for."""
PACKAGE_FOLDER = Path(__file__).with_name("weights")
_ZHAO_2025 = "doi:10.1038/s41524-025-01724-0"


def default_folder() -> Path:
    """Where a user's weights lie: `pfitre/weights` in the user's data folder, as the XDG specification has it."""
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    # The specification asks for relative paths to be ignored.
    return (data if data.is_absolute() else Path.home() / ".local" / "share") / "pfitre" / "weights"


def available(folder: Path | None = None) -> tuple[WeightsInfo, ...]:
    """The package's weights and those in the user's `folder` that can be there to load; hashes are not looked at.

    What is broken is left out and logged; `check` lists it with the reason.

    Parameters
    ----------
    folder
        Of a user's weights; None for `default_folder`.

    Returns
    -------
    tuple[WeightsInfo, ...]
        The package's first.
    """
    found, broken = _survey(folder)
    for each in broken:
        logger.warning("weights %s cannot be used: %s", each.name, each.reason)
    return tuple(found)


def load(name: str, folder: Path | None = None) -> tuple[dict[str, Tensor], WeightsInfo]:
    """Reads weights; the file's hash is checked before it is parsed.

    Parameters
    ----------
    name
        As `available` lists it.
    folder
        Of a user's weights; None for `default_folder`.

    Returns
    -------
    tuple[dict[str, Tensor], WeightsInfo]
        State dict, floating-point tensors as float32 on the CPU, and what it belongs to.

    Raises
    ------
    SettingsError
        Nothing has that name.
    InputError
        The file is absent, cut short, not the one that the manifest means, unreadable, or of an unknown architecture.
    """
    from pfitre_service.prior.weights_file import parse

    info = _find(name, folder)
    state, metadata = parse(_read_verified(info), str(info.path))
    if metadata["architecture"] != info.architecture or info.architecture not in ARCHITECTURES:
        raise InputError(
            f"weights {name!r} must be for one of the architectures {', '.join(ARCHITECTURES)}; the manifest says "
            f"{info.architecture!r}, {info.path} says {metadata['architecture']!r}: they may need a newer pfitre"
        )
    return state, info


def save(
    state: Mapping[str, Tensor],
    path: Path,
    *,
    architecture: str,
    recipe: Mapping[str, Any],
    license: str = "BSD-3-Clause",
    half: bool = True,
) -> WeightsInfo:
    """Writes one weights file, whole or not at all; it is loaded by name once it is registered.

    Parameters
    ----------
    state
        State dict of a network.
    path
        The file to write, .safetensors.
    architecture
        One of `ARCHITECTURES`.
    recipe, license
        How it was trained (anything that JSON holds), and the weights' licence.
    half
        float16 in the file; else float32.

    Returns
    -------
    WeightsInfo
        What was written, named after its file.

    Raises
    ------
    InputError
        Values are not finite or, with `half`, too large.
    SettingsError
        The path cannot be written.
    """
    from pfitre_service.prior.weights_file import serialise

    metadata = {
        "architecture": architecture,
        "recipe": json.dumps(dict(recipe), sort_keys=True),
        "license": license,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": version("pfitre-service"),
    }
    data = serialise(state, metadata, half=half)
    write_whole(path, data)
    digest = hashlib.sha256(data).hexdigest()
    return WeightsInfo(path.stem, path, digest, architecture, len(data), _source(path.parent))


def register(info: WeightsInfo, folder: Path, name: str, *, card: Path | None = None) -> WeightsInfo:
    """Makes a weights file loadable by name; an entry of that name is replaced.

    Parameters
    ----------
    info, folder
        The weights file, and the folder it lies in.
    name, card
        By which it is loaded from then on, and its model card, in the same folder.

    Returns
    -------
    WeightsInfo
        The entry.

    Raises
    ------
    SettingsError
        The name cannot be had, or a file lies elsewhere.
    """
    source = _source(folder)
    _check_free(name, source)
    astray = [str(path) for path in (info.path, card) if path and path.resolve().parent != folder.resolve()]
    if astray:
        raise SettingsError(f"weights and card must lie in {folder} to be registered there; got {', '.join(astray)}")
    named = replace(info, name=name, path=folder / info.path.name, source=source, card=card and folder / card.name)
    write_entry(named, folder)
    return named


def import_checkpoint(file: Path, *, name: str | None = None, folder: Path | None = None) -> WeightsInfo:
    """Takes a checkpoint of the published network in among the user's weights. Kept as float16 where that holds its
    values, else as float32. Where it fails, nothing is written.

    Parameters
    ----------
    file
        Checkpoint as its authors' training writes it (.pth).
    name, folder
        By which it is loaded from then on, and where it is kept; None for its file's name and `default_folder`.

    Returns
    -------
    WeightsInfo
        The entry.

    Raises
    ------
    InputError
        The file is no checkpoint of the published network.
    SettingsError
        The name or the folder cannot be had.
    """
    from pfitre_service.prior.checkpoint import read_checkpoint
    from pfitre_service.prior.weights_file import fits_half
    from pfitre_service.prior.zhao2025 import ARCHITECTURE

    name = _name_for(file) if name is None else name
    folder = default_folder() if folder is None else folder
    _check_free(name, _source(folder))
    state = read_checkpoint(file)
    with file.open("rb") as opened:
        recipe = {
            "imported_from": file.name,
            "sha256": hashlib.file_digest(opened, "sha256").hexdigest(),
            "publication": _ZHAO_2025,
        }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"cannot make the folder {folder} for weights: {error}; give another one") from error
    info = save(
        state,
        folder / f"{name}.safetensors",
        architecture=ARCHITECTURE,
        recipe=recipe,
        license="as the checkpoint's authors say",
        half=fits_half(state),
    )
    logger.info("imported %s as weights %s", file, name)
    return register(info, folder, name)


def check(folder: Path | None = None, *, build: Callable[[str], nn.Module]) -> tuple[CheckedWeights, ...]:
    """Looks at all weights: manifest, length, hash, format, architecture, and whether a fresh network would take the
    state dict strictly.

    Parameters
    ----------
    folder
        Of a user's weights; None for `default_folder`.
    build
        A fresh network of an architecture, such as `architectures.build`.

    Returns
    -------
    tuple[CheckedWeights, ...]
        One for each, the package's first.
    """
    found, broken = _survey(folder)
    return (*(_checked(info, folder, build) for info in found), *broken)


def _checked(info: WeightsInfo, folder: Path | None, build: Callable[[str], nn.Module]) -> CheckedWeights:
    import torch

    from pfitre_service.prior.weights_file import differences

    reason = ""
    try:
        state, _ = load(info.name, folder)
        with torch.device("meta"):
            expected = build(info.architecture).state_dict()
        reason = "; ".join(differences(state, expected))
    except PfitreError as error:
        reason = str(error)
    return CheckedWeights(info.name, info.path, info.source, ok=not reason, reason=reason)


def _survey(folder: Path | None) -> tuple[list[WeightsInfo], list[CheckedWeights]]:
    """What can be there to load, the package's first, and what is broken; see `read_manifest`."""
    folder = default_folder() if folder is None else folder
    found, broken = read_manifest(PACKAGE_FOLDER, "package")
    if _source(folder) == "package":
        return found, broken
    packaged = {info.name for info in found}
    users, users_broken = read_manifest(folder, "user")
    for info in users:
        if info.name in packaged:
            reason = f"the package has weights named {info.name!r}; register these under another name"
            users_broken.append(CheckedWeights(info.name, info.path, "user", ok=False, reason=reason))
        else:
            found.append(info)
    return found, [*broken, *users_broken]


def _find(name: str, folder: Path | None) -> WeightsInfo:
    found, broken = _survey(folder)
    for info in found:
        if info.name == name:
            return info
    for each in broken:
        if each.name == name:
            raise InputError(f"weights {name!r} cannot be used: {each.reason}")
    choices = ", ".join(info.name for info in found) or "there are none"
    raise SettingsError(
        f"there are no weights {name[:120]!r}; to choose from: {choices}. `pfitre weights check` tells of broken ones"
    )


def _read_verified(info: WeightsInfo) -> bytes:
    try:
        data = info.path.read_bytes()
    except OSError as error:
        raise InputError(f"weights {info.name!r} cannot be read: {error}; {remedy(info.source)}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != info.sha256:
        raise InputError(
            f"weights {info.name!r} must have SHA-256 {info.sha256}, as in the manifest; {info.path} has {found}: "
            f"damaged or replaced, so it was not opened; {remedy(info.source)}"
        )
    return data


def _check_free(name: str, source: Source) -> None:
    check_name(name)
    if source == "user" and any(info.name == name for info in read_manifest(PACKAGE_FOLDER, "package")[0]):
        raise SettingsError(f"the package has weights named {name!r} itself; choose another name")


def _source(folder: Path) -> Source:
    return "package" if folder.resolve() == PACKAGE_FOLDER.resolve() else "user"


def _name_for(file: Path) -> str:
    name = re.sub(r"[^a-z0-9._-]+", "-", file.stem.lower()).strip("._-")[:64]
    if not name:
        raise SettingsError(f"no weights name can be made of {file.name!r}: give one")
    return name

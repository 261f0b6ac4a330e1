"""`weights.json`: which weights files a folder holds, and what each must be.

    {"weights": [{"name": …, "file": …, "sha256": …, "bytes": …, "architecture": …, "card": model card's file or null}]}

Every name in it is checked before it is joined to the folder, so that no entry reaches outside.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pfitre_service.errors import InputError, SettingsError

MANIFEST = "weights.json"
Source = Literal["package", "user"]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class WeightsInfo:
    """One weights file, as the manifest has it; nothing of it has been checked against the file."""

    name: str
    """By which they are loaded."""
    path: Path
    """The weights file."""
    sha256: str
    """Of the whole file, 64 lower-case hexadecimal digits."""
    architecture: str
    """One of `ARCHITECTURES`."""
    bytes: int
    """Length of the file."""
    source: Source
    """package or user."""
    card: Path | None = None
    """The model card, where there is one."""


@dataclass(frozen=True)
class CheckedWeights:
    """What a check found; `ok` without a reason, or the reason why they cannot be used."""

    name: str
    """By which they would be loaded."""
    path: Path
    """The weights file, or the manifest where that is at fault."""
    source: Source
    """package or user."""
    ok: bool
    """Whether they can be used."""
    reason: str = ""
    """Why not; empty where they can."""


def check_name(name: str) -> str:
    """Checks the form of a weights name.

    Parameters
    ----------
    name
        1 to 64 lower-case letters, digits, '.', '_' or '-', beginning with a letter or digit.

    Returns
    -------
    str
        The name itself.

    Raises
    ------
    SettingsError
        The name has another form.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"a weights name must be 1 to 64 lower-case letters, digits, '.', '_' or '-' and start with a letter or "
            f"digit; got {name[:120]!r}"
        )
    return name


def read_manifest(folder: Path, source: Source) -> tuple[list[WeightsInfo], list[CheckedWeights]]:
    """Reads the manifest of a folder; where there is none, there are no entries.

    Parameters
    ----------
    folder
        Folder of weights.
    source
        Whose folder it is: package or user.

    Returns
    -------
    tuple[list[WeightsInfo], list[CheckedWeights]]
        Entries whose file is there in its full length, and those that cannot be used.
    """
    try:
        entries = _entries(folder)
    except InputError as error:
        return [], [CheckedWeights(MANIFEST, folder / MANIFEST, source, ok=False, reason=str(error))]
    good: dict[str, WeightsInfo] = {}
    broken = []
    for entry in entries:
        name = str(entry.get("name", "?"))[:64] if isinstance(entry, dict) else "?"
        try:
            info = _info(entry, folder, source)
            if name in good:
                raise InputError(f"{folder / MANIFEST} names {name!r} twice: delete the entry that is not wanted")
            good[name] = info
        except InputError as error:
            broken.append(CheckedWeights(name, folder / MANIFEST, source, ok=False, reason=str(error)))
    return list(good.values()), broken


def write_entry(info: WeightsInfo, folder: Path) -> None:
    """Puts `info`, whose file must lie in `folder`, into the folder's manifest in place of an entry of that name.

    Parameters
    ----------
    info
        The weights; the file must lie in `folder`.
    folder
        Folder of weights.

    Raises
    ------
    InputError
        The manifest cannot be read, or the entry does not fit the file.
    SettingsError
        The manifest cannot be written.
    """
    entry = {
        "name": info.name,
        "file": info.path.name,
        "sha256": info.sha256,
        "bytes": info.bytes,
        "architecture": info.architecture,
        "card": info.card.name if info.card else None,
    }
    _info(entry, folder, info.source)
    others = [other for other in _entries(folder) if not (isinstance(other, dict) and other.get("name") == info.name)]
    document = json.dumps({"weights": [*others, entry]}, indent=2) + "\n"
    write_whole(folder / MANIFEST, document.encode())


def write_whole(path: Path, data: bytes) -> None:
    """Writes the file so that a reader, or a crash, meets the old one or the new one.

    Parameters
    ----------
    path
        File to write; its folder must exist.
    data
        All of its content.

    Raises
    ------
    SettingsError
        It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error}; give a folder that can be written to") from error
    finally:
        temporary.unlink(missing_ok=True)


def _entries(folder: Path) -> list[Any]:
    path = folder / MANIFEST
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise InputError(f"{path} must be a JSON file that lists weights; it cannot be read: {error}") from error
    entries = document.get("weights") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise InputError(f'{path} must be an object with a list "weights"; delete it and add the weights again')
    return entries


def _info(entry: Any, folder: Path, source: Source) -> WeightsInfo:
    """Raises InputError for an entry that is malformed, or whose file is absent or of another length."""
    where = f"an entry of {folder / MANIFEST}"
    if not isinstance(entry, dict):
        raise InputError(f"{where} must be an object; got {type(entry).__name__}")
    name = _text(entry, "name", _NAME, where)
    path = folder / _text(entry, "file", _FILE, where)
    size = entry.get("bytes")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InputError(f"{where} must give the file's length in 'bytes'; got {str(size)[:60]!r}")
    try:
        found = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path} of {name!r} cannot be read: {error}; {remedy(source)}") from error
    if found != size:
        raise InputError(f"{path} must be {size} bytes long and is {found}: cut short or replaced; {remedy(source)}")
    card = None if entry.get("card") is None else folder / _text(entry, "card", _FILE, where)
    sha256 = _text(entry, "sha256", _SHA256, where)
    return WeightsInfo(name, path, sha256, _text(entry, "architecture", _NAME, where), size, source, card)


def _text(entry: dict[str, Any], key: str, pattern: re.Pattern[str], where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InputError(f"{where} must have {key!r} of the form {pattern.pattern}; got {str(value)[:120]!r}")
    return value


def remedy(source: Source) -> str:
    """What to do about a file that is not what it should be.

    Parameters
    ----------
    source
        Whose file it is: package or user.

    Returns
    -------
    str
        A phrase, for the end of an error message.
    """
    return "install the package again" if source == "package" else "import or train them again"

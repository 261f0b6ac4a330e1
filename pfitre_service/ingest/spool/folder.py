"""The spool's folder: segments named by their first record, one writer, one reader, a bell between the two.

0000000000000000.spool, 0000000000001234.spool, ...    records, only ever appended to
position.json    the reader's: all before it is settled
bell             a named pipe: the writer rings it after each record, so the reader need not look again and again
writer.lock, reader.lock
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pfitre_service.errors import ServiceError

_POSITION = "position.json"
_LOCK_S = 1.0
"""Whoever looks whether a lock is held holds it for a moment."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far all that came of the records is stored."""

    number: int = 0
    """Of the first record that a reader must read again."""
    done: tuple[str, ...] = ()
    """Runs that begin behind it and are stored whole all the same: what is heard of them is not read again."""


class SpoolFolder:
    """Raises ServiceError where the folder cannot be made or written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # as whoever makes the data folder does
            path.mkdir(mode=0o700, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkfifo(path / "bell")
            # For reading and writing: opening never waits for the other side, and its death is not the end of the pipe.
            self._bell = os.open(path / "bell", os.O_RDWR | os.O_NONBLOCK)
        except OSError as error:
            raise ServiceError(f"the spool's folder {path} cannot be used: {error}") from error

    def segments(self) -> list[tuple[int, Path]]:
        """(first record, file) of each segment, oldest first."""
        return sorted((int(file.stem), file) for file in self.path.glob("*.spool"))

    def segment(self, first: int) -> Path:
        return self.path / f"{first:016d}.spool"

    def nbytes(self) -> int:
        """Of all segments."""
        total = 0
        for _, file in self.segments():
            with contextlib.suppress(FileNotFoundError):  # the reader has freed it meanwhile
                total += file.stat().st_size
        return total

    def limit(self, most_bytes: int) -> int:
        """Bytes that the spool may have now: `most_bytes`, or half of what the disk has left for it and all others."""
        held = self.nbytes()
        return min(most_bytes, (held + shutil.disk_usage(self.path).free) // 2)

    @contextlib.contextmanager
    def locked(self, role: Literal["writer", "reader"]) -> Iterator[None]:
        """Be the only one of that role, until the block or the process ends. Raises ServiceError where there is one."""
        with (self.path / f"{role}.lock").open("w") as file:
            ends_at = time.monotonic() + _LOCK_S
            while not _lock(file.fileno()):
                if time.monotonic() > ends_at:
                    raise ServiceError(
                        f"the spool in {self.path} has a {role} already: does another service run there?"
                    )
                time.sleep(0.02)
            yield

    def has_writer(self) -> bool:
        """Whether somebody may append to it now."""
        with (self.path / "writer.lock").open("w") as file:
            return not _lock(file.fileno())

    def position(self) -> Position:
        """As last saved; the beginning where there is none, or none that can be read."""
        try:
            saved = json.loads((self.path / _POSITION).read_text())
            return Position(int(saved["number"]), tuple(map(str, saved["done"])))
        except (OSError, ValueError, KeyError, TypeError):  # a power cut may leave it empty; reading again does no harm
            return Position()

    def save(self, position: Position) -> None:
        """Replaces the position at once, or not at all."""
        aside = self.path / f"{_POSITION}.new"
        aside.write_text(json.dumps({"number": position.number, "done": position.done}))
        aside.replace(self.path / _POSITION)

    def ring(self) -> None:
        """There is something to be read."""
        with contextlib.suppress(BlockingIOError):  # it has rung often enough
            os.write(self._bell, b"!")

    def wait_for_bell(self, timeout_s: float) -> None:
        """Returns when it has rung since the last call, or after `timeout_s`."""
        poller = select.poll()
        poller.register(self._bell, select.POLLIN)
        if poller.poll(1000 * timeout_s):
            os.read(self._bell, 1 << 16)

    def close(self) -> None:
        os.close(self._bell)


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

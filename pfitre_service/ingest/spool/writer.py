"""The writing end of the spool: a message is in the file when `append` returns, and on the disk a stated time later.

A process that is killed loses nothing that `append` has returned from: the system keeps it. What a power cut may take
is what came in the last `sync_ms`, and while the disk takes to sync it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from pfitre_service.errors import ServiceError
from pfitre_service.ingest.spool.folder import SpoolFolder
from pfitre_service.ingest.spool.records import Damage, Record, pack, read

logger = logging.getLogger(__name__)

_SEGMENT_BYTES = 64 << 20
_SEGMENTS = 16
"""At least so many make a full spool, so that what is settled can be freed."""
_LOOK_S = 0.2


class SpoolFullError(ServiceError):
    """There is no room for a message now: it was not kept."""


class SpoolWriter:
    """The only writer of the spool in `folder`; a context manager. Belongs to one thread.

    Parameters
    ----------
    folder
        Made where it is not there.
    most_bytes
        The spool grows to this, or to half of the disk's free space, if that is less.
    sync_ms
        So often, while messages come, what was written is synced to the disk.

    Raises
    ------
    ServiceError
        The folder cannot be used, or has a writer already.
    """

    def __init__(self, folder: Path, *, most_bytes: int, sync_ms: int) -> None:
        self._most_bytes, self._sync_s = most_bytes, sync_ms / 1000
        self._segment_bytes = min(_SEGMENT_BYTES, max(1, most_bytes // _SEGMENTS))
        self._folder = SpoolFolder(folder)
        self._held = contextlib.ExitStack()
        self._held.callback(self._folder.close)
        try:
            self._held.enter_context(self._folder.locked("writer"))
            self.number = max(self._mend(), self._folder.position().number)
            """Of the next record."""
        except BaseException:
            self._held.close()
            raise
        self._file = -1
        self._size = 0
        self._room, self._full_at = 0, -_LOOK_S
        """Bytes that may still be written without another look; when there was too little."""
        self.problem = ""
        """Why what is written is not sure to be on the disk; empty while it is."""
        self.longest_unsynced_s = 0.0
        """That anything was in the file and not yet on the disk."""
        self._condition = threading.Condition()
        self._since: float | None = None
        """When the first message came that is not yet on the disk."""
        self._ended: list[int] = []
        """Segments that are full, to be synced and closed."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._sync, name="pfitre-spool-sync", daemon=True)
        self._thread.start()

    @property
    def nbytes(self) -> int:
        """Of all that is kept now."""
        return self._folder.nbytes()

    def append(self, source: str, parts: Sequence[bytes]) -> None:
        """Keep a message.

        Raises
        ------
        SpoolFullError
            The spool has its full size, or the disk takes no more; nothing of the message is kept.
        """
        pieces = pack(self.number, time.time(), source.encode(), parts)
        nbytes = sum(map(len, pieces))
        self._check_room(nbytes)
        try:
            if self._file < 0 or self._size >= self._segment_bytes:
                self._begin_segment()
            _write(self._file, pieces)
        except OSError as error:
            if self._file >= 0:
                os.ftruncate(self._file, self._size)
            raise SpoolFullError(f"the spool in {self._folder.path} cannot be written: {error}") from error
        self._size += nbytes
        self._room -= nbytes
        self.number += 1
        with self._condition:
            self._since = self._since or time.monotonic()
            self._condition.notify()
        self._folder.ring()

    def close(self) -> None:
        """Sync what is written, and give the spool back. May be called twice."""
        with self._condition:
            self._closing.set()
            self._condition.notify()
        self._thread.join()
        self._held.close()

    def __enter__(self) -> SpoolWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _mend(self) -> int:
        """Cut off what a crash left half written, and say so; the number of the next record."""
        segments = self._folder.segments()
        if not segments:
            return 0
        number, path = segments[-1]
        file = os.open(path, os.O_RDWR)
        try:
            offset, size = 0, os.fstat(file).st_size
            while (found := read(file, offset)) is not None:
                offset = found.end
                number = found.number + 1 if isinstance(found, Record) else number + isinstance(found, Damage)
            if offset < size:
                logger.warning(
                    "the spool's record %d was cut off by a crash: %d bytes of it are lost", number, size - offset
                )
                os.ftruncate(file, offset)
        finally:
            os.close(file)
        return number

    def _check_room(self, nbytes: int) -> None:
        if nbytes > self._room and time.monotonic() - self._full_at >= _LOOK_S:
            # A sixteenth of it at a time, for others write to the same disk.
            free = self._folder.limit(self._most_bytes) - self._folder.nbytes()
            self._room = min(free, max(self._segment_bytes, nbytes))
            self._full_at = -_LOOK_S if nbytes <= self._room else time.monotonic()
        if nbytes > self._room:
            raise SpoolFullError(
                f"the spool in {self._folder.path} is full ({self._folder.nbytes() >> 20} MiB): what was heard is not "
                "stored as fast as it comes, or not at all; see ingest"
            )

    def _begin_segment(self) -> None:
        before = self._file
        path = self._folder.segment(self.number)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self._size = os.fstat(self._file).st_size
        if before >= 0:
            with self._condition:
                self._ended.append(before)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # or a power cut takes the name
        finally:
            os.close(folder)

    def _sync(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._since is not None or self._closing.is_set())
            self._closing.wait(self._sync_s)
            with self._condition:
                since, self._since = self._since, None
                ended, self._ended = self._ended, []
                current = self._file
            for file in (*ended, *([current] if since is not None else [])):
                self._sync_one(file)
            for file in ended:
                os.close(file)
            if since is None:
                break
            self.longest_unsynced_s = max(self.longest_unsynced_s, time.monotonic() - since)
        if self._file >= 0:
            os.close(self._file)

    def _sync_one(self, file: int) -> None:
        try:
            os.fdatasync(file)
        except OSError as error:
            if not self.problem:
                logger.error("the spool in %s cannot be synced: %s", self._folder.path, error)
            self.problem = f"the spool is written, but the disk does not confirm it: {error}"
        else:
            self.problem = ""


def _write(file: int, pieces: Sequence[bytes]) -> None:
    """All pieces; a disk that is nearly full takes a part of them before it refuses."""
    written = os.writev(file, pieces)
    rest = memoryview(b"".join(pieces))[written:] if written < sum(map(len, pieces)) else memoryview(b"")
    while rest:
        rest = rest[os.write(file, rest) :]

"""The reading end of the spool: records in their order as they come, from the first one that is not settled."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from pfitre_service.ingest.spool.folder import Position, SpoolFolder
from pfitre_service.ingest.spool.records import Damage, Record, read

logger = logging.getLogger(__name__)

_IN_HAND = struct.Struct("<qq")
_NONE = -1
_DEATHS = 3
"""A record that so many processes died of, one after the other, is left out."""


class SpoolReader:
    """The only reader of the spool in `folder`, until it is closed; a context manager. Belongs to one thread.

    Raises
    ------
    ServiceError
        The folder cannot be used, or has a reader already.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = SpoolFolder(folder)
        self._held = contextlib.ExitStack()
        self._held.callback(self._folder.close)
        try:
            self._held.enter_context(self._folder.locked("reader"))
            self._hand = os.open(folder / "in-hand", os.O_RDWR | os.O_CREAT, 0o666)
            self._held.callback(os.close, self._hand)
        except BaseException:
            self._held.close()
            raise
        self.position = self._folder.position()
        """As saved last."""
        self._records = _Records(self._folder, self.position.number)
        self._held.callback(self._records.close)
        saved = os.pread(self._hand, _IN_HAND.size, 0)
        record, deaths = _IN_HAND.unpack(saved) if len(saved) == _IN_HAND.size else (_NONE, 0)
        self._deadly, self._deaths = record, deaths + 1
        """The record that the reader before this one died of, and how many did, one after the other."""

    @property
    def number(self) -> int:
        """Of the next record."""
        return self._records.number

    @property
    def lost(self) -> int:
        """Records that were damaged, or not there."""
        return self._records.lost

    @property
    def has_writer(self) -> bool:
        """Whether somebody may append to it now."""
        return self._folder.has_writer()

    @property
    def nbytes(self) -> int:
        """Of all that is kept now."""
        return self._folder.nbytes()

    def limit(self, most_bytes: int) -> int:
        """As `SpoolFolder.limit`."""
        return self._folder.limit(most_bytes)

    def next(self, timeout_s: float) -> Record | None:
        """The next record; None where none came for `timeout_s`."""
        record = self._records.next()
        if record is None:
            self._folder.wait_for_bell(timeout_s)
            record = self._records.next()
        return record

    @contextlib.contextmanager
    def in_hand(self, record: Record) -> Iterator[bool]:
        """While the block works on a record; False where it must not, for several processes have died of it."""
        deaths = self._deaths if record.number == self._deadly else 0
        if deaths >= _DEATHS:
            logger.error(
                "the spool's record %d is left out: %d processes ended while it was in their hands",
                record.number,
                deaths,
            )
            yield False
            return
        self._note_in_hand(record.number, deaths)
        yield True
        self._note_in_hand(_NONE, 0)

    def unsettled(self, holding: bytes) -> Iterator[Record]:
        """What is there now and not settled, of messages that have `holding` near their beginning."""
        records = _Records(self._folder, self.position.number)
        try:
            while (record := records.next(holding)) is not None:
                if record.message:
                    yield record
        finally:
            records.close()

    def settle(self, number: int, done: Sequence[str] = ()) -> None:
        """All before record `number` is stored: free its segments. `done`: as in `Position`."""
        position = Position(max(number, self.position.number), tuple(done))
        if position == self.position:
            return
        self.position = position
        self._folder.save(position)
        segments = self._folder.segments()
        for (_, path), (following, _) in itertools.pairwise(segments):
            if following <= position.number:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give the spool back. May be called twice."""
        self._held.close()

    def __enter__(self) -> SpoolReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _note_in_hand(self, number: int, deaths: int) -> None:
        os.pwrite(self._hand, _IN_HAND.pack(number, deaths), 0)


class _Records:
    """Goes through the records from `number` on, over segments and damage."""

    def __init__(self, folder: SpoolFolder, number: int) -> None:
        self._folder = folder
        self.number = number
        self.lost = 0
        self._first = -1
        self._file = -1
        self._offset = 0

    def next(self, holding: bytes = b"") -> Record | None:
        """The next record; None where it has not come yet."""
        while True:
            found = self._read(holding)
            if found is None:
                following = self._following()
                if following is None:
                    return None
                found = self._read(holding)  # it may have come just before the segment behind it was begun
                if found is None:
                    self._open(*following)
                    continue
            self._offset = found.end
            if isinstance(found, Damage) or found.number < self.number:
                continue
            if found.number > self.number:
                self._tell_lost(found.number)
            self.number = found.number + 1
            return found

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read(self, holding: bytes) -> Record | Damage | None:
        return None if self._file < 0 else read(self._file, self._offset, holding)

    def _following(self) -> tuple[int, Path] | None:
        """The segment after the current one; at first the one that holds the record."""
        segments = self._folder.segments()
        if self._file >= 0:
            return next((one for one in segments if one[0] > self._first), None)
        before = [one for one in segments if one[0] <= self.number]
        return next(iter(before[-1:] or segments), None)

    def _open(self, first: int, path: Path) -> None:
        self.close()
        self._file, self._first, self._offset = os.open(path, os.O_RDONLY), first, 0

    def _tell_lost(self, found: int) -> None:
        self.lost += found - self.number
        logger.error(
            "the spool's records %d to %d are damaged or gone: %d messages are lost (before byte %d of %s)",
            self.number,
            found - 1,
            found - self.number,
            self._offset,
            self._folder.segment(self._first).name,
        )

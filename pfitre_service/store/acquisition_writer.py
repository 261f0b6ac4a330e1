"""The receiving side's writer: frames into their arrays first, then their rows into `frames`.

The row is the commit point. Frames without a row do not count; after a crash the writer goes on at the number of rows
and overwrites what lies beyond.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import StoreError, StoreMissingError, StoreUnavailableError
from pfitre_service.model import Frame, Role, TomogramKey
from pfitre_service.store import layout
from pfitre_service.store.frame_array import FrameArray, create_frames, open_frames
from pfitre_service.store.frame_rows import read_identities
from pfitre_service.store.layout import AcquisitionState, FrameId
from pfitre_service.store.tiled_http import nodes
from pfitre_service.store.tiled_http.connection import TiledHttp

logger = logging.getLogger(__name__)

# Frames whose rows are written in one go. Each go costs three requests, 0.1 s of Tiled's time or more, however many
# frames it has: a writer that is behind catches up by larger ones.
_BATCH_BYTES = 256 << 20


class FramesRefusedError(StoreError):
    """Frames that do not fit the array they belong to. All others of the same call were stored."""

    def __init__(self, message: str, frames: Sequence[Frame], *, stored: int, duplicates: int) -> None:
        super().__init__(message)
        self.frames = tuple(frames)
        self.stored = stored
        self.duplicates = duplicates


@dataclass(frozen=True, slots=True)
class Appended:
    """What one call of `append` did."""

    stored: int
    duplicates: int
    """Frames that were stored before: same run uid, stream, seq_num and part."""


_Kind = tuple[tuple[int, int], np.dtype[Any]]
"""What every frame of one array has in common: (row, column) and dtype."""


class AcquisitionWriter:
    """The only writer of one tomogram's frames. Not safe to share between threads.

    After StoreUnavailableError the same call may simply be made again: the writer first looks up what was stored.
    """

    def __init__(self, wire: TiledHttp, key: TomogramKey, data_dir: Path | None) -> None:
        self.key = key
        self._wire = wire
        self._data_dir = data_dir
        self._arrays: dict[Role, FrameArray] = {}
        self._rows: dict[Role, int] = dict.fromkeys(layout.ARRAY_OF_ROLE, 0)
        self._ids: set[FrameId] = set()
        self._partitions = 0  # of `frames`, as far as the catalogue is known to know of them
        self._in_step = False
        self._unconfirmed: set[FrameId] = set()  # of a call that failed: stored perhaps, and not yet reported as stored

    def append(self, frames: Sequence[Frame]) -> Appended:
        """Store `frames` in their order; those stored before are skipped and counted.

        Raises:
            FramesRefusedError: some have another shape or dtype than their array; all others were stored.
            StoreUnavailableError: not stored, or not all; call again with the same frames.
            StoreError: the catalogue refuses.
        """
        self._get_in_step()
        names = {layout.frame_id(frame) for frame in frames}
        late = len(names & self._ids & self._unconfirmed)
        fresh = self._without_duplicates(frames)
        fitting, refused, reasons = self._fitting(fresh)
        self._unconfirmed |= {layout.frame_id(frame) for frame in fitting}
        self._in_step = False  # until the last row is known to be stored
        for batch in _batches(fitting):
            self._store(batch)
        if fitting or late:
            self.update(counts=self._rows)
        self._in_step = True
        self._unconfirmed.clear()
        done = Appended(stored=len(fitting) + late, duplicates=len(frames) - len(fresh) - late)
        if refused:
            raise FramesRefusedError("; ".join(reasons), refused, stored=done.stored, duplicates=done.duplicates)
        return done

    def update(self, **fields: Any) -> None:
        """Set fields of the acquisition's metadata, such as `expected_frames` or `documents`."""
        nodes.patch_metadata(self._wire, layout.node_path(self.key, layout.FRAMES), fields)

    def withdraw(self, run_uid: str) -> None:
        """The projections of a run count no more: its rows are named in the metadata's `withdrawn`."""
        self._withdraw(lambda role, frame: role == "projection" and frame[0] == run_uid)

    def retake(self, run_uid: str, stream: str, seq_num: int, event_uid: str) -> None:
        """Of an event that was taken again, frames of other takes than `event_uid` count no more: as `withdraw`."""
        self._get_in_step()
        event = (run_uid, stream, seq_num)
        self._withdraw(lambda role, frame: frame[:3] == event and frame[4] != event_uid)

    def _withdraw(self, is_gone: Callable[[Role, FrameId], bool]) -> None:
        """Name the rows of frames that count no more in the metadata."""
        path = layout.node_path(self.key, layout.FRAMES)
        known = layout.withdrawn_rows(nodes.get_node(self._wire, path).metadata)
        gone = {role: set(rows) for role, rows in known.items()}
        for role, row, frame in zip(*read_identities(self._wire, self.key), strict=True):
            if is_gone(role, frame):
                gone[role].add(row)
        self.update(**{layout.WITHDRAWN[role]: sorted(rows) for role, rows in gone.items() if rows != known[role]})

    def close(self, state: AcquisitionState, reason: str | None, counts: Mapping[str, int] | None = None) -> None:
        """Say how the acquisition ended; `counts` is whatever the receiving side counted (late, lost, refused)."""
        self._get_in_step()
        received = dict(counts or {})
        self.update(state=state, reason=reason, received=received, counts=self._rows, closed=time.time())
        logger.info("acquisition %s (%s), stored %s", state, reason or "no reason given", self._rows)

    def give_up(self, reason: str) -> None:
        """Say that the acquisition failed, without a look at its frames, which may be what cannot be read."""
        self.update(state="failed", reason=reason, closed=time.time())

    def _get_in_step(self) -> None:
        """Learn from the store what is there: at the start, and after every failure."""
        if self._in_step:
            return
        roles, _, ids = read_identities(self._wire, self.key)
        self._ids = set(ids)
        self._rows = {role: roles.count(role) for role in layout.ARRAY_OF_ROLE}
        self._partitions = 0
        self._arrays = {}
        for role in layout.ARRAY_OF_ROLE:
            with suppress(StoreMissingError):
                self._arrays[role] = open_frames(self._wire, self.key, role, self._data_dir)
        self._in_step = True

    def _without_duplicates(self, frames: Sequence[Frame]) -> list[Frame]:
        fresh: dict[FrameId, Frame] = {}
        for frame in frames:
            name = layout.frame_id(frame)
            if name not in self._ids:
                fresh.setdefault(name, frame)
        return list(fresh.values())

    def _fitting(self, frames: Sequence[Frame]) -> tuple[list[Frame], list[Frame], list[str]]:
        """Frames that fit, frames that do not, and why not. The first frame of a role sets its array's kind."""
        fitting, refused, reasons = [], [], []
        expected: dict[Role, _Kind] = {role: (array.shape, array.dtype) for role, array in self._arrays.items()}
        for frame in frames:
            reason = _misfit(frame, expected)
            if reason is None:
                fitting.append(frame)
            else:
                refused.append(frame)
                reasons.append(f"tomogram {self.key}, run {frame.run_uid}, {frame.role} {frame.seq_num}: {reason}")
        return fitting, refused, reasons

    def _store(self, batch: Sequence[Frame]) -> None:
        """Images of every role, then their rows in one go."""
        rows: list[int] = []
        ordered: list[Frame] = []
        for role in layout.ARRAY_OF_ROLE:
            frames = [frame for frame in batch if frame.role == role]
            if not frames:
                continue
            first = self._rows[role]
            self._array(role, frames[0].image).write([_native(frame.image) for frame in frames], first)
            rows += range(first, first + len(frames))
            ordered += frames
        self._append_rows(layout.frame_columns(ordered, rows))
        for frame in ordered:
            self._rows[frame.role] += 1
            self._ids.add(layout.frame_id(frame))

    def _append_rows(self, columns: Mapping[str, Sequence[Any]]) -> None:
        path = layout.node_path(self.key, layout.FRAMES)
        partition = layout.partition_of(sum(self._rows.values()))
        if partition >= self._partitions:
            self._announce_partitions(path, partition + 1)
        schema = layout.table_schema(layout.FRAME_COLUMNS)
        nodes.append_to_table(self._wire, path, columns, schema, partition=partition)

    def _announce_partitions(self, path: str, count: int) -> None:
        try:
            nodes.announce_partitions(self._wire, path, count)
        except StoreUnavailableError:
            raise
        except StoreError as error:
            # A facility's server may not let this key change what it knows of a table. The rows are there all the same.
            logger.warning("Tiled's own clients will not see all rows of `frames`: %s", error)
        self._partitions = count

    def _array(self, role: Role, image: NDArray[Any]) -> FrameArray:
        """The array of `role`, which is made for frames like `image` where there is none."""
        if role not in self._arrays:
            created = create_frames(self._wire, self.key, role, _native(image), self._data_dir)
            if created is None:
                raise StoreUnavailableError(f"tomogram {self.key}: another writer made its {role} array meanwhile")
            self._arrays[role] = created
        return self._arrays[role]


def _native(image: NDArray[Any]) -> NDArray[Any]:
    """Same values, this machine's byte order."""
    return np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("="))


def _misfit(frame: Frame, expected: dict[Role, _Kind]) -> str | None:
    """Why the frame cannot go into its array; None where it can. Fills in what the first frame of a role settles."""
    image = frame.image
    if frame.role not in layout.ARRAY_OF_ROLE:
        return f"its role is {frame.role!r}, none of {', '.join(layout.ARRAY_OF_ROLE)}"
    if image.ndim != 2 or 0 in image.shape or image.dtype.kind not in "biuf":
        return f"a frame must be two-dimensional and real; got shape {image.shape} of {image.dtype}"
    kind = ((image.shape[0], image.shape[1]), image.dtype.newbyteorder("="))
    wanted = expected.setdefault(frame.role, kind)
    if kind == wanted:
        return None
    return f"the array holds frames of {_words(wanted)}; this one has {_words(kind)}"


def _words(kind: _Kind) -> str:
    (rows, columns), dtype = kind
    return f"{rows} x {columns} pixels of {dtype}"


def _batches(frames: Sequence[Frame]) -> Iterator[list[Frame]]:
    """Runs of frames of at most `_BATCH_BYTES`, one at least."""
    batch: list[Frame] = []
    size = 0
    for frame in frames:
        if batch and size + frame.image.nbytes > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(frame)
        size += frame.image.nbytes
    if batch:
        yield batch

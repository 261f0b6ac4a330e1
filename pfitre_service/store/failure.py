"""The ways in which the catalogue fails, below `StoreError`.

StoreError
├── StoreUnavailableError    not now: out of reach, too slow, disk full; the same call may work later
│   └── StoreBrokenError     the server answers that it failed at this very request
├── StoreMissingError        there is no such node
├── StoreConflictError       there is such a node already
├── StoreForbiddenError      the key, or its absence, does not allow it
└── FramesRefusedError       some frames do not fit their array; the others were stored
"""

from __future__ import annotations

from collections.abc import Sequence

from pfitre_service.errors import StoreError
from pfitre_service.model import Frame


class StoreUnavailableError(StoreError):
    """The catalogue cannot do it now; worth another try."""


class StoreBrokenError(StoreUnavailableError):
    """The server answers that it failed at this very request. Perhaps it always will."""


class StoreMissingError(StoreError):
    """There is no such node in the catalogue."""


class StoreConflictError(StoreError):
    """A node of this name is there already."""


class StoreForbiddenError(StoreError):
    """The server wants another key than it was given, or any at all."""


class FramesRefusedError(StoreError):
    """Frames that do not fit the array they belong to. All others of the same call were stored."""

    def __init__(self, message: str, frames: Sequence[Frame], *, stored: int, duplicates: int) -> None:
        super().__init__(message)
        self.frames = tuple(frames)
        self.stored = stored
        self.duplicates = duplicates

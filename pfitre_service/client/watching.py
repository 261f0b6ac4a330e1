"""Following one tomogram: one value for each volume that appears in the catalogue, until there will be no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pfitre_service.errors import StoreError, StoreMissingError, StoreUnavailableError
from pfitre_service.model import Phase, Progress, TomogramKey
from pfitre_service.store import layout
from pfitre_service.store.catalog import Catalog, TomogramSummary
from pfitre_service.store.reader import TomogramReader

_OF_PROGRESS = ("phase", "time", "angles_used", "residual", "heldout_error", "heldout_error_physics")


class WatchTimeoutError(StoreError):
    """A tomogram that is watched got no new volume, and came to no end, within the time allowed."""


@dataclass(frozen=True, slots=True)
class Revision:
    """The volume that was in the catalogue at one moment, by its row of `progress`.

    The numbers are those of that row; `status` and `reason` are of the moment. Every slab of a volume is written at
    each revision.
    """

    tomogram: str
    """Its id."""
    number: int | None
    """None where a tomogram ended without a volume."""
    status: str
    """receiving or iterating; of the last one final, failed, or references (a run of flats and darks alone)."""
    reason: str | None
    """Why, in words."""
    phase: Phase | None = None
    """See `model.Phase`; None without a volume, as everything below."""
    time: float | None = None
    """Seconds since the epoch: when the solver made it."""
    angles_used: int | None = None
    """Angles in the solver's or the held-out accumulators."""
    residual: float | None = None
    """||A x - y|| / ||y|| on the solver's angles."""
    heldout_error: float | None = None
    """The same on angles that the solver had not seen; NaN where none are held out."""
    heldout_error_physics: float | None = None
    """The same of the volume that the data give alone."""

    @property
    def ended(self) -> bool:
        """No other volume will come."""
        return self.status in layout.ENDED


def revisions_of(catalog: Catalog, key: TomogramKey, *, timeout_s: float, poll_s: float) -> Iterator[Revision]:
    """Follows one tomogram; see `Client.watch`.

    Parameters
    ----------
    catalog
        An open connection to the catalogue.
    key
        The tomogram; it need not be there yet.
    timeout_s
        Seconds without anything new after which it gives up.
    poll_s
        Seconds between two looks at the catalogue.

    Yields
    ------
    Revision
        The volume that has just appeared, in words and numbers.

    Raises
    ------
    WatchTimeoutError
        Nothing new for `timeout_s`.
    StoreError
        The catalogue refuses to be read.
    """
    reader, pause = catalog.reader(key), threading.Event()
    last, trouble = None, "no volume yet"
    silent_since = time.monotonic()
    while True:
        try:
            current = _look(catalog.summary(key), reader)
        except StoreMissingError:
            current, trouble = None, "the catalogue has no tomogram of this name"
        except StoreUnavailableError as error:
            current, trouble = None, str(error)
        if current is not None:
            trouble = f"it stays {current.status} at revision {current.number}"
            if last is None or (current.number, current.ended) != (last.number, last.ended):
                last = current
                yield current
                silent_since = time.monotonic()  # what the caller did meanwhile does not count
            if current.ended:
                return
        if time.monotonic() - silent_since >= timeout_s:
            raise WatchTimeoutError(
                f"tomogram {key}: expected a new volume or an end within {timeout_s:g} s, but {trouble}; look at "
                f"`pfitre status`, or wait longer (timeout_s)"
            )
        pause.wait(poll_s)


def _look(summary: TomogramSummary, reader: TomogramReader) -> Revision | None:
    """None while there is nothing to be seen."""
    row = None if summary.revision is None else _row(reader, summary.revision)
    # The container's metadata, which say how the volume was made, are written last.
    described = row is not None and summary.metadata.get("revision") is not None
    if not described and summary.status not in layout.ENDED:
        return None
    moment = Revision(summary.key.id, summary.revision, summary.status, summary.metadata.get("reason"))
    return moment if row is None else replace(moment, **{name: getattr(row, name) for name in _OF_PROGRESS})


def _row(reader: TomogramReader, revision: int) -> Progress | None:
    """The newest of that revision: a worker that starts again may count from 1 again."""
    return next((row for row in reversed(reader.progress()) if row.revision == revision), None)

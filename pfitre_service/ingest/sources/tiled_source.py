"""Live documents out of a Tiled catalogue that TiledWriter writes to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pfitre_service.errors import InputError, StoreError
from pfitre_service.ingest.decoding.pickle_decoder import Decoded
from pfitre_service.ingest.sources.source import Handler, SourceCounts, SourceMonitor

if TYPE_CHECKING:
    from pfitre_service.ingest.sources.tiled_runs import LiveRuns

logger = logging.getLogger(__name__)

_POLL_S = 0.05


class TiledSource:
    """Follows the runs of a catalogue by Tiled's websocket streams, or by looking where there are none. The key is
    taken from the environment variable TILED_API_KEY.

    Parameters
    ----------
    uri
        Address of the catalogue.
    readable
        Whether a file at this path is announced as one; others are read through Tiled.
    poll_s, safety_s
        Seconds between looks at what no stream tells of, and at what one does.
    """

    def __init__(
        self, uri: str, readable: Callable[[str], bool], *, poll_s: float = 0.5, safety_s: float = 10.0
    ) -> None:
        self._uri = uri
        self._readable = readable
        self._poll_s, self._safety_s = poll_s, safety_s
        self._monitor = SourceMonitor(uri.partition("?")[0])
        self._monitor.waits_for = f"no Tiled catalogue at {self._monitor.address} yet"

    @property
    def counts(self) -> SourceCounts:
        """A snapshot; may be taken from any thread."""
        return self._monitor.counts

    def run(self, handle: Handler, stop: threading.Event, idle: Callable[[], None]) -> None:
        """Follows until it is stopped. Whatever `handle` or `idle` raises is logged and counted, and the loop goes on.

        Parameters
        ----------
        handle
            Takes name and document.
        stop
            Ends it.
        idle
            Called between looks and documents.
        """
        from pfitre_service.ingest.sources.tiled_runs import LiveRuns  # the Tiled client: two seconds

        runs = LiveRuns(self._uri, self._readable, poll_s=self._poll_s, safety_s=self._safety_s)
        try:
            while not stop.is_set():
                self._look(runs, handle, stop, idle)
                self._monitor.guard("the idle function", idle)
                stop.wait(_POLL_S)
        finally:
            runs.close()
            self._monitor.connected = False

    def _look(self, runs: LiveRuns, handle: Handler, stop: threading.Event, idle: Callable[[], None]) -> None:
        try:
            for name, document in runs.documents():
                decoded = partial(Decoded, name, document, frozenset())
                self._monitor.take(0, decoded, handle)
                self._monitor.guard("the idle function", idle)
                if stop.is_set():
                    return
            self._monitor.connected, self._monitor.waits_for = True, ""
        except (StoreError, InputError) as error:  # a container that is not there yet, a key that is not taken
            if str(error) != self._monitor.waits_for:
                logger.warning("%s; trying again", error)
            self._monitor.connected, self._monitor.waits_for = False, str(error)

"""Bluesky runs that bluesky-tiled-plugins' TiledWriter stored in Tiled, as the documents they were made of.

Tiled exports the documents of a run only where its server was set up for it, and then with images as lists of numbers.
So they are put together here: events from the table and arrays of each stream; files as `stream_resource` and
`stream_datum` where this machine may read them, else as images that Tiled reads.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any

from pfitre_service.errors import SettingsError, StoreMissingError
from pfitre_service.ingest.stored_runs.tiled_streams import StoredStream, reached

Document = tuple[str, dict[str, Any]]


class StoredRuns:
    """A catalogue of runs, or a single run in it."""

    def __init__(self, node: Any, where: str) -> None:
        self._node = node
        self._where = where

    @classmethod
    def at(cls, uri: str, api_key: str | None = None) -> StoredRuns:
        """The catalogue or run at an address. Raises `StoreUnavailableError`."""
        from tiled.client import from_uri

        return cls(reached(lambda: from_uri(uri, api_key=api_key, include_data_sources=True), uri), uri)

    @classmethod
    def from_profile(cls, name: str) -> StoredRuns:
        """The catalogue that Tiled and databroker know by `name`. Raises `SettingsError`, `StoreUnavailableError`."""
        from tiled.client import from_profile
        from tiled.profiles import ProfileNotFound

        try:
            return cls(reached(lambda: from_profile(name, include_data_sources=True), name), f"profile {name}")
        except ProfileNotFound as error:
            raise SettingsError(f"Tiled knows no profile {name!r}: {error!s:.300}") from error

    @property
    def catalogue(self) -> Any:
        """The Tiled client of the container. Raises `StoreMissingError` where it is a single run."""
        if is_run(self._node):
            raise StoreMissingError(
                f"{self._where} is a single run; give the address of the catalogue that new runs go to"
            )
        return self._node

    def run(self, wanted: str | None) -> Any:
        """The run with this uid (or its beginning) or scan id; the newest for None. Raises `StoreMissingError`."""
        if is_run(self._node):
            return self._node
        run = reached(lambda: self._newest() if wanted is None else self._find(wanted), self._where)
        if run is None or not is_run(run):
            raise StoreMissingError(f"there is no run {wanted or 'at all'} in {self._where}")
        return run

    def closed_after(self, documents: Iterator[Document]) -> Iterator[Document]:
        """`documents`, and then the end of the connection."""
        try:
            yield from documents
        finally:
            self._node.context.close()

    def _newest(self) -> Any:
        return next((node for node in self._node.values()[::-1] if is_run(node)), None)

    def _find(self, wanted: str) -> Any:
        from tiled.queries import Key

        if wanted in self._node:
            return self._node[wanted]
        if wanted.isdecimal():
            return next(iter(self._node.search(Key("start.scan_id") == int(wanted)).values()[::-1]), None)
        return next((self._node[key] for key in self._node if key.startswith(wanted)), None)


def documents_of_run(run: Any, readable: Callable[[str], bool]) -> Iterator[Document]:
    """The documents of a stored run in the order of their times.

    readable: whether a file at this path is announced as one; others are read through Tiled.
    """
    start, stop = dict(run.metadata["start"]), run.metadata.get("stop")
    if not any(spec.name == "BlueskyRun" and str(spec.version).startswith("3.") for spec in run.specs):
        # Served by databroker, which knows how to give them.
        yield from ((name, dict(document)) for name, document in run.documents())
        return
    yield "start", start
    counted = (stop or {}).get("num_events") or {}
    streams = [
        StoredStream.from_node(name, run.base[name].base, start["uid"], readable, events=counted.get(name))
        for name in run
    ]
    for _, _, name, document in heapq.merge(*(_numbered(place, stream) for place, stream in enumerate(streams))):
        yield name, document
    if stop:
        yield "stop", dict(stop)


def _numbered(place: int, stream: StoredStream) -> Iterator[tuple[float, tuple[int, int], str, dict[str, Any]]]:
    """Documents with what `heapq.merge` puts them in order by."""
    for number, (moment, name, document) in enumerate(stream.documents()):
        yield moment, (place, number), name, document


def is_run(node: Any) -> bool:
    """Whether Tiled says that it holds a Bluesky run."""
    return any(spec.name == "BlueskyRun" for spec in getattr(node, "specs", ()))

"""Runs followed while TiledWriter writes them to a catalogue.

The catalogue is looked at again and again: what is read is what is stored. Tiled's websocket stream tells sooner, but
evicts what is too much, publishes before it stores, and takes a connection and a thread for every node of a run.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from pfitre_service.errors import InputError
from pfitre_service.store.failure import StoreUnavailableError
from pfitre_service.store.run_streams import StoredStream, reached
from pfitre_service.store.runs import Document, StoredRuns, is_run

logger = logging.getLogger(__name__)

_NEWEST = 10
"""So many of the newest runs are looked at for new ones and, at the start, for those that have not ended."""
_LOOK_S = 0.5
_PATIENCE = 30
"""So many times in a row a run may be unreadable while its catalogue is not."""


class RunFollower:
    """One run: gives its documents as they come to be stored, each once."""

    def __init__(self, run: Any, readable: Callable[[str], bool]) -> None:
        self._run = run
        self._readable = readable
        self._said: set[str] = set()
        """Uids of start, descriptors and files."""
        self._events: dict[str, int] = {}
        """Name of a stream to the number of its events that were given."""
        self._stream_of_file: dict[str, str] = {}
        self._failures = 0
        self.is_over = False

    def new_documents(self) -> Iterator[Document]:
        """What was stored since. A run that cannot be followed ends as failed, with the reason."""
        try:
            yield from self._new_documents()
            self._failures = 0
        except (StoreUnavailableError, InputError) as error:
            self._failures += 1
            # The catalogue answered just now: after a while it is this run that cannot be read.
            if isinstance(error, InputError) or self._failures >= _PATIENCE:
                yield from self._failed(error)

    def _failed(self, error: Exception) -> Iterator[Document]:
        start = self._run.metadata["start"]
        logger.error("run %s cannot be followed: %s", start["uid"], error)
        self.is_over = True
        stop = {"uid": str(uuid.uuid4()), "run_start": start["uid"], "time": time.time(), "exit_status": "fail"}
        yield "stop", stop | {"reason": str(error)[:500]}

    def _new_documents(self) -> Iterator[Document]:
        run = reached(self._run.refresh, self._run.uri)
        start, stop = dict(run.metadata["start"]), run.metadata.get("stop")
        if start["uid"] not in self._said:
            self._said.add(start["uid"])
            yield "start", start
        for name in reached(lambda: list(run.base), run.uri):
            stream = reached(partial(self._stream, run, name, stop), run.uri)
            yield from self._of_stream(name, stream, is_over=bool(stop))
        if stop:
            self.is_over = True
            yield "stop", dict(stop)

    def _stream(self, run: Any, name: str, stop: Mapping[str, Any] | None) -> StoredStream:
        events = ((stop or {}).get("num_events") or {}).get(name)
        node, uid = run.base[name].base, run.metadata["start"]["uid"]
        stream = StoredStream.of(name, node, uid, self._readable, is_over=bool(stop), events=events)
        for file in stream.files:
            if self._stream_of_file.setdefault(file.resource["uri"], name) != name:
                raise InputError(
                    f"several streams share the file {file.resource['uri']}, and Tiled keeps no record of whose is what"
                )
        return stream

    def _of_stream(self, name: str, stream: StoredStream, *, is_over: bool) -> Iterator[Document]:
        before = self._events.get(name, 0)
        count = None if is_over else max(0, stream.complete() - before)
        for _, kind, document in stream.documents(before, count):
            if kind in ("descriptor", "stream_resource"):
                if document["uid"] in self._said:
                    continue
                self._said.add(document["uid"])
            yield kind, document
            if kind == "event":
                self._events[name] = document["seq_num"]


class LiveRuns:
    """A catalogue whose new runs are followed. Belongs to one thread."""

    def __init__(self, uri: str, readable: Callable[[str], bool]) -> None:
        self._uri = uri
        self._readable = readable
        self._node: Any = None
        self._known: set[str] | None = None
        self._followed: dict[str, RunFollower] = {}
        self._looked_at = 0.0

    def documents(self) -> Iterator[Document]:
        """What is new, if it is time to look. Raises `StoreUnavailableError` while the catalogue is out of reach."""
        if time.monotonic() - self._looked_at < _LOOK_S:
            return
        self._looked_at = time.monotonic()
        if self._node is None:
            self._node = StoredRuns.at(self._uri).catalogue
        newest = reached(lambda: self._node.values().tail(_NEWEST), self._uri)
        if self._known is None:
            # Runs that ended before are left alone; one that has not is followed from its beginning.
            self._known = {run.item["id"] for run in newest if not is_run(run) or run.metadata.get("stop")}
        for run in newest:
            self._notice(run, self._known)
        for uid, follower in list(self._followed.items()):
            yield from follower.new_documents()
            if follower.is_over:
                del self._followed[uid]

    def close(self) -> None:
        """Ends the connection."""
        if self._node is not None:
            self._node.context.close()

    def _notice(self, run: Any, known: set[str]) -> None:
        uid = run.item["id"]
        if uid not in known and is_run(run):
            known.add(uid)
            self._followed[uid] = RunFollower(run, self._readable)

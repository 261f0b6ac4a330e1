"""Runs followed while TiledWriter writes them to a catalogue.

Tiled's websocket stream says when there is something new; what it is, is read from what is stored. A server that does
not stream is looked at twice a second.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx

from pfitre_service.errors import InputError, StoreUnavailableError
from pfitre_service.ingest.sources.tiled_subscriptions import NodeSubscriptions, Path
from pfitre_service.ingest.stored_runs.tiled_catalogue import Document, StoredRuns, is_run
from pfitre_service.ingest.stored_runs.tiled_streams import StoredStream, path_of, reached

logger = logging.getLogger(__name__)

_NEWEST = 10
"""So many of the newest runs are looked at for new ones and, at the start, for those that have not ended."""
_RETRY_S = 0.5
_ANSWER_S = 3.0
_GAP_S = 0.05
_AGAIN_S, _SETTLED_S = 0.2, 1.0
"""Tiled tells of a table's rows before it stores them: it is looked at again until nothing was told for so long."""
_PATIENCE = 30
"""So many times in a row a run may be unreadable while its catalogue is not."""


class RunFollower:
    """One run: gives its documents as they come to be stored, each once.

    Parameters
    ----------
    run
        Node of the run, as Tiled's client gives it.
    readable
        Whether a file at this path is announced as one; others are read through Tiled.
    """

    def __init__(self, run: Any, readable: Callable[[str], bool]) -> None:
        self._run = run
        self._readable = readable
        self._said: set[str] = set()
        """Uids of start, descriptors and files."""
        self._events: dict[str, int] = {}
        """Name of a stream to the number of its events that were given."""
        self._stream_of_file: dict[str, str] = {}
        self._failures = 0
        self.path: Path = path_of(run)
        self.told_by: set[Path] = {self.path}
        """Nodes whose streams tell of news of this run, as far as they are there."""
        self.looked_at = -math.inf
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
            self.told_by.update(stream.told_by)
            yield from self._of_stream(name, stream, is_over=bool(stop))
        if stop:
            self.is_over = True
            yield "stop", dict(stop)

    def _stream(self, run: Any, name: str, stop: Mapping[str, Any] | None) -> StoredStream:
        events = ((stop or {}).get("num_events") or {}).get(name)
        node, uid = run.base[name].base, run.metadata["start"]["uid"]
        stream = StoredStream.from_node(name, node, uid, self._readable, is_over=bool(stop), events=events)
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
                self._events[name] = self._events.get(name, 0) + 1


class LiveRuns:
    """A catalogue whose new runs are followed. Belongs to one thread.

    Parameters
    ----------
    uri
        Address of the catalogue.
    readable
        As `RunFollower` has it.
    poll_s, safety_s
        Seconds between looks at what no stream tells of, and at what one does.
    """

    def __init__(self, uri: str, readable: Callable[[str], bool], *, poll_s: float, safety_s: float) -> None:
        self._uri = uri
        self._readable = readable
        self._poll_s, self._safety_s = poll_s, safety_s
        self._node: Any = None
        self._news: NodeSubscriptions | None = None
        self._known: set[str] | None = None
        self._followed: dict[str, RunFollower] = {}
        self._tried_at = self._looked_at = -math.inf
        self._streams: bool | None = None

    def documents(self) -> Iterator[Document]:
        """What is new, if it is time to look. Raises `StoreUnavailableError` while the catalogue is out of reach."""
        news, path = self._connected()
        if news is None:
            return
        self._tell_how(news.is_live(path))
        if is_due(news.latest_of(path), self._looked_at, time.monotonic(), every_s=self._pause(news.is_live(path))):
            self._looked_at = time.monotonic()
            check_answers(self._uri)
            self._find_runs()
        for uid, follower in list(self._followed.items()):
            # That a run has stopped is told by the catalogue.
            latest = max(news.latest(follower.path), news.latest_of(path))
            pause = self._pause(news.is_live(path) and news.all_live(follower.path))
            if not is_due(latest, follower.looked_at, time.monotonic(), every_s=pause):
                continue
            follower.looked_at = time.monotonic()
            yield from follower.new_documents()
            if follower.is_over:
                news.forget(follower.path)
                del self._followed[uid]
            elif news.is_live(path):  # a server that streams
                for node in follower.told_by:
                    news.listen(node)

    def _pause(self, told: bool) -> float:
        """Seconds between looks at something, by whether all that may change of it is told of now."""
        return self._safety_s if told else self._poll_s

    def close(self) -> None:
        """Ends the connections."""
        if self._news is not None:
            self._news.close()
        if self._node is not None:
            self._node.context.close()

    def _connected(self) -> tuple[NodeSubscriptions | None, Path]:
        """What tells of news, and the path of the catalogue; None where it is too soon to try again."""
        if self._news is None:
            if time.monotonic() - self._tried_at < _RETRY_S:
                return None, ()
            self._tried_at = time.monotonic()
            check_answers(self._uri)
            self._node = StoredRuns.at(self._uri).catalogue
            context = self._node.context
            self._news = NodeSubscriptions(str(context.api_uri), context.api_key)
            self._news.listen(path_of(self._node))
        return self._news, path_of(self._node)

    def _find_runs(self) -> None:
        newest = reached(lambda: self._node.values().tail(_NEWEST), self._uri)
        if self._known is None:
            # Runs that ended before are left alone; one that has not is followed from its beginning.
            self._known = {run.item["id"] for run in newest if not is_run(run) or run.metadata.get("stop")}
        for run in newest:
            uid = run.item["id"]
            if uid not in self._known and is_run(run):
                self._known.add(uid)
                self._followed[uid] = RunFollower(run, self._readable)

    def _tell_how(self, streams: bool) -> None:
        if streams != self._streams:
            how = "its stream tells" if streams else f"without a stream, looked at every {self._poll_s:g} s"
            logger.info("following %s: %s", self._uri.partition("?")[0], how)
        self._streams = streams


def check_answers(uri: str) -> None:
    """Asks whether a server is there, once: Tiled's client would try for half a minute, in which nobody could tell the
    source to stop, nor it that it lives.

    Parameters
    ----------
    uri
        Address of the catalogue.

    Raises
    ------
    StoreUnavailableError
        No server answers at once.
    """
    address = urlsplit(uri)
    reached(lambda: httpx.get(f"{address.scheme}://{address.netloc}/", timeout=_ANSWER_S), uri)


def is_due(news: float, looked_at: float, now: float, *, every_s: float) -> bool:
    """Whether it is time for another look, in seconds of one clock.

    Parameters
    ----------
    news
        When something was told last.
    looked_at
        When the last look began.
    now
        The time.
    every_s
        How long, without news, until the next look.

    Returns
    -------
    bool
        True where it is.
    """
    since = now - looked_at
    if since >= every_s:
        return True
    if news >= looked_at:
        return since >= _GAP_S
    return looked_at - news < _SETTLED_S and since >= _AGAIN_S

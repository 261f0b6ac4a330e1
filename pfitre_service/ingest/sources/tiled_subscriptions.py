"""What Tiled's websocket streams tell of nodes: that there is news below one, and how long ago.

Messages are not decoded. Tiled sends what is written before it has stored it, and drops what is too much; so a message
is taken as a reason to look at what is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Mapping
from urllib.parse import quote, urlsplit, urlunsplit

logger = logging.getLogger(__name__)

Path = tuple[str, ...]
"""Segments of a node's path."""
_OPEN_S = 10.0
_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 60.0


class NodeSubscriptions:
    """Listens to the streams of many nodes in one thread of its own. The methods may be called from any other.

    Parameters
    ----------
    api_uri
        Of the server, such as http://host:8000/api/v1/.
    api_key
        None where none is needed.
    """

    def __init__(self, api_uri: str, api_key: str | None) -> None:
        parts = urlsplit(api_uri)
        scheme = "wss" if parts.scheme == "https" else "ws"
        self._stream_uri = urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/stream/single/", "", ""))
        self._headers: Mapping[str, str] = {"Authorization": f"Apikey {api_key}"} if api_key else {}
        self._lock = threading.Lock()
        self._rang: dict[Path, float] = {}
        """`time.monotonic()` of the last message of each node that is listened to."""
        self._live: set[Path] = set()
        self._tasks: dict[Path, asyncio.Task[None]] = {}
        """Belongs to the loop's thread."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="tiled-news", daemon=True)
        self._thread.start()

    def listen(self, path: Path) -> None:
        """Begins to listen to a node, unless it is listened to. When the connection stands, that is news as well:
        nothing that came before is missed by who looks then.

        Parameters
        ----------
        path
            Of the node.
        """
        with self._lock:
            if path in self._rang:
                return
            self._rang[path] = 0.0
        self._loop.call_soon_threadsafe(self._begin, path)

    def forget(self, below: Path) -> None:
        """Ends listening to a node and all below it.

        Parameters
        ----------
        below
            Path of the node.
        """
        self._loop.call_soon_threadsafe(self._end, below)

    def latest(self, below: Path) -> float:
        """When the last message of a node or one below it came.

        Parameters
        ----------
        below
            Path of the node.

        Returns
        -------
        float
            Seconds, `time.monotonic()`; 0 where none came yet.
        """
        with self._lock:
            return max((rang for path, rang in self._rang.items() if path[: len(below)] == below), default=0.0)

    def latest_of(self, path: Path) -> float:
        """When the last message of one node alone came.

        Parameters
        ----------
        path
            Of the node.

        Returns
        -------
        float
            Seconds, `time.monotonic()`; 0 where none came yet.
        """
        with self._lock:
            return self._rang.get(path, 0.0)

    def is_live(self, path: Path) -> bool:
        """Whether there is a connection to this node's stream now.

        Parameters
        ----------
        path
            Of the node.

        Returns
        -------
        bool
            True where there is.
        """
        with self._lock:
            return path in self._live

    def all_live(self, below: Path) -> bool:
        """Whether there is a connection for every node, at or below this one, that is listened to.

        Parameters
        ----------
        below
            Path of the node.

        Returns
        -------
        bool
            True where there is, and where there is such a node.
        """
        with self._lock:
            paths = {path for path in self._rang if path[: len(below)] == below}
            return bool(paths) and paths <= self._live

    def close(self) -> None:
        """Ends all connections and the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_OPEN_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        finally:
            self._loop.close()

    def _begin(self, path: Path) -> None:
        self._tasks[path] = self._loop.create_task(self._listen(path))
        self._tasks[path].add_done_callback(_tell_failure)

    def _end(self, below: Path) -> None:
        for path in [path for path in self._tasks if path[: len(below)] == below]:
            self._tasks.pop(path).cancel()
            with self._lock:
                self._rang.pop(path, None)

    async def _listen(self, path: Path) -> None:
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidHandshake, WebSocketException

        uri = self._stream_uri + "/".join(quote(segment, safe="") for segment in path) + "?envelope_format=msgpack"
        pause = _PAUSE_S
        while True:
            why: Exception | str = "the server ended the stream"
            try:
                # No limit of size: one batch of a table is one message, and is let go at once.
                async with connect(
                    uri, additional_headers=self._headers, max_size=None, open_timeout=_OPEN_S, close_timeout=1
                ) as socket:
                    async for _ in socket:  # the first one, the schema, comes right after the connection
                        self._ring(path, live=True)
                        pause = _PAUSE_S
            except InvalidHandshake as error:  # a server that does not stream answers so
                why, pause = error, max(pause, 10 * _PAUSE_S)
            except (OSError, TimeoutError, WebSocketException) as error:
                why = error
            finally:
                self._ring(path, live=False)
            logger.debug("no news of %s for %.1f s: %s", "/".join(path), pause, why)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _ring(self, path: Path, *, live: bool) -> None:
        with self._lock, contextlib.suppress(KeyError):
            (self._live.add if live else self._live.remove)(path)
            if path in self._rang:
                self._rang[path] = time.monotonic()


def _tell_failure(task: asyncio.Task[None]) -> None:
    """What was not foreseen: the node is looked at now and then, as without a stream."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("listening to Tiled's stream failed", exc_info=error)

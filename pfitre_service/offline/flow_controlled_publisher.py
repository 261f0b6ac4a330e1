"""Documents published to a running service, no faster than it takes them."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pfitre_service.config import Settings
from pfitre_service.errors import ServiceError
from pfitre_service.supervision.health import HealthReport, fetch_health

_IN_FLIGHT = 400
"""Bluesky's publisher drops what is past 1000 messages in its socket, without a word."""
_IN_FLIGHT_BYTES = 128 << 20
_FILES_WAITING = 100
"""Events that may wait to be read out of files."""
_HEARD_S = 20.0
_PROBE_S = 1.5
"""Ingest renews its report twice a second."""
_STALLED_S = 60.0
_POLL_S = 0.05


class FlowControlledPublisher:
    """Bluesky's publisher at the service's proxy, with the counters of ingest as acknowledgement.

    Documents that others publish meanwhile are counted as taken too: `max` speed beside a live scan may lose documents.
    """

    def __init__(self, settings: Settings) -> None:
        from bluesky.callbacks.zmq import Publisher

        self._settings = settings
        self._publisher = Publisher(settings.proxy.publish, prefix=settings.source.prefix.encode())
        self._sizes: deque[int] = deque()
        """Bytes of the documents that were sent and not taken yet, as far as is known."""
        self._bytes = 0
        self._taken = 0
        """The count of messages in ingest up to which `_sizes` is cleared."""

    @classmethod
    @contextlib.contextmanager
    def connected(cls, settings: Settings) -> Iterator[FlowControlledPublisher]:
        """A link that documents are known to come through. Raises `ServiceError`."""
        link = cls(settings)
        try:
            link._until_heard()
            yield link
        finally:
            link._publisher.close()

    def publish(self, name: str, document: dict[str, Any]) -> None:
        """Send a document, when there is room. Raises `ServiceError` when the service takes nothing any more."""
        size = _size(document)
        self._until(lambda: self._has_room(size), "took no document")
        self._publisher(name, document)
        self._sizes.append(size)
        self._bytes += size

    def until_taken(self) -> dict[str, Any]:
        """Wait until all is received, read and stored; the details of ingest. Raises `ServiceError`."""
        self._until(lambda: not self._look() and self._is_idle(), "neither received nor stored what was sent")
        return dict(self._report().details)

    def _has_room(self, size: int) -> bool:
        if len(self._sizes) < _IN_FLIGHT and self._bytes + size <= _IN_FLIGHT_BYTES:
            return True
        waiting = self._look()
        fits = self._bytes + size <= _IN_FLIGHT_BYTES or not waiting
        return waiting < _IN_FLIGHT and fits and not self._is_behind()

    def _look(self) -> int:
        """How many documents are on their way."""
        messages = int(self._report().details.get("source", {}).get("messages", 0))
        for _ in range(min(len(self._sizes), max(0, messages - self._taken))):
            self._bytes -= self._sizes.popleft()
        self._taken = messages
        return len(self._sizes)

    def _is_behind(self) -> bool:
        details = self._report().details
        queue = self._settings.tiled.queue_mib << 20
        return details["files"]["waiting_events"] > _FILES_WAITING or details["store"]["waiting_bytes"] > queue // 2

    def _is_idle(self) -> bool:
        details = self._report().details
        return not details["files"]["waiting_events"] and not details["store"]["waiting_jobs"]

    def _report(self) -> HealthReport:
        address = self._settings.health.ingest
        report = fetch_health(address)
        if report is None:
            raise ServiceError(
                f"nothing answers at {address}, where the health of ingest would be: start the service with "
                "`pfitre serve`, give the profile or settings that it runs with, or use --embedded"
            )
        return report

    def _until_heard(self) -> None:
        """A publisher that connected a moment ago loses what it sends: empty runs, until the last sent came through."""
        deadline = time.monotonic() + _HEARD_S
        while not self._is_heard(self._probe(), min(deadline, time.monotonic() + _PROBE_S)):
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"documents published to the proxy at {self._settings.proxy.publish} did not reach ingest within "
                    f"{_HEARD_S:g} s; does the service listen there (source.address)?"
                )
        self._taken = int(self._report().details["source"]["messages"])

    def _is_heard(self, uid: str, deadline: float) -> bool:
        pause = threading.Event()
        while time.monotonic() < deadline:
            if uid in (run["uid"] for run in self._report().details.get("recent_runs", [])):
                return True
            pause.wait(_POLL_S)
        return False

    def _probe(self) -> str:
        uid, now = str(uuid.uuid4()), time.time()
        self._publisher("start", {"uid": uid, "time": now, "plan_name": "connection_test"})
        stop = {"uid": str(uuid.uuid4()), "run_start": uid, "time": now, "exit_status": "success", "num_events": {}}
        self._publisher("stop", stop)
        return uid

    def _until(self, condition: Any, failure: str) -> None:
        """Polls; gives up when ingest's counters stand still for long."""
        seen, since, pause = "", time.monotonic(), threading.Event()
        while not condition():
            details = self._report().details
            now = f"{details.get('source')} {details.get('store')} {details.get('files')}"
            if now != seen:
                seen, since = now, time.monotonic()
            if time.monotonic() - since > _STALLED_S:
                raise ServiceError(f"the service {failure} for {_STALLED_S:g} s; `pfitre status --process ingest`")
            pause.wait(_POLL_S)


def _size(document: Mapping[str, Any]) -> int:
    """Bytes of its arrays; the rest is small."""
    data = document.get("data")
    values = data.values() if isinstance(data, Mapping) else ()
    return sum(value.nbytes if isinstance(value, np.ndarray) else 1000 for value in values)

"""What one process says of itself, and the small HTTP endpoint that says it.

The main loop of a process calls `Health.beat()`; every other thread only reads. A report whose heartbeat is older than
its stated limit means that the loop hangs, even though threads of the process (this server among them) still run.
"""

from __future__ import annotations

import http.client
import io
import json
import logging
import os
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from pfitre_service.addresses import format_address, parse_address, reachable
from pfitre_service.errors import ServiceError
from pfitre_service.json_values import plain

logger = logging.getLogger(__name__)

_NOT_READY = frozenset({"starting", "stopping", "stopped", "failed"})
_REQUEST_S = 1.0
"""Longest time that one client may take to send its request."""
_REQUEST_BYTES = 8192
_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class HealthReport:
    """One process at one moment."""

    name: str
    pid: int
    state: str
    """A word: starting, idle, receiving, iterating, final, waiting, failed, ..."""
    reason: str
    """Why it is in this state; may be empty where the state says all."""
    started: float
    """Seconds since the epoch."""
    heartbeat_age_s: float
    heartbeat_limit_s: float
    details: Mapping[str, Any] = field(default_factory=dict)
    """Counters and other plain JSON values."""

    @property
    def alive(self) -> bool:
        """Not failed, and its main loop went round lately."""
        return self.state != "failed" and self.heartbeat_age_s <= self.heartbeat_limit_s

    @property
    def ready(self) -> bool:
        """Alive and past its start: others may rely on it."""
        return self.alive and self.state not in _NOT_READY

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; `alive` and `ready` are included for readers that are not Python."""
        return asdict(self) | {"alive": self.alive, "ready": self.ready}

    def to_json(self) -> str:
        """One line of strict JSON (no NaN)."""
        return json.dumps(self.as_dict(), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> HealthReport:
        """The report that `to_json` wrote.

        Raises:
            ServiceError: the text is no such report.
        """
        try:
            values = json.loads(text)
            return cls(
                name=str(values["name"]),
                pid=int(values["pid"]),
                state=str(values["state"]),
                reason=str(values["reason"]),
                started=float(values["started"]),
                heartbeat_age_s=float(values["heartbeat_age_s"]),
                heartbeat_limit_s=float(values["heartbeat_limit_s"]),
                details=dict(values["details"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ServiceError(f"expected a health report as JSON; got {text[:80]!r} ({error!r})") from error


class Health:
    """Thread-safe state of this process."""

    def __init__(
        self, name: str, *, heartbeat_limit_s: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.heartbeat_limit_s = heartbeat_limit_s
        self._clock = clock
        self._started = time.time()
        self._lock = threading.Lock()
        self._state, self._reason = "starting", ""
        self._details: dict[str, Any] = {}
        self.was_ready = False
        """Whether this process ever left its start behind."""
        self._beat = clock()

    def beat(self) -> None:
        """Called by the main loop, and by nothing else, each time round."""
        self._beat = self._clock()

    def set_state(self, state: str, reason: str = "") -> None:
        """The process is now in `state`, because of `reason`."""
        with self._lock:
            self._state, self._reason = state, reason
            self.was_ready = self.was_ready or state not in _NOT_READY

    def update(self, details: Mapping[str, Any]) -> None:
        """Set these counters, leave the others. Numbers that are not finite become null.

        Raises:
            TypeError: a value has no JSON form.
        """
        values = plain(details, "health details")
        with self._lock:
            self._details.update(values)

    def snapshot(self) -> HealthReport:
        """The report of this moment; later changes do not reach it."""
        with self._lock:
            return HealthReport(
                name=self.name,
                pid=os.getpid(),
                state=self._state,
                reason=self._reason,
                started=self._started,
                heartbeat_age_s=round(max(0.0, self._clock() - self._beat), 3),
                heartbeat_limit_s=self.heartbeat_limit_s,
                details=dict(self._details),
            )


class HealthServer:
    """`GET /health` of one process: 200 while it is alive, 503 when it failed or its heartbeat is too old.

    A context manager. It listens from construction on, so an address in use is known before anything else starts.

    Raises:
        ServiceError: the address cannot be bound.
        SettingsError: the address cannot be read.
    """

    def __init__(self, address: str, health: Health) -> None:
        host, port = parse_address(address)
        try:
            self._server = (_Server6 if ":" in host else _Server)((host, port), _handler_for(health))
        except (OSError, OverflowError) as error:
            raise ServiceError(
                f"the health endpoint of {health.name!r} cannot listen on {address}: {error}; "
                f"stop what uses that port or set another address for health.{health.name}"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name=f"health-{health.name}", daemon=True
        )

    @property
    def address(self) -> str:
        """The address in use, with the real port where 0 was asked for."""
        host, port = self._server.server_address[:2]
        return format_address(str(host), int(port))

    def __enter__(self) -> HealthServer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and wait for requests under way, each of which is bounded in time. May be called twice."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


def fetch_health(address: str, timeout_s: float = 2.0) -> HealthReport | None:
    """The report of the process that serves its health at `address`; None when nothing listens there.

    Raises:
        ServiceError: something listens but does not answer in time or answers something else.
        SettingsError: the address cannot be read.
    """
    host, port = parse_address(address)
    connection = http.client.HTTPConnection(reachable(host), port, timeout=timeout_s)
    try:
        connection.request("GET", "/health")
        body = connection.getresponse().read(_ANSWER_BYTES)
    except ConnectionRefusedError:
        return None
    except TimeoutError as error:
        raise ServiceError(f"{address} took the connection but gave no health report within {timeout_s:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise ServiceError(f"no health report from {address}: {error!r}") from error
    finally:
        connection.close()
    try:
        return HealthReport.from_json(body)
    except ServiceError as error:
        raise ServiceError(f"{address} is not a health endpoint of this service: {error}") from error


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = False  # so that server_close() joins them
    block_on_close = True
    request_queue_size = 32

    def handle_error(self, request: object, client_address: object) -> None:
        logger.debug("a health request from %s broke off: %r", client_address, sys.exception())


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    """Reads the whole head under one deadline first, so that no client can hold a thread for long."""

    health: Health
    server_version = "pfitre"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BytesIO(_read_head(self.connection))
        self.connection.settimeout(_REQUEST_S)

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/health":
            self.send_error(404, "only /health is served here")
            return
        report = self.health.snapshot()
        body = report.to_json().encode()
        self.send_response(200 if report.alive else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Health is asked for all the time; a line for each would bury the log."""


def _handler_for(served: Health) -> type[_Handler]:
    class BoundHandler(_Handler):
        health = served

    return BoundHandler


def _read_head(connection: socket.socket) -> bytes:
    """What the client sent up to the empty line, the size limit, or the deadline, whichever is first."""
    ends_at = time.monotonic() + _REQUEST_S
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _REQUEST_BYTES:
        left = ends_at - time.monotonic()
        if left <= 0:
            break
        connection.settimeout(left)
        try:
            piece = connection.recv(2048)
        except TimeoutError:
            break
        head += piece
        if not piece:
            break
    return head

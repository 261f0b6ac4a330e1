"""The frame that every process of the service runs in, whether a supervisor or a container engine started it.

A process is a function `main(settings, context)`. It says `context.health.set_state("idle")` once it is ready, calls
`context.health.beat()` each time round its loop, and returns soon after `context.stop` is set. What it raises ends the
process with a reason; an error that a restart cannot mend (settings, catalogue or service, before it was ever ready)
has an exit code of its own.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any, TypeAlias

from pfitre_service.errors import ServiceError, SettingsError, StoreError
from pfitre_service.logs import LogOptions, set_up_logging
from pfitre_service.supervision.health import Health, HealthServer

logger = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_PERMANENT = 3
"""The process could not start, and starting it again would end the same way."""

_REPORT_EVERY_S = 0.2
_LAST_REPORT_S = 1.0
"""A supervisor that is itself suspended does not empty the pipe; its child ends all the same after so long."""
_ORPHAN_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class ProcessContext:
    """What a process's main function is given besides its settings."""

    name: str
    stop: threading.Event
    """Set when the process is to end: SIGTERM, SIGINT where no supervisor stands above, or the supervisor's death."""
    health: Health


class HeartbeatEvent(threading.Event):
    """For a loop that asks its stop event each time round and knows nothing of health: asking is the heartbeat."""

    def __init__(self, context: ProcessContext) -> None:
        super().__init__()
        self._context = context

    def is_set(self) -> bool:
        """Whether the process is to end."""
        self._context.health.beat()
        return self._context.stop.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the process's own stop event."""
        return self._context.stop.wait(timeout)


ProcessMain: TypeAlias = Callable[[Any, ProcessContext], None]


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process of the service, as the supervisor starts and watches it."""

    name: str
    main: ProcessMain
    """An importable function: a spawned process finds it by its name."""
    health_address: str
    """host:port of its health endpoint."""
    depends_on: tuple[str, ...] = ()
    """Names of processes that must be ready before this one starts."""
    start_timeout_s: float = 60.0
    """It must be ready so soon after its start."""
    heartbeat_timeout_s: float = 30.0
    """Longest time between two heartbeats once it is ready."""


def run_process(
    name: str,
    main: ProcessMain,
    settings: Any,
    health_address: str,
    *,
    heartbeat_timeout_s: float = 30.0,
    link: Connection | None = None,
    log: LogOptions = LogOptions(),  # noqa: B008  (frozen)
) -> int:
    """Run `main` in this process, in its main thread, and return the exit code: 0, 1 or 3.

    With `link`, the pipe to a supervisor, SIGINT and SIGHUP are left to the supervisor, which stops its children in
    order; reports go up the pipe. Without it, SIGINT stops this process just as SIGTERM does. Logging goes to
    standard error unless it is set up already.
    """
    set_up_logging(log, name)
    context = ProcessContext(name, threading.Event(), Health(name, heartbeat_limit_s=heartbeat_timeout_s))
    with contextlib.ExitStack() as frame:
        frame.enter_context(_stop_on_signals(context.stop, supervised=link is not None))
        if link is not None:
            frame.enter_context(_reporting(context, link))
        return _run_to_the_end(main, settings, context, health_address)


def spawn(spec: ProcessSpec, settings: Any, *, log: LogOptions) -> tuple[SpawnProcess, Connection]:
    """Start `spec` as a child of this process: the process, and the reading end of its pipe of reports (JSON lines).

    Settings travel through a pipe, so nothing secret stands on a command line. SIGINT is blocked across the start, so
    that a Ctrl-C cannot hit the child before it has chosen to ignore it; nothing is lost here, it is only held back.

    Raises:
        OSError: the system refuses another process.
    """
    resource_tracker.ensure_running()  # its own start would unblock SIGINT halfway
    spawner = multiprocessing.get_context("spawn")
    reader, writer = spawner.Pipe(duplex=False)
    process = spawner.Process(target=_supervised, args=(spec, settings, writer, log), name=spec.name)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    except BaseException:
        reader.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        writer.close()
    os.set_blocking(reader.fileno(), False)
    return process, reader


def _supervised(spec: ProcessSpec, settings: Any, link: Connection, log: LogOptions) -> None:
    sys.exit(
        run_process(
            spec.name,
            spec.main,
            settings,
            spec.health_address,
            heartbeat_timeout_s=spec.heartbeat_timeout_s,
            link=link,
            log=log,
        )
    )


def _run_to_the_end(main: ProcessMain, settings: Any, context: ProcessContext, health_address: str) -> int:
    health = context.health
    try:
        with HealthServer(health_address, health):
            logger.info("%s starts", context.name)
            main(settings, context)
    except (ServiceError, SettingsError, StoreError) as error:
        logger.error("%s failed: %s", context.name, error)
        health.set_state("failed", f"{type(error).__name__}: {error}")
        return EXIT_FAILED if health.was_ready else EXIT_PERMANENT
    except Exception as error:
        logger.exception("%s failed", context.name)
        health.set_state("failed", f"{type(error).__name__}: {error}")
        return EXIT_FAILED
    logger.info("%s ends", context.name)
    health.set_state("stopped", "was asked to" if context.stop.is_set() else "its main function returned")
    return EXIT_OK


@contextlib.contextmanager
def _stop_on_signals(stop: threading.Event, *, supervised: bool) -> Iterator[None]:
    """A handler runs in the main thread, which may hold the event's own lock just then; so a thread sets the event."""
    reader, writer = os.pipe()

    def on_signal(number: int, frame: FrameType | None) -> None:
        os.write(writer, b"!")
        if not supervised:
            signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once

    def set_when_told() -> None:
        if os.read(reader, 1):
            stop.set()

    thread = threading.Thread(target=set_when_told, name="stop-signals", daemon=True)
    thread.start()
    from_terminal = signal.SIG_IGN if supervised else on_signal
    wanted = {signal.SIGTERM: on_signal, signal.SIGINT: from_terminal, signal.SIGHUP: from_terminal}
    previous = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(writer)
        thread.join()
        os.close(reader)


@contextlib.contextmanager
def _reporting(context: ProcessContext, link: Connection) -> Iterator[None]:
    """A thread that sends reports up `link`, the last one when the block ends, and notices the supervisor's death."""
    parent = multiprocessing.parent_process()
    if parent is None:
        raise ServiceError(f"{context.name} was given a supervisor's pipe, but no supervisor started it")
    wake, waker = multiprocessing.Pipe(duplex=False)
    thread = threading.Thread(
        target=_report, args=(context, link, wake, parent.sentinel), name="supervisor-link", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        waker.send_bytes(b"end")
        thread.join(_LAST_REPORT_S)
        if not thread.is_alive():
            wake.close()
            waker.close()


def _report(context: ProcessContext, link: Connection, wake: Connection, parent_sentinel: int) -> None:
    ready: list[Any] = []
    while wake not in ready:
        ready = connection.wait([parent_sentinel, wake], timeout=_REPORT_EVERY_S)
        try:
            _write_all(link.fileno(), context.health.snapshot().to_json().encode() + b"\n")
        except BrokenPipeError:
            ready.append(parent_sentinel)
        if parent_sentinel in ready:
            _end_as_orphan(context, wake)
            return


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _end_as_orphan(context: ProcessContext, wake: Connection) -> None:
    """Stop in order; a main function that does not follow is ended here, since nobody is left to do it."""
    logger.warning("%s lost its supervisor and stops", context.name)
    context.stop.set()
    if not wake.poll(_ORPHAN_GRACE_S):
        logger.error("%s did not stop within %g s without its supervisor and is ended", context.name, _ORPHAN_GRACE_S)
        os._exit(EXIT_FAILED)

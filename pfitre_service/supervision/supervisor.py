"""Starts the processes of the service in order, watches them, replaces what dies or hangs, stops them in order.

What to do is decided in `children`; this is the edge that does it: it spawns, signals, reads the children's reports
from their pipes, takes Ctrl-C, and reads the clock. Each turn of its loop observes, decides, carries out, and tells.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing import Pipe, connection
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

from pfitre_service.addresses import parse_address
from pfitre_service.errors import ServiceError
from pfitre_service.logs import LogOptions
from pfitre_service.supervision.health import Health, HealthReport, HealthServer
from pfitre_service.supervision.process import EXIT_FAILED, EXIT_OK, ProcessSpec, spawn
from pfitre_service.supervision.process_states import (
    Decision,
    GiveUp,
    Instruction,
    Kill,
    ProcessState,
    RestartPolicy,
    Start,
    Terminate,
    as_json,
    check_order,
    decide,
    decide_stop,
    overall,
)

logger = logging.getLogger(__name__)

EXIT_HURRIED = 130
"""A second Ctrl-C killed what was left."""
_TURN_S = 0.2
_PAUSE_S = 5.0
"""A turn this long means that the whole group was suspended (Ctrl-Z, a sleeping laptop)."""
_LAST_TURNS_S = 0.5
"""What the system may take to clear away killed children after the time to stop in."""
_SECOND_CTRL_C_S = 0.5
"""Wrappers pass on a Ctrl-C that the terminal has sent to everyone already; only a later one is a second."""


class _Running:
    """A spawned process and the pipe that its reports come from."""

    def __init__(self, process: SpawnProcess, reports: Connection) -> None:
        self.process = process
        self._reports = reports
        self._unread = b""

    def latest_report(self) -> HealthReport | None:
        """The newest whole report that has come since the last call; never blocks."""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self._reports.fileno(), 65536):
                self._unread += piece
        *lines, self._unread = self._unread.split(b"\n")
        try:
            return HealthReport.from_json(lines[-1]) if lines else None
        except ServiceError as error:  # one child's nonsense must not end the others; silence gets it replaced
            logger.warning("%s: %s", self.process.name, error)
            return None

    def close(self) -> int:
        """Give back what the dead process held here; its exit code, negative for a signal."""
        self.process.join()
        code = self.process.exitcode
        self.process.close()
        self._reports.close()
        return EXIT_FAILED if code is None else code


class Supervisor:
    """Owns the processes of one service. `run()` in the main thread, or `with running():` beside other work.

    Raises:
        ServiceError: two processes share a name, or one depends on another that does not stand before it.
        SettingsError: a health address cannot be read.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        settings: Any,
        *,
        health_address: str,
        policy: RestartPolicy | None = None,
        log: LogOptions = LogOptions(),  # noqa: B008  (frozen)
    ) -> None:
        check_order(specs)
        for address in (health_address, *(spec.health_address for spec in specs)):
            parse_address(address)
        self._settings = settings
        self._policy = policy or RestartPolicy()
        self._log = log
        self._health_address = health_address
        self._health = Health("supervisor", heartbeat_limit_s=_PAUSE_S)
        self._children = {spec.name: ProcessState(spec) for spec in specs}
        self._processes: dict[str, _Running] = {}
        self._failure: ServiceError | None = None
        self._had_to_kill = False
        self._stop = self._hurry = False  # plain flags: a signal handler sets them, and must not take a lock for it
        self._told = threading.Condition()
        self._ended = False
        self._stop_asked_at = 0.0
        self._watching_since = self._turned_at = time.monotonic()
        self._wake, self._waker = Pipe(duplex=False)

    def run(self) -> int:
        """Run the service until it is stopped; once only. In the main thread, SIGINT, SIGTERM and SIGHUP stop it.

        Returns: 0 after an orderly stop, 1 if a child had to be killed for it, 130 if a second Ctrl-C killed them.

        Raises:
            ServiceError: the health address is taken, or a child cannot start for a reason that a restart cannot mend.
        """
        try:
            with self._signals(), HealthServer(self._health_address, self._health):
                try:
                    while not self._stop:
                        self._turn(lambda now: decide(self._children, now, self._policy, self._watching_since))
                finally:
                    self._stop_children()
        except ServiceError as error:
            self._failure = error
        finally:
            with self._told:
                self._ended = True
                self._told.notify_all()
                self._wake.close()
                self._waker.close()
        if self._failure:
            raise self._failure
        return EXIT_HURRIED if self._hurry else EXIT_FAILED if self._had_to_kill else EXIT_OK

    def stop(self) -> None:
        """Ask for an orderly stop, from any thread; returns at once."""
        self._stop = True
        with self._told:
            if not self._ended:
                self._waker.send_bytes(b"stop")

    def status(self) -> dict[str, Any]:
        """The supervisor's own health report as JSON values: `state` is starting, ok, degraded, failed, stopping or
        stopped, `reason` says why, `details["processes"]` holds each child with its restarts and its own report."""
        return self._health.snapshot().as_dict()

    def wait_ready(self, timeout_s: float) -> None:
        """Return once every child is ready.

        Raises:
            ServiceError: that did not happen in time, or the service ended; with the reason.
        """
        with self._told:
            self._told.wait_for(lambda: self._ended or self._all_ready(), timeout_s)
            if self._failure:
                raise self._failure
            if self._ended or not self._all_ready():
                problem = "it was stopped" if self._ended else overall(self._children)[1]
                raise ServiceError(f"the service did not become ready within {timeout_s:g} s: {problem}")

    @contextlib.contextmanager
    def running(self, ready_timeout_s: float = 60.0) -> Iterator[Supervisor]:
        """The service on a thread of its own: entered when every child is ready, left when all have ended."""

        def run() -> None:
            with contextlib.suppress(ServiceError):  # kept in _failure, which wait_ready raises
                self.run()

        thread = threading.Thread(target=run, name="supervisor")
        thread.start()
        try:
            self.wait_ready(ready_timeout_s)
            yield self
        finally:
            self.stop()
            thread.join()

    def _turn(self, decision: Callable[[float], Decision]) -> None:
        self._observe()
        now = time.monotonic()
        if now - self._turned_at > _PAUSE_S:
            self._watching_since = now
        self._turned_at = now
        children, instructions = decision(now)
        with self._told:
            self._log_changes(children)
            self._children = children
            self._told.notify_all()
        for instruction in instructions:
            self._carry_out(instruction)
        self._report()

    def _observe(self) -> None:
        """Wait for a death, a request or the next turn; then take in reports and deaths."""
        sentinels = {running.process.sentinel: name for name, running in self._processes.items()}
        happened = connection.wait([*sentinels, self._wake], timeout=_TURN_S)
        while self._wake.poll():
            self._wake.recv_bytes()
        for name, running in list(self._processes.items()):
            if report := running.latest_report():
                self._children[name] = replace(self._children[name], report=report, reported_at=time.monotonic())
            if running.process.sentinel in happened:
                self._children[name] = replace(self._children[name], exit_code=running.close())
                del self._processes[name]

    def _carry_out(self, instruction: Instruction) -> None:
        name = instruction.name
        match instruction:
            case Start():
                self._start(self._children[name])
            case Terminate():
                self._processes[name].process.terminate()
            case Kill(reason=reason):
                logger.warning("%s is killed: it %s", name, reason)
                self._had_to_kill = self._had_to_kill or self._stop
                self._processes[name].process.kill()
            case GiveUp(reason=reason):
                self._failure = ServiceError(f"{name} cannot start: {reason}")
                self._stop = True

    def _start(self, child: ProcessState) -> None:
        name = child.spec.name
        try:
            process, reports = spawn(child.spec, self._settings, log=self._log)
        except OSError as error:
            why = f"could not be spawned: {error}"
            self._children[name] = replace(child, phase="killed", exit_code=EXIT_FAILED, last_failure=why)
            return
        self._processes[name] = _Running(process, reports)

    def _stop_children(self) -> None:
        ends_at = time.monotonic() + self._policy.stop_timeout_s
        logger.info("the service stops: %s", self._failure or "asked to")
        while self._processes and time.monotonic() < ends_at + _LAST_TURNS_S:
            if self._hurry:
                for running in self._processes.values():
                    running.process.kill()
            self._turn(lambda now: decide_stop(self._children, now, ends_at))
        for name in self._processes:
            logger.error("%s outlived SIGKILL and is left behind", name)
        if not self._failure:
            self._health.set_state("stopped")

    def _report(self) -> None:
        now = time.monotonic()
        state, reason = overall(self._children)
        if self._stop and state != "failed":
            state = "stopping"
        self._health.set_state(state, reason)
        self._health.update({"processes": {name: as_json(child, now) for name, child in self._children.items()}})
        self._health.beat()

    def _log_changes(self, children: dict[str, ProcessState]) -> None:
        for name, child in children.items():
            if child.phase == self._children[name].phase:
                continue
            if child.phase == "waiting":
                delay_s = self._policy.delay_s(child.failures)
                logger.warning("%s %s; it is started again in %g s", name, child.last_failure, delay_s)
            else:
                logger.info("%s: %s", name, child.phase)

    def _all_ready(self) -> bool:
        return all(child.phase == "ready" for child in self._children.values())

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        previous = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._stop_asked_at and number == signal.SIGINT and now - self._stop_asked_at > _SECOND_CTRL_C_S:
            self._hurry = True
        self._stop_asked_at = self._stop_asked_at or now
        self.stop()

"""What the supervisor knows of its children, and what it decides from that: values in, instructions out, no I/O.

waiting -> starting -> ready -> (died | killed) -> waiting, after a back-off that doubles with each death in a row
starting | ready -> stopping -> stopped, in the reverse of the order of start
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from pfitre_service.errors import ServiceError
from pfitre_service.supervision.health import HealthReport
from pfitre_service.supervision.process import EXIT_PERMANENT, ProcessSpec

_STOP_RESERVE_S = 1.0
"""Of the time to stop in, what each child that is stopped later is sure to get."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a dead child is started again, and how long a stop may take."""

    first_delay_s: float = 0.05
    max_delay_s: float = 30.0
    healthy_after_s: float = 60.0
    """Ready for so long, a child's deaths so far no longer count towards its back-off."""
    stop_timeout_s: float = 9.0
    """All children are gone, killed if need be, so long after a stop was asked for."""

    def delay_s(self, failures: int) -> float:
        """Back-off before the next start, after `failures` deaths in a row (1 or more)."""
        return float(min(self.max_delay_s, self.first_delay_s * 2.0 ** min(failures - 1, 30)))


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What is known of one child. Times are monotonic seconds."""

    spec: ProcessSpec
    phase: Literal["waiting", "starting", "ready", "killed", "stopping", "stopped", "failed"] = "waiting"
    since: float = 0.0
    """When this phase began."""
    not_before: float = 0.0
    exit_code: int | None = None
    """Set once the process is gone, negative for a signal."""
    report: HealthReport | None = None
    reported_at: float = 0.0
    starts: int = 0
    failures: int = 0
    """Deaths in a row; sets the back-off."""
    was_ready: bool = False
    last_failure: str = ""

    @property
    def running(self) -> bool:
        return self.phase in ("starting", "ready", "killed", "stopping") and self.exit_code is None


@dataclass(frozen=True, slots=True)
class Start:
    name: str


@dataclass(frozen=True, slots=True)
class Terminate:
    name: str


@dataclass(frozen=True, slots=True)
class Kill:
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The child cannot start, and trying again would not help: the service ends with this reason."""

    name: str
    reason: str


Instruction: TypeAlias = Start | Terminate | Kill | GiveUp
Children: TypeAlias = dict[str, ProcessState]
Decision: TypeAlias = tuple[Children, list[Instruction]]


def decide(children: Children, now: float, policy: RestartPolicy, watching_since: float = 0.0) -> Decision:
    """One turn of a service that is to run: the children as they are to be seen from here on, and what to do.

    No silence counts for longer than `watching_since`, when the supervisor itself last came back from a pause.
    """
    after, instructions = {}, list[Instruction]()
    for name, child in children.items():
        depends_ready = all(children[other].phase == "ready" for other in child.spec.depends_on)
        after[name], instruction = _decide_one(child, depends_ready, now, policy, watching_since)
        instructions += [instruction] if instruction else []
    return after, instructions


def _decide_one(
    child: ProcessState, depends_ready: bool, now: float, policy: RestartPolicy, watching_since: float
) -> tuple[ProcessState, Instruction | None]:
    name, spec = child.spec.name, child.spec
    if child.phase in ("starting", "ready", "killed") and child.exit_code is not None:
        return _after_death(child, depends_ready, now, policy)
    if child.phase == "waiting" and depends_ready and now >= child.not_before:
        return replace(child, phase="starting", since=now, starts=child.starts + 1), Start(name)
    if child.phase == "starting":
        if child.report and child.report.ready:
            return replace(child, phase="ready", since=now, was_ready=True), None
        if now - max(child.since, watching_since) > spec.start_timeout_s:
            return _kill(child, f"was not ready {spec.start_timeout_s:g} s after its start", now)
    if child.phase == "ready":
        if min(_silence_s(child, now), now - watching_since) > spec.heartbeat_timeout_s:
            return _kill(child, f"gave no heartbeat for {spec.heartbeat_timeout_s:g} s", now)
        if child.failures and now - child.since > policy.healthy_after_s:
            return replace(child, failures=0), None
    return child, None


def _after_death(
    child: ProcessState, depends_ready: bool, now: float, policy: RestartPolicy
) -> tuple[ProcessState, Instruction | None]:
    reason = child.last_failure if child.phase == "killed" else _cause_of_death(child)
    # A missing dependency explains the failure as well, and that one mends itself.
    if child.exit_code == EXIT_PERMANENT and not child.was_ready and depends_ready:
        return replace(child, phase="failed", since=now, last_failure=reason), GiveUp(child.spec.name, reason)
    failures = child.failures + 1
    waits = replace(child, phase="waiting", since=now, exit_code=None, report=None)
    return replace(waits, failures=failures, last_failure=reason, not_before=now + policy.delay_s(failures)), None


def _kill(child: ProcessState, reason: str, now: float) -> tuple[ProcessState, Instruction]:
    return replace(child, phase="killed", since=now, last_failure=reason), Kill(child.spec.name, reason)


def _silence_s(child: ProcessState, now: float) -> float:
    said = child.report.heartbeat_age_s if child.report else 0.0
    return said + now - child.reported_at


def _cause_of_death(child: ProcessState) -> str:
    code = child.exit_code or 0
    if child.report and child.report.state == "failed" and code > 0:
        return child.report.reason
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}" if code else "ended without being asked to"


def decide_stop(children: Children, now: float, ends_at: float) -> Decision:
    """One turn of a service that is to stop: the last child that runs is terminated, later killed; then the one before.

    A child may use the time up to `ends_at`, less a reserve for each that is stopped after it.
    """
    after: Children = {
        name: child if child.running or child.phase == "failed" else replace(child, phase="stopped")
        for name, child in children.items()
    }
    running = [child for child in after.values() if child.running]
    if not running:
        return after, []
    child, name = running[-1], running[-1].spec.name
    if child.phase in ("starting", "ready"):
        after[name] = replace(child, phase="stopping", since=now)
        return after, [Terminate(name)]
    if child.phase == "stopping" and now >= ends_at - _STOP_RESERVE_S * (len(running) - 1):
        after[name], instruction = _kill(child, "did not stop in time", now)
        return after, [instruction]
    return after, []


def overall(children: Children) -> tuple[str, str]:
    """One word for the whole service (starting, ok, degraded, failed), and its reason."""
    troubles = [f"{name}: {trouble}" for name, child in children.items() if (trouble := _trouble(child))]
    if any(child.phase == "failed" for child in children.values()):
        return "failed", "; ".join(troubles)
    if troubles:
        return "degraded", "; ".join(troubles)
    missing = [name for name, child in children.items() if child.phase != "ready"]
    return ("starting", f"waiting for {', '.join(missing)}") if missing else ("ok", "")


def _trouble(child: ProcessState) -> str:
    """Empty when all is well."""
    if child.phase == "ready":
        report = child.report
        return f"{report.state}, {report.reason or 'no heartbeat'}" if report and not report.ready else ""
    if child.phase == "failed" or not child.last_failure:
        return child.last_failure
    return f"{child.last_failure} (death {child.failures} in a row)"


def check_order(specs: Sequence[ProcessSpec]) -> None:
    """Refuse names that stand twice and dependencies that do not stand before their dependent (ServiceError)."""
    known: set[str] = set()
    for spec in specs:
        if spec.name in known:
            raise ServiceError(f"each process needs a name of its own; {spec.name!r} stands twice")
        if missing := set(spec.depends_on) - known:
            raise ServiceError(f"{spec.name!r} depends on {sorted(missing)}, which must stand before it in the list")
        known.add(spec.name)


def as_json(child: ProcessState, now: float) -> dict[str, Any]:
    """One child in the supervisor's health report."""
    waits_s = max(0.0, child.not_before - now) if child.phase == "waiting" else 0.0
    return {
        "phase": child.phase,
        "restarts": max(0, child.starts - 1),
        "last_failure": child.last_failure,
        "starts_in_s": round(waits_s, 1),
        "health": child.report.as_dict() if child.report else None,
    }

"""What the supervisor decides, without processes: children and the time in, instructions out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pfitre_service.errors import ServiceError, SettingsError
from pfitre_service.supervision.health import HealthReport
from pfitre_service.supervision.process import EXIT_FAILED, EXIT_PERMANENT, ProcessContext, ProcessSpec
from pfitre_service.supervision.process_states import (
    Children,
    GiveUp,
    Kill,
    ProcessState,
    RestartPolicy,
    Start,
    Terminate,
    decide,
    decide_stop,
    overall,
)
from pfitre_service.supervision.supervisor import Supervisor

POLICY = RestartPolicy(first_delay_s=0.5, max_delay_s=4.0, healthy_after_s=60.0, stop_timeout_s=9.0)


def main(settings: Any, context: ProcessContext) -> None:
    """Never run here."""


def report(state: str = "idle", *, age_s: float = 0.0, reason: str = "") -> HealthReport:
    return HealthReport("x", 1, state, reason, started=0.0, heartbeat_age_s=age_s, heartbeat_limit_s=30.0)


def spec(name: str, *depends_on: str) -> ProcessSpec:
    return ProcessSpec(name, main, "127.0.0.1:0", depends_on, start_timeout_s=10.0, heartbeat_timeout_s=5.0)


def children(*given: ProcessState) -> Children:
    return {child.spec.name: child for child in given}


def ready(name: str, *depends_on: str, since: float = 0.0) -> ProcessState:
    return ProcessState(
        spec(name, *depends_on),
        phase="ready",
        since=since,
        report=report(),
        reported_at=since,
        starts=1,
        was_ready=True,
    )


def dead(child: ProcessState, code: int, *, last: HealthReport | None = None) -> ProcessState:
    return replace(child, exit_code=code, report=last or child.report)


TILED, WORKER = ProcessState(spec("tiled")), ProcessState(spec("worker", "tiled"))


def test_only_what_depends_on_nothing_starts_at_once() -> None:
    after, instructions = decide(children(TILED, WORKER), 1.0, POLICY)
    assert instructions == [Start("tiled")]
    assert (after["tiled"].phase, after["worker"].phase) == ("starting", "waiting")


def test_a_child_starts_once_what_it_depends_on_is_ready() -> None:
    starting, _ = decide(children(TILED, WORKER), 1.0, POLICY)
    assert decide(starting, 2.0, POLICY)[1] == []
    answered = starting | {"tiled": replace(starting["tiled"], report=report("idle"), reported_at=3.0)}
    seen, instructions = decide(answered, 3.0, POLICY)
    assert (seen["tiled"].phase, instructions) == ("ready", [])
    assert decide(seen, 3.2, POLICY)[1] == [Start("worker")]


@pytest.mark.parametrize("state", ["starting", "failed"])
def test_a_child_that_still_starts_or_failed_is_not_ready(state: str) -> None:
    starting = replace(TILED, phase="starting", report=report(state))
    assert decide(children(starting), 1.0, POLICY)[0]["tiled"].phase == "starting"


def test_a_child_that_is_not_ready_in_time_is_killed() -> None:
    starting = replace(TILED, phase="starting", since=1.0)
    assert decide(children(starting), 11.0, POLICY)[1] == []
    after, instructions = decide(children(starting), 11.1, POLICY)
    assert instructions == [Kill("tiled", "was not ready 10 s after its start")]
    assert after["tiled"].phase == "killed"
    assert decide(after, 11.3, POLICY)[1] == [], "it is killed once and then waited for"


def test_a_dead_child_waits_longer_after_each_death_in_a_row() -> None:
    child, now, waits = TILED, 0.0, []
    for _ in range(6):
        child = decide(children(replace(child, not_before=0.0)), now, POLICY)[0]["tiled"]
        assert child.phase == "starting"
        child = decide(children(dead(child, EXIT_FAILED)), now, POLICY)[0]["tiled"]
        waits.append(child.not_before - now)
        assert decide(children(child), child.not_before - 0.01, POLICY)[1] == []
    assert waits == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert (child.starts, child.failures) == (6, 6)


def test_deaths_are_forgotten_once_a_child_has_been_healthy_for_a_while() -> None:
    child = replace(ready("tiled"), failures=5, reported_at=60.0)
    assert decide(children(child), 60.0, POLICY)[0]["tiled"].failures == 5
    child = replace(child, reported_at=60.5)
    assert decide(children(child), 60.5, POLICY)[0]["tiled"].failures == 0


def test_the_death_of_one_stops_no_other_and_it_waits_for_its_dependency() -> None:
    both = children(dead(ready("tiled"), -9), ready("worker", "tiled"))
    after, instructions = decide(both, 1.0, POLICY)
    assert (instructions, after["worker"].phase) == ([], "ready")
    assert after["tiled"].last_failure == "ended by SIGKILL"
    orphan = after | {"worker": dead(after["worker"], EXIT_FAILED)}
    late, instructions = decide(orphan, 1.6, POLICY)
    assert instructions == [Start("tiled")]
    assert decide(late, 4.0, POLICY)[1] == [], "the worker waits until Tiled is ready again"


@pytest.mark.parametrize(("age_s", "reported_at", "stalls"), [(0.0, 95.5, False), (0.0, 94.5, True), (4.0, 98.0, True)])
def test_a_heartbeat_too_old_by_the_last_report_and_the_time_since_is_a_stall(
    age_s: float, reported_at: float, stalls: bool
) -> None:
    child = replace(ready("tiled"), report=report(age_s=age_s), reported_at=reported_at)
    _, instructions = decide(children(child), 100.0, POLICY)
    assert instructions == ([Kill("tiled", "gave no heartbeat for 5 s")] if stalls else [])


def test_no_child_is_blamed_for_a_pause_of_the_whole_service() -> None:
    child = replace(ready("tiled"), reported_at=10.0)
    assert decide(children(child), 600.0, POLICY, watching_since=599.0)[1] == []
    assert decide(children(child), 604.1, POLICY, watching_since=599.0)[1] != []


def test_a_killed_child_keeps_the_reason_it_was_killed_for() -> None:
    killed = replace(ready("tiled"), phase="killed", last_failure="gave no heartbeat for 5 s", exit_code=-9)
    assert decide(children(killed), 1.0, POLICY)[0]["tiled"].last_failure == "gave no heartbeat for 5 s"


@pytest.mark.parametrize(
    ("code", "last", "reason"),
    [
        (-11, report(), "ended by SIGSEGV"),
        (1, report("failed", reason="RuntimeError: no paper"), "RuntimeError: no paper"),
        (1, report(), "ended with exit code 1"),
        (0, report(), "ended without being asked to"),
    ],
)
def test_the_cause_of_a_death_is_told(code: int, last: HealthReport, reason: str) -> None:
    after, _ = decide(children(dead(ready("tiled"), code, last=last)), 1.0, POLICY)
    assert (after["tiled"].phase, after["tiled"].last_failure) == ("waiting", reason)


def permanent(child: ProcessState) -> ProcessState:
    return dead(child, EXIT_PERMANENT, last=report("failed", reason="StoreError: not writable"))


def test_a_permanent_failure_before_it_was_ever_ready_ends_the_service() -> None:
    after, instructions = decide(children(permanent(replace(TILED, phase="starting"))), 1.0, POLICY)
    assert instructions == [GiveUp("tiled", "StoreError: not writable")]
    assert overall(after) == ("failed", "tiled: StoreError: not writable")


def test_the_same_failure_of_a_child_that_has_worked_before_is_tried_again() -> None:
    again = permanent(replace(ready("tiled"), phase="starting", report=None))
    after, instructions = decide(children(again), 1.0, POLICY)
    assert (after["tiled"].phase, instructions) == ("waiting", [])


def test_a_failure_while_a_dependency_is_down_is_tried_again() -> None:
    down = replace(ready("tiled"), phase="waiting", not_before=9.0)
    after, instructions = decide(children(down, permanent(replace(WORKER, phase="starting"))), 1.0, POLICY)
    assert (after["worker"].phase, instructions) == ("waiting", [])


def test_stopping_goes_from_the_last_to_the_first_one_at_a_time() -> None:
    state, order = children(ready("tiled"), ready("ingest"), ready("worker")), []
    for now in range(3):
        state, instructions = decide_stop(state, now, ends_at=9.0)
        order += instructions
        assert decide_stop(state, now + 0.5, ends_at=9.0)[1] == [], "it is waited for"
        name = instructions[0].name
        state = state | {name: dead(state[name], 0)}
    assert order == [Terminate("worker"), Terminate("ingest"), Terminate("tiled")]
    state, instructions = decide_stop(state, 4.0, ends_at=9.0)
    assert (instructions, {child.phase for child in state.values()}) == ([], {"stopped"})


def test_a_child_that_does_not_stop_is_killed_early_enough_for_those_after_it() -> None:
    state, _ = decide_stop(children(ready("tiled"), ready("ingest"), ready("worker")), 0.0, ends_at=9.0)
    assert decide_stop(state, 6.9, ends_at=9.0)[1] == []
    after, instructions = decide_stop(state, 7.0, ends_at=9.0)
    assert instructions == [Kill("worker", "did not stop in time")]
    assert decide_stop(after, 7.2, ends_at=9.0)[1] == []


def test_stopping_leaves_alone_what_does_not_run() -> None:
    waiting = replace(ready("ingest"), phase="waiting")
    after, instructions = decide_stop(children(ready("tiled"), waiting), 0.0, ends_at=9.0)
    assert (instructions, after["ingest"].phase) == ([Terminate("tiled")], "stopped")


def test_one_word_says_how_the_service_is_and_why() -> None:
    assert overall(children(TILED, WORKER)) == ("starting", "waiting for tiled, worker")
    assert overall(children(ready("tiled"), ready("worker"))) == ("ok", "")
    failing = replace(ready("worker"), report=report("failed", reason="frame of another shape"))
    assert overall(children(ready("tiled"), failing)) == ("degraded", "worker: failed, frame of another shape")
    backing_off = replace(WORKER, last_failure="ended by SIGKILL", failures=2)
    assert overall(children(ready("tiled"), backing_off)) == (
        "degraded",
        "worker: ended by SIGKILL (death 2 in a row)",
    )


@pytest.mark.parametrize(
    ("specs", "complaint"),
    [
        ([spec("a"), spec("a")], "'a' stands twice"),
        ([spec("a", "b"), spec("b")], r"'a' depends on \['b'\], which must stand before it"),
    ],
)
def test_processes_must_have_names_of_their_own_and_stand_after_what_they_need(
    specs: list[ProcessSpec], complaint: str
) -> None:
    with pytest.raises(ServiceError, match=complaint):
        Supervisor(specs, None, health_address="127.0.0.1:0")


def test_a_health_address_that_cannot_be_read_is_refused_before_anything_starts() -> None:
    with pytest.raises(SettingsError, match="host:port"):
        Supervisor([replace(spec("a"), health_address="nowhere")], None, health_address="127.0.0.1:0")

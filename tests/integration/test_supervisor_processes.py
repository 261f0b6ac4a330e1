"""The supervisor with real processes: what happens when they die, hang, refuse to start or to stop."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pfitre_service.addresses import free_ports
from pfitre_service.errors import ServiceError
from pfitre_service.supervision.health import fetch_health
from pfitre_service.supervision.supervisor import Supervisor

pytestmark = pytest.mark.slow


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of helper processes, importable here and in what is spawned from here."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("supervised_processes")


@pytest.fixture
def serving(processes: Any, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `serve` as a terminal would; whatever is left of its process group afterwards is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*names: str) -> subprocess.Popen[str]:
        started.append(processes.start_serving(tmp_path, *names))
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):  # nothing is left, as it should be
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)


def until(condition: Callable[[], Any], what: str, timeout_s: float = 30.0) -> Any:
    """The condition's first true value."""
    ends_at = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < ends_at, f"{what} did not happen within {timeout_s} s"
        time.sleep(0.02)
    return value


def events(folder: Path) -> list[tuple[str, str, int]]:
    path = folder / "events.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(name, event, int(pid)) for name, event, pid in map(str.split, lines)]


def pids(folder: Path) -> list[int]:
    return [pid for _, event, pid in events(folder) if event == "started"]


def exists(pid: int) -> bool:
    """Whether the process still does anything: a zombie that its new parent has yet to bury does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def tree(supervisor: Supervisor) -> dict[str, Any]:
    processes: dict[str, Any] = supervisor.status()["details"]["processes"]
    return processes


def test_a_service_starts_in_order_and_stops_in_reverse_order(processes: Any, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    supervisor = Supervisor(
        processes.specs(processes.idle, processes.idle, processes.idle), tmp_path, health_address=address
    )
    with supervisor.running():
        until(lambda: supervisor.status()["state"] == "ok", "ok")
        report = fetch_health(address)
        assert report is not None
        assert report.ready
        children = report.details["processes"]
        assert [child["phase"] for child in children.values()] == ["ready"] * 3
        assert [child["health"]["pid"] for child in children.values()] == pids(tmp_path)
    assert [(name, event) for name, event, _ in events(tmp_path)] == [
        *((f"idle{n}", "started") for n in (0, 1, 2)),
        *((f"idle{n}", "stopped") for n in (2, 1, 0)),
    ]
    assert supervisor.status()["state"] == "stopped"
    assert fetch_health(address) is None


def test_a_killed_child_is_restarted_and_counted_while_the_others_go_on(processes: Any, tmp_path: Path) -> None:
    supervisor = Supervisor(
        processes.specs(processes.idle, processes.idle), tmp_path, health_address="127.0.0.1:0", policy=processes.POLICY
    )
    with supervisor.running():
        first, second = pids(tmp_path)
        os.kill(first, signal.SIGKILL)
        until(lambda: tree(supervisor)["idle0"]["phase"] != "ready", "notice")
        assert supervisor.status()["state"] == "degraded"
        assert "idle0: ended by SIGKILL" in supervisor.status()["reason"]
        until(lambda: supervisor.status()["state"] == "ok", "recovery")
        child = tree(supervisor)["idle0"]
        assert (child["restarts"], child["last_failure"]) == (1, "ended by SIGKILL")
        assert child["health"]["pid"] not in (first, second)
        assert tree(supervisor)["idle1"]["restarts"] == 0
        assert exists(second)


def test_a_child_that_hangs_is_replaced(processes: Any, tmp_path: Path) -> None:
    specs = processes.specs(processes.hangs_in_its_first_life, heartbeat_timeout_s=1.0)
    supervisor = Supervisor(specs, tmp_path, health_address="127.0.0.1:0", policy=processes.POLICY)
    with supervisor.running():
        child = until(
            lambda: next((c for c in tree(supervisor).values() if c["restarts"] and c["phase"] == "ready"), None),
            "replacement",
        )
        assert child["last_failure"] == "gave no heartbeat for 1 s"
        hung, replacement = pids(tmp_path)
        assert not exists(hung)
        assert exists(replacement)


def test_a_child_frozen_by_the_system_is_replaced(processes: Any, tmp_path: Path) -> None:
    specs = processes.specs(processes.idle, heartbeat_timeout_s=1.0)
    supervisor = Supervisor(specs, tmp_path, health_address="127.0.0.1:0", policy=processes.POLICY)
    with supervisor.running():
        frozen = pids(tmp_path)[0]
        os.kill(frozen, signal.SIGSTOP)
        until(lambda: tree(supervisor)["idle0"]["restarts"] == 1, "restart")
        assert not exists(frozen)


def test_a_child_that_crashes_at_once_backs_off_and_says_why(processes: Any, tmp_path: Path) -> None:
    specs = processes.specs(processes.crashes_at_once)
    supervisor = Supervisor(specs, tmp_path, health_address="127.0.0.1:0", policy=processes.POLICY)
    with pytest.raises(ServiceError, match=r"crashes_at_once0: RuntimeError: out of paper \(death \d in a row\)"):  # noqa: SIM117
        with supervisor.running(ready_timeout_s=4.0):
            pytest.fail("a service whose child never lives is never ready")
    assert 2 <= len(pids(tmp_path)) <= 6  # 0.1 + 0.2 + 0.4 + 0.8 + 1 s of waiting fit into four seconds


def test_a_child_that_is_never_ready_is_killed_and_tried_again(processes: Any, tmp_path: Path) -> None:
    specs = processes.specs(processes.never_ready, start_timeout_s=0.5)
    supervisor = Supervisor(specs, tmp_path, health_address="127.0.0.1:0", policy=processes.POLICY)
    with pytest.raises(ServiceError, match=r"was not ready 0\.5 s after its start"), supervisor.running(3.0):
        pytest.fail("it is never ready")
    assert tree(supervisor)["never_ready0"]["restarts"] >= 1


def test_a_permanent_failure_ends_the_service_with_its_reason(processes: Any, tmp_path: Path) -> None:
    specs = processes.specs(processes.idle, processes.has_no_place_to_write)
    supervisor = Supervisor(specs, tmp_path, health_address="127.0.0.1:0", policy=processes.POLICY)
    with pytest.raises(ServiceError, match="has_no_place_to_write1 cannot start: StoreError: the data folder"):
        supervisor.run()
    assert supervisor.status()["state"] == "failed"
    assert [event for _, event, _ in events(tmp_path)] == ["started", "stopped"]


def test_a_health_port_in_use_is_a_permanent_failure(processes: Any, tmp_path: Path) -> None:
    first, second = processes.specs(processes.idle, processes.idle)
    clash = [first, replace(second, health_address=first.health_address)]
    supervisor = Supervisor(clash, tmp_path, health_address="127.0.0.1:0", policy=processes.POLICY)
    with pytest.raises(ServiceError, match=f"cannot listen on {first.health_address}"):
        supervisor.run()


def test_a_child_deaf_to_sigterm_is_killed_within_the_time_to_stop(processes: Any, tmp_path: Path) -> None:
    specs = processes.specs(processes.idle, processes.deaf_to_sigterm, processes.idle)
    supervisor = Supervisor(specs, tmp_path, health_address="127.0.0.1:0", policy=processes.POLICY)
    with supervisor.running():
        asked_at = time.monotonic()
    assert time.monotonic() - asked_at < 10
    assert not any(exists(pid) for pid in pids(tmp_path))
    assert [name for name, event, _ in events(tmp_path) if event == "stopped"] == ["idle2", "idle0"]


def test_ctrl_c_in_a_terminal_reaches_everyone_but_stops_them_in_order(
    serving: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    service = serving("idle", "idle", "idle")
    until(lambda: len(pids(tmp_path)) == 3, "start")
    os.killpg(service.pid, signal.SIGINT)
    assert service.wait(timeout=10) == 0
    assert [name for name, event, _ in events(tmp_path) if event == "stopped"] == ["idle2", "idle1", "idle0"]


def test_ctrl_c_while_a_child_is_still_importing_stops_cleanly(
    serving: Callable[..., subprocess.Popen[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "importing"
    monkeypatch.setenv("SLOW_IMPORT_MARKER", str(marker))
    service = serving("idle", "idle")
    until(marker.exists, "the first child's import")
    os.killpg(service.pid, signal.SIGINT)
    assert service.wait(timeout=10) == 0
    assert service.stderr is not None
    assert "Traceback" not in service.stderr.read()


def test_a_second_ctrl_c_kills_at_once(serving: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    service = serving("deaf_to_sigterm")
    until(lambda: pids(tmp_path), "start")
    os.killpg(service.pid, signal.SIGINT)
    time.sleep(1.0)  # a person's second Ctrl-C comes later than a wrapper's copy of the first
    os.killpg(service.pid, signal.SIGINT)
    asked_at = time.monotonic()
    assert service.wait(timeout=10) == 130
    assert time.monotonic() - asked_at < 3
    assert not any(exists(pid) for pid in pids(tmp_path))


def test_sigterm_stops_the_service_and_a_killed_child_shows_in_the_exit_code(
    serving: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    service = serving("idle", "deaf_to_sigterm")
    until(lambda: len(pids(tmp_path)) == 2, "start")
    service.terminate()
    assert service.wait(timeout=10) == 1
    assert not any(exists(pid) for pid in pids(tmp_path))


def test_no_child_outlives_a_supervisor_that_was_killed(
    serving: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    service = serving("idle", "hangs_in_its_first_life", "deaf_to_sigterm")
    until(lambda: len(pids(tmp_path)) == 3, "start")
    service.kill()
    service.wait(timeout=5)
    until(lambda: not any(exists(pid) for pid in pids(tmp_path)), "the end of all children", timeout_s=10)
    assert ("idle0", "stopped") in [(name, event) for name, event, _ in events(tmp_path)]


def test_a_process_runs_alone_in_the_foreground_as_in_a_container(tmp_path: Path) -> None:
    here, port = str(Path(__file__).parent), free_ports(1)[0]
    code = (
        f"import sys; sys.path.insert(0, {here!r}); import supervised_processes as p; from pathlib import Path\n"
        "from pfitre_service.supervision.process import run_process\n"
        f"sys.exit(run_process('worker', p.idle, Path({str(tmp_path)!r}), '127.0.0.1:{port}'))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as alone:
        report = until(lambda: fetch_health(f"127.0.0.1:{port}"), "health")
        assert (report.name, report.pid) == ("worker", alone.pid)
        until(lambda: pids(tmp_path), "start")
        alone.send_signal(signal.SIGINT)
        assert alone.wait(timeout=10) == 0
        assert alone.stderr is not None
        assert "worker[" in alone.stderr.read()
    assert [event for _, event, _ in events(tmp_path)] == ["started", "stopped"]


def test_a_signal_in_the_middle_of_a_look_at_stop_does_not_lock_the_process_up() -> None:
    here, port = str(Path(__file__).parent), free_ports(1)[0]
    code = (
        f"import sys; sys.path.insert(0, {here!r}); import supervised_processes as p; from pathlib import Path\n"
        "from pfitre_service.supervision.process import run_process\n"
        f"for _ in range(10): assert run_process('x', p.asks_all_the_time, Path(), '127.0.0.1:{port}') == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)

"""A service of its own for a benchmark: `pfitre serve` in a process, on a temporary folder and free ports."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from pfitre_service.errors import ServiceError

_POLL_S = 0.2
_START_S = 120.0
_STOP_S = 30.0
PORTS = 8
"""So many free ports a service needs."""


class RunningService:
    """What the benchmark asks of a running service, from outside, as anybody might."""

    def __init__(self, data_dir: Path, ports: Sequence[int]) -> None:
        tiled, publish, subscribe, *health = ports
        names = ("supervisor", "tiled", "receive", "ingest", "worker")
        self.publish_address = f"127.0.0.1:{publish}"
        self.data_dir = data_dir
        self._health = f"http://127.0.0.1:{health[0]}/health"
        self.url = f"http://127.0.0.1:{tiled}"
        self._client = httpx.Client(base_url=f"{self.url}/api/v1/", timeout=20.0)
        self.settings = [
            f"tiled.port={tiled}",
            f"proxy.publish={self.publish_address}",
            f"proxy.subscribe=127.0.0.1:{subscribe}",
            f"source.address=127.0.0.1:{subscribe}",
            *(f"health.{name}=127.0.0.1:{port}" for name, port in zip(names, health, strict=True)),
        ]

    @contextmanager
    def running(self, settings: Sequence[str] = ()) -> Iterator[None]:
        """Starts it, waits until every process is ready, and ends it with the block. Raises ServiceError."""
        chosen = [word for setting in (*self.settings, *settings) for word in ("--set", setting)]
        command = [sys.executable, "-m", "pfitre_service", "--log-level", "warning", "serve"]
        process = subprocess.Popen([*command, "--data-dir", str(self.data_dir), *chosen])
        try:
            wait_for(lambda: self._ready(process), _START_S, "the service did not become ready")
            yield
        finally:
            process.terminate()
            process.wait(_STOP_S)
            self._client.close()

    def processes(self) -> dict[str, dict[str, Any]]:
        """The health report of each process by its name: pid, state, details."""
        report = httpx.get(self._health, timeout=5.0).json()
        children = {name: child["health"] or {} for name, child in report["details"].get("processes", {}).items()}
        return {"supervisor": report, **children}

    def ingest(self) -> dict[str, Any]:
        """What the ingest process counted."""
        return dict(self.processes()["ingest"].get("details", {}))

    def cpu_seconds(self) -> dict[str, float]:
        """CPU seconds that each process has used since its start; empty where the system has no /proc."""
        pids = {name: report["pid"] for name, report in self.processes().items() if "pid" in report}
        return {name: _cpu_seconds(pid) for name, pid in pids.items()} if Path("/proc/self/stat").exists() else {}

    def stored(self, run_uid: str) -> tuple[int, bool]:
        """Projections that the catalogue counts, and whether it says that the acquisition has ended."""
        answer = self._client.get(f"metadata/tomograms/{run_uid}/frames")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return 0, False
        metadata = answer.raise_for_status().json()["data"]["attributes"]["metadata"]
        counts = metadata.get("counts") or {}
        return int(counts.get("projection", 0)), metadata.get("state") != "receiving"

    def progress(self, run_uid: str, columns: Sequence[str]) -> dict[str, list[Any]]:
        """Columns of the table of progress, by name; empty before the first step."""
        params = {"format": "application/json", "column": list(columns)}
        answer = self._client.get(f"table/full/tomograms/{run_uid}/progress", params=params)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return {}
        return dict(answer.raise_for_status().json())

    def first_pixels(self, run_uid: str, first: int, stop: int) -> bytes:
        """The first two pixels of the stored frames `first` to `stop`, uint16."""
        params = {"slice": f"{first}:{stop},0:1,0:2", "format": "application/octet-stream"}
        answer = self._client.get(f"array/full/tomograms/{run_uid}/projections", params=params)
        return answer.raise_for_status().content

    def _ready(self, process: subprocess.Popen[bytes]) -> bool:
        if process.poll() is not None:
            raise ServiceError(f"the service ended with exit code {process.returncode} at its start; see the log above")
        try:
            return bool(httpx.get(self._health, timeout=5.0).json()["state"] == "ok")
        except httpx.TransportError:
            return False


def wait_for(condition: Any, timeout_s: float, otherwise: str) -> None:
    """Returns once `condition()` is true. Raises ServiceError, which says `otherwise`, after `timeout_s`."""
    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise ServiceError(f"{otherwise} within {timeout_s:g} s")
        pause.wait(_POLL_S)


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process, from the fields 14 and 15 of /proc/PID/stat (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

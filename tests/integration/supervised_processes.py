"""Small real processes for the supervisor's tests, in a module of its own because a spawned process imports its target.

`settings` is a folder: each process appends to `events.txt` there what happens to it, one line "name event pid".
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pfitre_service.addresses import free_ports
from pfitre_service.errors import ServiceError, StoreError
from pfitre_service.supervision.process import ProcessContext, ProcessSpec
from pfitre_service.supervision.process_states import RestartPolicy
from pfitre_service.supervision.supervisor import Supervisor

if (marker := os.environ.get("SLOW_IMPORT_MARKER")) and multiprocessing.current_process().name != "MainProcess":
    Path(marker).touch()  # a spawned process is in the middle of its imports
    time.sleep(1.0)

POLICY = RestartPolicy(first_delay_s=0.1, max_delay_s=1.0)
IMPATIENT = RestartPolicy(stop_timeout_s=2.0)


def record(folder: Path, name: str, event: str) -> None:
    with (folder / "events.txt").open("a") as file:
        file.write(f"{name} {event} {os.getpid()}\n")


def idle(folder: Path, context: ProcessContext) -> None:
    """Does nothing, properly."""
    record(folder, context.name, "started")
    context.health.set_state("idle", "nothing to do")
    while not context.stop.wait(0.05):
        context.health.beat()
    record(folder, context.name, "stopped")


def hangs_in_its_first_life(folder: Path, context: ProcessContext) -> None:
    record(folder, context.name, "started")
    context.health.set_state("idle")
    if not (folder / "hung").exists():
        (folder / "hung").touch()
        time.sleep(600)
    while not context.stop.wait(0.05):
        context.health.beat()


def crashes_at_once(folder: Path, context: ProcessContext) -> None:
    record(folder, context.name, "started")
    raise RuntimeError("out of paper")


def has_no_place_to_write(folder: Path, context: ProcessContext) -> None:
    raise StoreError(f"the data folder {folder} cannot be written; mount it writable")


def never_ready(folder: Path, context: ProcessContext) -> None:
    context.stop.wait()


def deaf_to_sigterm(folder: Path, context: ProcessContext) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    record(folder, context.name, "started")
    context.health.set_state("idle")
    while True:
        time.sleep(0.05)
        context.health.beat()


def asks_all_the_time(folder: Path, context: ProcessContext) -> None:
    """Is inside `stop.wait` at nearly every moment at which a signal may come."""
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
    while not context.stop.wait(0):
        context.health.beat()


def specs(*mains: Any, **values: Any) -> list[ProcessSpec]:
    """One spec a function, named after it, each depending on the one before."""
    ports = free_ports(len(mains))
    names = [f"{main.__name__}{number}" for number, main in enumerate(mains)]
    return [
        ProcessSpec(name, main, f"127.0.0.1:{port}", depends_on=tuple(names[max(0, number - 1) : number]), **values)
        for number, (name, main, port) in enumerate(zip(names, mains, ports, strict=True))
    ]


def serve(folder: Path, *names: str) -> None:
    """What `pfitre serve` does, with the named functions of this module; ends the interpreter."""
    logging.basicConfig(level=logging.INFO)
    mains = [globals()[name] for name in names]
    supervisor = Supervisor(specs(*mains), folder, health_address="127.0.0.1:0", policy=IMPATIENT)
    try:
        sys.exit(supervisor.run())
    except ServiceError as error:
        sys.exit(str(error))


def start_serving(folder: Path, *names: str) -> subprocess.Popen[str]:
    """`serve` in an interpreter and a process group of its own, as a terminal would start it."""
    here = str(Path(__file__).parent)
    code = (
        f"import sys; sys.path.insert(0, {here!r}); import supervised_processes as p; from pathlib import Path; "
        f"p.serve(Path({str(folder)!r}), *{names!r})"
    )
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True, text=True, stderr=subprocess.PIPE)

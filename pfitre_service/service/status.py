"""`pfitre status`: asks the processes how they are, and says it to people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Column, Table

from pfitre_service.config import Settings
from pfitre_service.errors import ServiceError, SettingsError
from pfitre_service.supervision.health import fetch_health
from pfitre_service.text_output import make_console

_TIMEOUT_S = 3.0
_NOT_WELL = frozenset({"waiting", "degraded", "failed"})


def ask(settings: Settings, process: str | None = None) -> dict[str, Any]:
    """The health report of one process, or of the supervisor with all of them, as JSON values.

    Raises ServiceError when nothing answers, SettingsError for a name that is none.
    """
    names = list(type(settings.health).model_fields)
    chosen = process or "supervisor"
    if chosen not in names:
        raise SettingsError(f"there is no process {chosen!r}; choose one of {', '.join(names)}")
    address = getattr(settings.health, chosen)
    report = fetch_health(address, _TIMEOUT_S)
    if report is None:
        raise ServiceError(
            f"nothing answers at {address}, where the health of {chosen} would be: is the service running? "
            f"Start it with `pfitre serve`, or give the profile or settings (health.{chosen}) that it runs with"
        )
    return report.as_dict()


def troubles(report: dict[str, Any]) -> list[str]:
    """All that is not well in a report of `ask`, a line each: a process that is not ready, or waits for another or for
    the disk; frames that are refused. A tomogram of which nothing can come is none of the service's."""
    found = [] if report["ready"] else [_line(report)]
    for name, child in (report["details"].get("processes") or {}).items():
        own = child["health"]
        if own is None or child["phase"] != "ready":
            found.append(f"{name} is {child['phase']}: {child['last_failure'] or 'no reason given'}")
        else:
            found += _of_process(own)
    return found if report["details"].get("processes") else [*found, *_of_process(report)]


def _of_process(report: dict[str, Any]) -> list[str]:
    found = [_line(report)] if report["state"] in _NOT_WELL or not report["ready"] else []
    refused = report["details"].get("refused_by_store", 0)
    if refused:
        found.append(f"{report['name']} could not store {refused} frames")
    store = report["details"].get("store") or {}
    if store.get("given_up"):
        found.append(f"{report['name']} gave up {store['given_up']} tomograms; {store['given_up_last']}")
    return found


def render(report: dict[str, Any]) -> None:
    """Prints a report of `ask`."""
    console = make_console()
    console.print(_line(report))
    for trouble in troubles(report):
        console.print(f"not well: {trouble}", style="yellow")
    processes = report["details"].get("processes")
    if processes is None:
        _print_details(console, report)
        return
    table = Table("process", "state", "pid", "restarts", "reason")
    for name, child in processes.items():
        own = child["health"] or {"state": child["phase"], "pid": "-", "reason": child["last_failure"]}
        table.add_row(name, own["state"], str(own["pid"]), str(child["restarts"]), own["reason"] or "")
    console.print(table)
    worker = processes.get("worker", {}).get("health") or {}
    tomograms = worker.get("details", {}).get("tomograms")
    if tomograms:
        _print_tomograms(console, tomograms)


def _line(report: dict[str, Any]) -> str:
    reason = f": {report['reason']}" if report["reason"] else ""
    return f"{report['name']} is {report['state']}{reason}"


def _print_details(console: Console, report: dict[str, Any]) -> None:
    for name, value in report["details"].items():
        console.print(f"  {name}: {value}")


def _print_tomograms(console: Console, tomograms: list[dict[str, Any]]) -> None:
    table = Table(
        Column("tomogram", no_wrap=True),
        "state",
        "used / stored / expected",
        "iterations",
        "residual",
        "held-out error",
    )
    for one in tomograms:
        table.add_row(
            one["id"],
            one["state"],
            f"{one.get('angles_used', 0)} / {one['stored']} / {one['expected'] or '?'}",
            str(one.get("iterations", 0)),
            _number(one.get("residual")),
            _number(one.get("heldout_error")),
        )
    console.print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"

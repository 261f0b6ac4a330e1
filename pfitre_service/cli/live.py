"""Commands of the live service."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from pfitre_service.cli.options import (
    DataOption,
    JsonOption,
    Logging,
    ProfileOption,
    SetOption,
    overrides_of,
    print_json,
    settings_of,
)

app = typer.Typer()


@app.command()
def demo(
    scan: Annotated[
        str, typer.Option(help="cu23 (real data), chip or particle (simulated), epics or hxn (simulated beamlines).")
    ] = "cu23",
    output: Annotated[Path, typer.Option(help="Folder for catalogue and picture.")] = Path("pfitre-demo"),
    exposure: Annotated[float, typer.Option(min=0.0, help="Seconds per projection.")] = 0.3,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the service running afterwards, until Ctrl-C.")] = False,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Starts everything, runs one live scan, and shows what came of it.

    Real parts throughout: a RunEngine, a 0MQ proxy, Tiled, a worker process. Nothing to install or configure (but
    caproto for `epics`: pip install 'pfitre-service\\[epics]').

    Examples:
      pfitre demo
      pfitre demo --scan chip --keep
      pfitre demo --scan epics
      pfitre demo --exposure 1 --json > summary.json
    """
    from pfitre_service.demo.demo import run_demo

    Logging.set_up(logging.WARNING)
    run_demo(
        scan,
        output=output,
        exposure_s=exposure,
        keep=keep,
        overrides=overrides_of(set_),
        on_summary=print_json if as_json else lambda summary: None,
    )


@app.command()
def serve(
    profile: ProfileOption = None,
    data_dir: DataOption = None,
    epics: Annotated[
        str | None, typer.Option(metavar="PREFIX", help="Offer slices and status as process variables (PV Access).")
    ] = None,
    set_: SetOption = None,
) -> None:
    """Runs the service until it is stopped (Ctrl-C or SIGTERM): Tiled, 0MQ proxy, ingest and worker under a supervisor.

    Point RunEngines at the proxy: RE.subscribe(bluesky.callbacks.zmq.Publisher("127.0.0.1:5567"))

    Examples:
      pfitre serve
      pfitre serve --profile profiles/sim --data-dir /data/pfitre
      pfitre serve --set tiled.port=8020 --set worker.device=cuda:0
      pfitre serve --epics XF18:pfitre:
    """
    from pfitre_service.service.serve import run_service

    level = Logging.set_up(logging.INFO)
    chosen = [*(set_ or []), *([] if epics is None else [f"epics.prefix={epics}"])]
    sys.exit(run_service(settings_of(profile, data_dir, chosen), log_level=level))


@app.command()
def process(
    name: Annotated[str, typer.Argument(help="receive, tiled, ingest, worker or epics.")],
    profile: ProfileOption = None,
    data_dir: DataOption = None,
    set_: SetOption = None,
) -> None:
    """Runs one process of the service alone, as containers and service managers do.

    Examples:
      pfitre process tiled
      PFITRE_TILED__URI=http://tiled:8010 pfitre process worker
    """
    from pfitre_service.service.serve import run_alone

    level = Logging.set_up(logging.INFO)
    sys.exit(run_alone(name, settings_of(profile, data_dir, set_), log_level=level))


@app.command()
def status(
    name: Annotated[
        str | None, typer.Option("--process", help="Only this process; exit code 1 when it is not well.")
    ] = None,
    profile: ProfileOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Says what runs: processes, tomograms in work, what was counted. Exit code 1 when something is not well.

    Examples:
      pfitre status
      pfitre status --json
      pfitre status --process worker
    """
    from pfitre_service.service.status import ask, render, troubles

    report = ask(settings_of(profile, None, set_), name)
    if as_json:
        print_json(report)
    else:
        render(report)
    sys.exit(1 if troubles(report) else 0)

"""`pfitre`: reads settings, sets up logging, calls one function.

Results go to standard output, progress and logs to standard error; with `--json` standard output holds one JSON object
and nothing else. Exit codes: 0 done, 1 an error that the message explains, 2 a command line that cannot be read, 3 a
service that cannot start.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import pfitre_service
from pfitre_service.config import Settings, load_settings
from pfitre_service.errors import PfitreError, ServiceError, SettingsError

EXIT_SERVICE = 3
"""The service cannot start for a reason that another start would not mend."""

app = typer.Typer(
    help="Live, trustworthy limited-angle tomography for Bluesky beamlines.",
    epilog="Start with [bold]pfitre demo[/bold]: everything embedded, one live scan, a picture.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
bench = typer.Typer(
    help="Measures what the README claims.",
    epilog="For example: [bold]pfitre bench solver --json[/bold]",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.add_typer(bench, name="bench")

ProfileOption = Annotated[
    Path | None, typer.Option("--profile", "-p", help="Folder of a beamline's profile.toml, or the file itself.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", help="One setting, as section.name=value; may be given many times.", metavar="KEY=VALUE"
    ),
]
DataOption = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of catalogue and arrays.  [default: ./pfitre-data]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def main() -> None:
    """The entry point: errors of our own become one plain line."""
    try:
        app()
    except PfitreError as error:
        print(f"pfitre: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_SERVICE if isinstance(error, ServiceError) else 1)


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        typer.Option("--log-level", help="How much is logged.  [default: info for serve and process, else warning]"),
    ] = None,
) -> None:
    if version:
        typer.echo(pfitre_service.__version__)
        raise typer.Exit
    _Logging.chosen = log_level


@app.command()
def demo(
    scan: Annotated[str, typer.Option(help="cu23 (real data), chip or particle (simulated).")] = "cu23",
    output: Annotated[Path, typer.Option(help="Folder for catalogue and picture.")] = Path("pfitre-demo"),
    exposure: Annotated[float, typer.Option(min=0.0, help="Seconds per projection.")] = 0.3,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the service running afterwards, until Ctrl-C.")] = False,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Starts everything, runs one live scan, and shows what came of it.

    Real parts throughout: a RunEngine, a 0MQ proxy, Tiled, a worker process. Nothing to install or configure.

    Examples:
      pfitre demo
      pfitre demo --scan chip --keep
      pfitre demo --exposure 1 --json > summary.json
    """
    from pfitre_service.service.demo import run_demo

    _Logging.set_up(logging.WARNING)
    run_demo(
        scan,
        output=output,
        exposure_s=exposure,
        keep=keep,
        overrides=_overrides(set_),
        on_summary=_print_json if as_json else lambda summary: None,
    )


@app.command()
def serve(profile: ProfileOption = None, data_dir: DataOption = None, set_: SetOption = None) -> None:
    """Runs the service until it is stopped (Ctrl-C or SIGTERM): Tiled, 0MQ proxy, ingest and worker under a supervisor.

    Point RunEngines at the proxy: RE.subscribe(bluesky.callbacks.zmq.Publisher("127.0.0.1:5567"))

    Examples:
      pfitre serve
      pfitre serve --profile profiles/sim --data-dir /data/pfitre
      pfitre serve --set tiled.port=8020 --set worker.device=cuda:0
    """
    from pfitre_service.service.serve import run_service

    level = _Logging.set_up(logging.INFO)
    sys.exit(run_service(_settings(profile, data_dir, set_), log_level=level))


@app.command()
def process(
    name: Annotated[str, typer.Argument(help="tiled, proxy, ingest or worker.")],
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

    level = _Logging.set_up(logging.INFO)
    sys.exit(run_alone(name, _settings(profile, data_dir, set_), log_level=level))


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
    from pfitre_service.service.status import ask, render

    report = ask(_settings(profile, None, set_), name)
    if as_json:
        _print_json(report)
    else:
        render(report)
    sys.exit(0 if report["ready"] else 1)


@app.command()
def reconstruct(
    file: Annotated[Path, typer.Argument(help="Data Exchange HDF5, TIFF stack, or folder of TIFF images.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Result: .h5, .tif or .zarr.")] = None,
    angles: Annotated[
        Path | None, typer.Option(help="CSV of angles in degrees, for TIFF.  [default: FILE with suffix .csv]")
    ] = None,
    flats: Annotated[Path | None, typer.Option(help="TIFF of flat fields, for TIFF counts.")] = None,
    darks: Annotated[Path | None, typer.Option(help="TIFF of dark fields, for TIFF counts.")] = None,
    axis: Annotated[float | None, typer.Option(help="Column of the rotation axis.  [default: the middle]")] = None,
    prior: Annotated[Literal["auto", "none", "tv"], typer.Option(help="What fills in the missing wedge.")] = "auto",
    iterations: Annotated[int | None, typer.Option(min=1, help="Most steps.  [default: until converged]")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda:0, ...  [default: a GPU where there is one]")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    profile: ProfileOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reconstructs a stored scan with the engine of the live service.

    Examples:
      pfitre reconstruct tooth.h5 -o tooth_volume.h5
      pfitre reconstruct cu23.tiff --angles cu23.csv --axis 74.5 -o cu23.zarr
      pfitre reconstruct scan.h5 --prior none --json
    """
    from pfitre_service.service.reconstruct_file import reconstruct_file

    _Logging.set_up(logging.WARNING)
    summary = reconstruct_file(
        file,
        output,
        angles=angles,
        flats=flats,
        darks=darks,
        axis=axis,
        prior=prior,
        iterations=iterations,
        device=device,
        overwrite=overwrite,
        settings=_settings(profile, None, set_),
    )
    if as_json:
        _print_json(summary)


@bench.command()
def solver(
    repeats: Annotated[int, typer.Option(min=1, help="Times each side is run, in turn.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """The data step beside the published way (SciPy's GMRES on ASTRA's CPU projector), at equal residual.

    Examples:
      pfitre bench solver
      pfitre bench solver --repeats 5 --json
    """
    from pfitre_service.bench.solver import render, run

    _Logging.set_up(logging.WARNING)
    result = run(repeats=repeats)
    if as_json:
        _print_json(result)
    else:
        typer.echo(render(result))


class _Logging:
    """What `--log-level` chose; each command has its own default."""

    chosen: str | None = None

    @classmethod
    def set_up(cls, default: int) -> int:
        """Logs to standard error; returns the level."""
        level = default if cls.chosen is None else logging.getLevelNamesMapping()[cls.chosen.upper()]
        logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", force=True)
        # One line a request is of no use to anyone but developers.
        logging.getLogger("httpx").setLevel(max(level, logging.WARNING))
        return level


def _settings(profile: Path | None, data_dir: Path | None, assignments: list[str] | None) -> Settings:
    overrides = _overrides(assignments)
    if data_dir is not None:
        overrides["data_dir"] = data_dir
    return load_settings(profile, overrides)


def _overrides(assignments: list[str] | None) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for assignment in assignments or []:
        path, equals, value = assignment.partition("=")
        if not equals or not path:
            raise SettingsError(f"--set takes section.name=value, for example tiled.port=8020; got {assignment!r}")
        *sections, name = path.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
            if not isinstance(branch, dict):
                raise SettingsError(f"--set {assignment}: {section} is a setting, not a section")
        branch[name] = json.loads(value) if value.startswith("[") else value
    return tree


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(_plain(value), allow_nan=False))


def _plain(value: Any) -> Any:
    """JSON has no NaN, and more than six significant digits of a measurement say nothing."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value

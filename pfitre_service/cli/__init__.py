"""`pfitre`: reads settings, sets up logging, calls one function.

Results go to standard output, progress and logs to standard error; with `--json` standard output holds one JSON object
and nothing else. Exit codes: 0 done, 1 an error that the message explains, 2 a command line that cannot be read, 3 a
service that cannot start.
"""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

import pfitre_service
from pfitre_service.cli import bench, export, live, prior, stored
from pfitre_service.cli.options import Logging
from pfitre_service.errors import PfitreError, ServiceError
from pfitre_service.text_output import printable, take_any_text

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
for part in (live.app, stored.app, export.app, prior.app):
    app.add_typer(part)
app.add_typer(prior.weights, name="weights")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """The entry point: errors of our own become one plain line."""
    take_any_text()
    try:
        app()
    except PfitreError as error:
        print(f"pfitre: {printable(str(error))}", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_SERVICE if isinstance(error, ServiceError) else 1)


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        typer.Option(
            "--log-level", help="How much is logged.", show_default="info for serve and process, else warning"
        ),
    ] = None,
) -> None:
    if version:
        typer.echo(pfitre_service.__version__)
        raise typer.Exit
    Logging.chosen = log_level

"""Commands that measure."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from pfitre_service.cli.options import JsonOption, Logging, print_json

app = typer.Typer(
    help="Measures what the README claims.",
    epilog="For example: [bold]pfitre bench solver --json[/bold]",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.command()
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

    Logging.set_up(logging.WARNING)
    result = run(repeats=repeats)
    if as_json:
        print_json(result)
    else:
        typer.echo(render(result))


@app.command()
def quality(
    weights: Annotated[str, typer.Option(help="Weights by name, as `pfitre weights list` shows them.")] = "pfitre-s",
    size: Annotated[int, typer.Option(min=32, help="Width of a slice in pixels.")] = 128,
    slices: Annotated[int, typer.Option(min=1, help="Slices of each family, for each scan.")] = 4,
    folder: Annotated[
        Path | None, typer.Option(help="Folder of weights made here.  [default: in the data home]")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for table, picture and JSON.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes with one thread each.  [default: one a core]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """PFITRE beside back-projection, SIRT, tuned total variation and one pass, on objects that training never saw.

    Examples:
      pfitre bench quality --output quality
      pfitre bench quality --weights pfitre-s-trained --folder pfitre-training --slices 8 --json
    """
    from pfitre_service.bench.quality_display import run_and_show
    from pfitre_service.bench.quality_parameters import QualityParameters

    Logging.set_up(logging.WARNING)
    parameters = QualityParameters(
        weights=weights, weights_folder=folder, size=size, slices=slices, jobs=jobs or os.cpu_count() or 1
    )
    result = run_and_show(parameters, output=output)
    if as_json:
        print_json(result)


@app.command()
def rings(
    file: Annotated[Path, typer.Argument(help="Data Exchange HDF5, TIFF stack, or folder of TIFF images.")],
    axis: Annotated[float | None, typer.Option(help="Column of the rotation axis.  [default: the middle]")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="PNG to compare by eye.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Rings in a stored scan: as they are, by each setting of preprocess.stripes, and by algotom's removal.

    Examples:
      pfitre bench rings tooth.h5 --axis 296 --output tooth.png
    """
    from pfitre_service.bench.rings import draw, render, run
    from pfitre_service.ingest import read_scan

    Logging.set_up(logging.WARNING)
    scan = read_scan(file)
    result, slices = run(
        scan.projections, scan.angles, flats=scan.flats, darks=scan.darks, measurement=scan.measurement, axis=axis
    )
    if output is not None:
        draw(output, slices, result)
    if as_json:
        print_json(result)
    else:
        typer.echo(render(result))

"""Commands that measure."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from pfitre_service.cli.options import JsonOption, Logging, print_json
from pfitre_service.errors import SettingsError
from pfitre_service.json_values import strict_json
from pfitre_service.text_output import make_console, say

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
    from pfitre_service.bench.solver.benchmark import render, run

    Logging.set_up(logging.WARNING)
    result = run(repeats=repeats)
    if as_json:
        print_json(result)
    else:
        say(render(result))


@app.command()
def quality(
    weights: Annotated[str, typer.Option(help="Weights by name, as `pfitre weights list` shows them.")] = "pfitre-s",
    size: Annotated[int, typer.Option(min=32, help="Width of a slice in pixels.")] = 128,
    slices: Annotated[int, typer.Option(min=1, help="Slices of each family, for each scan.")] = 4,
    folder: Annotated[
        Path | None, typer.Option(help="Folder of weights made here.", show_default="in the data home")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for table, picture and JSON.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes with one thread each.", show_default="one a core")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """PFITRE beside back-projection, SIRT, tuned total variation and one pass, on objects that training never saw.

    Examples:
      pfitre bench quality --output quality
      pfitre bench quality --weights pfitre-s-trained --folder pfitre-training --slices 8 --json
    """
    from pfitre_service.bench.quality.display import run_and_show
    from pfitre_service.bench.quality.parameters import QualityParameters

    Logging.set_up(logging.WARNING)
    parameters = QualityParameters(
        weights=weights, weights_folder=folder, size=size, slices=slices, jobs=jobs or os.cpu_count() or 1
    )
    result = run_and_show(parameters, output=output)
    if as_json:
        print_json(result)


@app.command()
def stream(
    file: Annotated[
        bool, typer.Option("--file", help="Frames in an HDF5 file that grows, announced by stream datums.")
    ] = False,
    rate: Annotated[
        float | None, typer.Option(min=0.1, help="Frames a second.", show_default="500, with --file 10")
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            help="Rows x columns of a frame.", show_default="256x256, with --file 2048x2048", metavar="ROWSxCOLUMNS"
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of the scan.")] = 60.0,
    kill: Annotated[
        list[str] | None,
        typer.Option(help="A process that is killed while the scan runs; may be given again.", show_default="none"),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Disk to measure: a temporary folder is made here.", show_default="the system's"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Frames from a real publisher into the catalogue of a whole service: how many, how late, at what cost.

    Examples:
      pfitre bench stream
      pfitre bench stream --file
      pfitre bench stream --rate 100 --shape 512x512 --seconds 30 --json
      pfitre bench stream --kill ingest --kill receive --kill ingest
    """
    from pfitre_service.addresses import free_ports
    from pfitre_service.bench.running_service import PORTS
    from pfitre_service.bench.stream.benchmark import StreamParameters, render, run

    Logging.set_up(logging.WARNING)
    parameters = StreamParameters(
        rate=rate or (10.0 if file else 500.0),
        shape=_shape(shape or ("2048x2048" if file else "256x256")),
        seconds=seconds,
        file=file,
        kill=tuple(kill or ()),
    )
    result = run(parameters, free_ports(PORTS), folder)
    if as_json:
        print_json(result)
    else:
        say(render(result))


@app.command()
def page(
    size: Annotated[int, typer.Option(min=32, help="Width of the slices whose revisions are followed.")] = 512,
    revisions: Annotated[int, typer.Option(min=30, help="Drawn by the page whose memory is looked at.")] = 200,
    pages: Annotated[int, typer.Option(min=1, help="That watch one live tomogram.")] = 10,
    live_size: Annotated[int, typer.Option(min=32, help="Slices, rows and columns of that tomogram.")] = 256,
    seconds: Annotated[float, typer.Option(min=1, help="Of each of four blocks, without and with pages.")] = 60.0,
    folder: Annotated[
        Path | None, typer.Option(help="Disk to use: temporary folders are made here.", show_default="the system's")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The page in headless Chromium on a live scan: first picture, delay, memory, and what many pages cost the worker.

    Examples:
      pfitre bench page
      pfitre bench page --pages 3 --live-size 128 --seconds 20 --json
    """
    from pfitre_service.addresses import free_ports
    from pfitre_service.bench.page.benchmark import PageParameters, render, run
    from pfitre_service.bench.running_service import PORTS

    Logging.set_up(logging.WARNING)
    parameters = PageParameters(size=size, revisions=revisions, pages=pages, live_size=live_size, seconds=seconds)
    ports = free_ports(2 * PORTS)
    result = run(parameters, (ports[:PORTS], ports[PORTS:]), folder)
    if as_json:
        print_json(result)
    else:
        say(render(result))


@app.command()
def rings(
    file: Annotated[Path, typer.Argument(help="Data Exchange HDF5, TIFF stack, or folder of TIFF images.")],
    axis: Annotated[float | None, typer.Option(help="Column of the rotation axis.", show_default="the middle")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="PNG to compare by eye.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Rings in a stored scan: as they are, by each setting of preprocess.stripes, and by algotom's removal.

    Examples:
      pfitre bench rings tooth.h5 --axis 296 --output tooth.png
    """
    from pfitre_service.bench.rings.benchmark import draw, render, run
    from pfitre_service.ingest import read_scan

    Logging.set_up(logging.WARNING)
    scan = read_scan(file)
    result, slices = run(
        scan.projections,
        scan.angles,
        flats=scan.flats,
        darks=scan.darks,
        measurement=scan.measurement or "line_integral",
        axis=axis,
    )
    if output is not None:
        draw(output, slices, result)
    if as_json:
        print_json(result)
    else:
        say(render(result))


@app.command()
def expected_error(
    prior: Annotated[str, typer.Option(help="auto, tv, none, or weights by name.")] = "auto",
    size: Annotated[int, typer.Option(min=32, help="Width of a slice in pixels.")] = 128,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="PNG of the reliability plot.")] = None,
    fit: Annotated[
        Path | None, typer.Option(help="Fits the model of the error anew, writes it to this JSON file, and ends.")
    ] = None,
    fit_cost: Annotated[
        Path | None, typer.Option(help="Fits anew what inference costs, writes it to this JSON file, and ends.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Whether expected errors and held-out errors are right, on simulated tomograms whose truth is known.

    Examples:
      pfitre bench expected-error --output reliability.png
      pfitre bench expected-error --fit error_model.json
      pfitre bench expected-error --fit-cost inference_cost.json
    """
    from pfitre_service.bench.expected_error.benchmark import draw, render, run
    from pfitre_service.bench.expected_error.error_model_fit import FitParameters
    from pfitre_service.bench.expected_error.error_model_fit import fit as fit_model
    from pfitre_service.bench.expected_error.inference_cost_fit import CostParameters, collect
    from pfitre_service.bench.expected_error.inference_cost_fit import fit as fit_inference_cost

    Logging.set_up(logging.ERROR)
    with make_console(stderr=True).status("") as status:
        if fit is not None:
            document = fit_model(FitParameters(), on_case=status.update).document()
            fit.write_text(strict_json(document, "the error model", indent=1) + "\n", encoding="utf-8")
            return
        if fit_cost is not None:
            chosen = CostParameters()
            rows = collect(chosen, on_case=status.update)
            document = fit_inference_cost(rows, chosen).document()
            fit_cost.write_text(strict_json(document, "the cost", indent=1) + "\n", encoding="utf-8")
            return
        result = run(prior, size=size, on_case=status.update)
    if output is not None:
        draw(output, result)
    if as_json:
        print_json(result)
    else:
        say(render(result))


def _shape(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and int(rows) >= 1 and int(columns) >= 2):
        raise SettingsError(f"--shape takes rows and columns of at least 1 x 2, for example 256x256; got {text!r}")
    return int(rows), int(columns)

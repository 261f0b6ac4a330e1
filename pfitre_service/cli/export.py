"""Commands that take a tomogram out of the catalogue."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Literal

import typer

from pfitre_service.cli.options import (
    DataOption,
    JsonOption,
    Logging,
    ProfileOption,
    SetOption,
    print_json,
    settings_of,
)

app = typer.Typer()

TomogramArgument = Annotated[
    str, typer.Argument(help="Uid or its beginning, scan id, sample, or newest.", show_default=False)
]
ServerOption = Annotated[
    str | None, typer.Option(help="Address of the catalogue.", show_default="the service of these settings")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


@app.command()
def export(
    tomogram: TomogramArgument,
    to: Annotated[Path, typer.Option(help="Where to: .h5, .ome.zarr, .ome.zarr.zip or .tif.", show_default=False)],
    format_: Annotated[
        Literal["nexus", "ome-zarr", "tiff"] | None,
        typer.Option("--format", "-f", help="Format.", show_default="by the end of --to"),
    ] = None,
    array: Annotated[
        Literal["volume", "physics", "expected_error", "inferred", "preview"] | None,
        typer.Option(help="One array alone.", show_default="all; in TIFF the volume"),
    ] = None,
    server: ServerOption = None,
    overwrite: OverwriteOption = False,
    profile: ProfileOption = None,
    data_dir: DataOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Writes a tomogram as NeXus HDF5, OME-Zarr or TIFF, with its provenance.

    Needs a running service, or any server that holds its catalogue. A tomogram that is not final is exported as it is
    now, with a warning that stands in the file too.

    Examples:
      pfitre export newest --to chip.h5
      pfitre export 5da75b34 --format ome-zarr --to chip.ome.zarr
      pfitre export 1042 --to physics.tif --array physics --server http://beamline:8010
    """
    from pfitre_service.export.load_tomogram import export_command

    Logging.set_up(logging.WARNING)
    summary = export_command(
        tomogram,
        to,
        kind=format_,
        array=array,
        server=server,
        overwrite=overwrite,
        settings=settings_of(profile, data_dir, set_),
    )
    if as_json:
        print_json(summary)


@app.command()
def report(
    tomogram: TomogramArgument,
    to: Annotated[Path, typer.Option(help="Where to: .html.", show_default=False)],
    server: ServerOption = None,
    overwrite: OverwriteOption = False,
    profile: ProfileOption = None,
    data_dir: DataOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Writes one page for the logbook: slices, curves, angles, how far to believe it, and where it comes from.

    One HTML file that needs nothing else, made for A4; a browser prints it to PDF. Needs a running service, or any
    server that holds its catalogue.

    Examples:
      pfitre report newest --to chip.html
      pfitre report 1042 --to report.html --server http://beamline:8010
    """
    from pfitre_service.export.load_tomogram import report_command

    Logging.set_up(logging.WARNING)
    summary = report_command(
        tomogram, to, server=server, overwrite=overwrite, settings=settings_of(profile, data_dir, set_)
    )
    if as_json:
        print_json(summary)

"""Commands on stored scans."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from pfitre_service.cli.options import JsonOption, Logging, ProfileOption, SetOption, print_json, settings_of

app = typer.Typer()


@app.command()
def reconstruct(
    file: Annotated[Path, typer.Argument(help="Data Exchange HDF5, TIFF stack, or folder of TIFF images.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Result: .h5, .tif or .zarr.")] = None,
    angles: Annotated[
        Path | None, typer.Option(help="CSV of angles in degrees, for TIFF.  [default: FILE with suffix .csv]")
    ] = None,
    flats: Annotated[Path | None, typer.Option(help="TIFF of flat fields, for TIFF counts.")] = None,
    darks: Annotated[Path | None, typer.Option(help="TIFF of dark fields, for TIFF counts.")] = None,
    axis: Annotated[float | None, typer.Option(help="Column of the rotation axis.  [default: found]")] = None,
    prior: Annotated[
        str, typer.Option(help="What fills in the missing wedge: auto, none, tv, or weights by name.")
    ] = "auto",
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

    Logging.set_up(logging.WARNING)
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
        settings=settings_of(profile, None, set_),
    )
    if as_json:
        print_json(summary)

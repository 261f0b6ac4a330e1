"""Commands on stored scans."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from pfitre_service.cli.options import (
    AnglesOption,
    DarksOption,
    FlatsOption,
    JsonOption,
    Logging,
    MeasurementOption,
    OrderOption,
    ProfileOption,
    SetOption,
    overrides_of,
    print_json,
    settings_of,
)

app = typer.Typer()


@app.command()
def reconstruct(
    file: Annotated[Path, typer.Argument(help="Data Exchange HDF5, TIFF stack, or folder of TIFF images.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Result: .h5, .zarr or .tif.")] = None,
    angles: AnglesOption = None,
    flats: FlatsOption = None,
    darks: DarksOption = None,
    measurement: MeasurementOption = None,
    order: OrderOption = "auto",
    axis: Annotated[float | None, typer.Option(help="Column of the rotation axis.", show_default="found")] = None,
    prior: Annotated[
        str, typer.Option(help="What fills in the missing wedge: auto, none, tv, or weights by name.")
    ] = "auto",
    iterations: Annotated[int | None, typer.Option(min=1, help="Most steps.", show_default="until converged")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda:0, ...", show_default="a GPU where there is one")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    profile: ProfileOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reconstructs a stored scan with the engine of the live service.

    Examples:
      pfitre reconstruct tooth.h5 -o tooth_volume.h5
      pfitre reconstruct cu23.tiff --angles cu23.csv --axis 74.5 -o cu23.zarr
      pfitre reconstruct counts.tif --flats flats.h5:/entry/data --darks darks.tif
      pfitre reconstruct images/ --angles angles.csv --order last --measurement transmission
      pfitre reconstruct scan.h5 --prior none --json
    """
    from pfitre_service.offline.reconstruct_file import reconstruct_file

    Logging.set_up(logging.WARNING)
    summary = reconstruct_file(
        file,
        output,
        angles=angles,
        flats=flats,
        darks=darks,
        measurement=measurement,
        order=order,
        axis=axis,
        prior=prior,
        iterations=iterations,
        device=device,
        overwrite=overwrite,
        settings=settings_of(profile, None, set_),
    )
    if as_json:
        print_json(summary)


@app.command()
def replay(
    source: Annotated[
        str,
        typer.Argument(
            help="File of documents, scan file or folder, Tiled address of a catalogue or run, or profile:NAME."
        ),
    ],
    run: Annotated[
        str | None,
        typer.Option(help="Uid, its beginning, or scan id.", show_default="all of a file; the newest stored"),
    ] = None,
    axis: Annotated[
        float | None, typer.Option(help="Column of the rotation axis of a scan file.", show_default="the middle")
    ] = None,
    angles: AnglesOption = None,
    flats: FlatsOption = None,
    darks: DarksOption = None,
    measurement: MeasurementOption = None,
    order: OrderOption = "auto",
    speed: Annotated[
        str, typer.Option(help="Times as fast as it was, or max: as fast as it is taken without loss.")
    ] = "max",
    keep_uids: Annotated[
        bool, typer.Option("--keep-uids", help="Send the uids as they are.", show_default="new ones each time")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the tomograms are final.")] = False,
    embedded: Annotated[
        Path | None,
        typer.Option(help="Start a service of its own in this folder, and stop it when all is final."),
    ] = None,
    profile: ProfileOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Plays a stored run through the service as if it ran now.

    Needs a running service, whose settings it must be given (profile and --set), or --embedded.

    Examples:
      pfitre replay documents.jsonl --speed 1
      pfitre replay tooth.h5 --embedded replayed --json
      pfitre replay counts.tif --flats flats.h5:/entry/data --darks darks.tif --wait
      pfitre replay http://127.0.0.1:8000 --run 5da75b34 --profile profiles/fxi --wait
    """
    from pfitre_service.offline.replay import replay

    Logging.set_up(logging.WARNING)
    summary = replay(
        source,
        run=run,
        axis=axis,
        angles=angles,
        flats=flats,
        darks=darks,
        measurement=measurement,
        order=order,
        speed=speed,
        keep_uids=keep_uids,
        wait=wait,
        embedded=embedded,
        profile=profile,
        overrides=overrides_of(set_),
    )
    if as_json:
        print_json(summary)


@app.command()
def doctor(
    run: Annotated[
        str, typer.Option(help="File of documents or scan file; with --source a uid, its beginning, or a scan id.")
    ],
    source: Annotated[
        str | None,
        typer.Option(help="Catalogue of the run: address of Tiled, or profile:NAME; or a file of many runs."),
    ] = None,
    angles: AnglesOption = None,
    flats: FlatsOption = None,
    darks: DarksOption = None,
    measurement: MeasurementOption = None,
    order: OrderOption = "auto",
    profile: ProfileOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explains, line by line, what the service would understand from a stored run. Exit code 1 when no volume, or a
    doubtful one.

    Examples:
      pfitre doctor --profile profiles/hxn-xrf --run documents.jsonl
      pfitre doctor --run counts.tif --flats flats.h5:/entry/data --darks darks.tif
      pfitre doctor --profile profiles/fxi --source http://127.0.0.1:8000 --run 5da75b34
    """
    from pfitre_service.offline.doctor import diagnose, render

    Logging.set_up(logging.WARNING)
    settings = settings_of(profile, None, set_)
    diagnosis = diagnose(
        source or run,
        run if source else None,
        settings,
        angles=angles,
        flats=flats,
        darks=darks,
        measurement=measurement,
        order=order,
    )
    if as_json:
        print_json(diagnosis)
    else:
        render(diagnosis)
    sys.exit(0 if diagnosis["understood"] and not diagnosis["findings"] else 1)

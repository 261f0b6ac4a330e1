"""Commands of the trained prior: its weights, and how they are made."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pfitre_service.cli.options import JsonOption, Logging, print_json
from pfitre_service.text_output import make_console, say

app = typer.Typer()
weights = typer.Typer(
    help="Trained networks by name: those of the package, and those imported or trained here.",
    epilog="For example: [bold]pfitre weights list[/bold]",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", help="Folder of weights made here.", show_default="in the data home"),
]


@app.command()
def train(
    folder: Annotated[Path, typer.Option(help="Where checkpoints, journals and weights go.")] = Path("pfitre-training"),
    architecture: Annotated[str | None, typer.Option(help="pfitre-s or pfitre-m.", show_default="the recipe's")] = None,
    begin_with: Annotated[
        str | None, typer.Option("--from", help="Weights to go on from, by name.", show_default="random ones")
    ] = None,
    updates: Annotated[
        int | None, typer.Option(min=1, help="Steps of the optimiser.", show_default="the recipe's")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same weights.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that make samples.", show_default="cores")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda:0, ...", show_default="a GPU where there is one")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the weights.", show_default="ARCHITECTURE-trained")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="The whole recipe small, in a minute.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training in the folder.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Trains a network on the digital twin: samples made on the fly, validations on families held back, a model card.

    Examples:
      pfitre train --smoke
      pfitre train --folder /data/training --updates 9000
      pfitre train --folder /data/further --from pfitre-s --updates 3000
      pfitre train --folder /data/training --updates 9000 --resume
    """
    from pfitre_service.training.command import run_train

    Logging.set_up(logging.WARNING)
    summary = run_train(
        folder,
        architecture=architecture,
        begin_with=begin_with,
        updates=updates,
        seed=seed,
        workers=workers,
        device=device,
        name=name,
        smoke=smoke,
        resume=resume,
    )
    if as_json:
        print_json(summary)


@weights.command("list")
def list_(folder: FolderOption = None, as_json: JsonOption = False) -> None:
    """Lists the networks that --prior and prior.name take.

    Examples:
      pfitre weights list
      pfitre weights list --json
    """
    from pfitre_service.prior.registry import available

    Logging.set_up(logging.WARNING)
    found = available(folder)
    if as_json:
        print_json({"weights": [asdict(info) for info in found]})
        return
    table = Table("name", "architecture", "size", "from", "SHA-256", "described in")
    for info in found:
        card = "" if info.card is None else str(info.card)
        table.add_row(
            info.name, info.architecture, f"{info.bytes / 2**20:.1f} MiB", info.source, info.sha256[:12], card
        )
    make_console().print(table if found else "There are no weights; `pfitre train` makes some.")


@weights.command()
def check(folder: FolderOption = None, as_json: JsonOption = False) -> None:
    """Reads every weights file whole: its hash, its format, and whether its network takes it. Exit code 1 if one fails.

    Examples:
      pfitre weights check
      pfitre weights check --folder /data/weights --json
    """
    from pfitre_service.prior.architectures import build
    from pfitre_service.prior.registry import check as check_all

    Logging.set_up(logging.WARNING)
    results = check_all(folder, build=build)
    if as_json:
        print_json({"weights": [asdict(result) for result in results]})
    else:
        for result in results:
            say(f"{result.name}: {'good' if result.ok else result.reason} ({result.path})")
    sys.exit(0 if all(result.ok for result in results) else 1)


@weights.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Checkpoint (.pth) of the published network, pfitre-zhao2025.")],
    name: Annotated[str | None, typer.Option(help="What to call it.", show_default="after the file")] = None,
    folder: FolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Takes in a checkpoint of the published network. No code in the file is ever run.

    Examples:
      pfitre weights import production_model.pth --name published
      pfitre reconstruct scan.h5 --prior published -o volume.h5
    """
    from pfitre_service.prior.registry import import_checkpoint

    Logging.set_up(logging.WARNING)
    info = import_checkpoint(file, name=name, folder=folder)
    if as_json:
        print_json(asdict(info))
    else:
        say(f"imported as {info.name!r} ({info.path}, SHA-256 {info.sha256}); use it with --prior {info.name}")

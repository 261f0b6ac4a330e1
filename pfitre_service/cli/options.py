"""What the commands share: options, logging, and how results are printed."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from pfitre_service.config import Settings, load_settings
from pfitre_service.errors import SettingsError
from pfitre_service.ingest.scan_files.file_order import Order
from pfitre_service.json_values import strict_json
from pfitre_service.logs import LogOptions, set_up_logging
from pfitre_service.model import Measurement

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
    Path | None, typer.Option("--data-dir", help="Folder of catalogue and arrays.", show_default="./pfitre-data")
]
AnglesOption = Annotated[
    Path | None,
    typer.Option(
        help="Of a scan file: table of degrees, perhaps with file names, for TIFF, or Data Exchange without angles.",
        show_default="the scan's name with suffix .csv",
    ),
]
FlatsOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE[:PATH]",
        help="Of a scan file: flat fields, as TIFF, folder, .npy, HDF5, or a dataset PATH inside an HDF5 file.",
    ),
]
DarksOption = Annotated[str | None, typer.Option(metavar="FILE[:PATH]", help="Dark fields, likewise.")]
MeasurementOption = Annotated[
    Measurement | None,
    typer.Option(
        help="What the images of a scan file hold: counts (transmission) or line integrals.",
        show_default="file, then values",
    ),
]
OrderOption = Annotated[
    Order,
    typer.Option(
        help="Order of a folder's images: number by number from the left, by the last number, by the angle in the "
        "name; auto stops where the names leave a doubt.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


class Logging:
    """What `--log-level` chose; each command has its own default."""

    chosen: str | None = None

    @classmethod
    def set_up(cls, default: int) -> int:
        """Logs to standard error; returns the level."""
        level = default if cls.chosen is None else logging.getLevelNamesMapping()[cls.chosen.upper()]
        set_up_logging(LogOptions(level), "pfitre", force=True)
        # One line a request is of no use to anyone but developers.
        logging.getLogger("httpx").setLevel(max(level, logging.WARNING))
        return level


def settings_of(profile: Path | None, data_dir: Path | None, assignments: list[str] | None) -> Settings:
    overrides = overrides_of(assignments)
    if data_dir is not None:
        overrides["data_dir"] = data_dir
    return load_settings(profile, overrides)


def overrides_of(assignments: list[str] | None) -> dict[str, Any]:
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


def print_json(value: dict[str, Any]) -> None:
    # More than six significant digits of a measurement say nothing.
    typer.echo(strict_json(value, "the summary", digits=6))

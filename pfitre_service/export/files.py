"""Exports a tomogram to a path: the formats there are, and files that appear whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pfitre_service.errors import InputError
from pfitre_service.export.tomogram import Tomogram

Writer = Callable[[Path, Tomogram, Callable[[int], None]], None]

SUFFIXES = {
    "nexus": (".h5", ".hdf5", ".nxs"),
    "ome-zarr": (".ome.zarr", ".ome.zarr.zip", ".zarr"),
    "tiff": (".tif", ".tiff"),
}
"""What a path must end in, by format; the first is the usual one."""
MEDIA_TYPES = {".h5": "application/x-hdf5", ".tif": "image/tiff", ".ome.zarr.zip": "application/zip"}
"""Of the suffixes that a server offers: one file each."""


def format_of(path: Path) -> str | None:
    """The format that a path's end tells.

    Parameters
    ----------
    path
        Of the output.

    Returns
    -------
    str | None
        A key of `SUFFIXES`; None where it tells none.
    """
    name = path.name.lower()
    return next((kind for kind, suffixes in SUFFIXES.items() if name.endswith(suffixes)), None)


def chosen_format(path: Path, kind: str | None, *, overwrite: bool) -> str:
    """The format to write in, asked before any work.

    Parameters
    ----------
    path
        Of the output.
    kind
        A key of `SUFFIXES`; None for what the path's end tells.
    overwrite
        Whether an older one may be replaced.

    Returns
    -------
    str
        A key of `SUFFIXES`.

    Raises
    ------
    InputError
        Nothing can be written there, or the end tells no format.
    """
    chosen = kind or format_of(path)
    if chosen is None:
        ends = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
        raise InputError(f"the format cannot be told from {path.name}: it must end in one of {ends}")
    check_target(path, chosen, overwrite=overwrite)
    return chosen


def check_target(path: Path, kind: str, *, overwrite: bool) -> None:
    """Says, before any work, whether something can be written.

    Parameters
    ----------
    path
        Of the output.
    kind
        A key of `SUFFIXES`.
    overwrite
        Whether an older one may be replaced.

    Raises
    ------
    InputError
        It cannot.
    """
    if kind not in SUFFIXES:
        raise InputError(f"there is no format {kind!r}; formats are {', '.join(SUFFIXES)}")
    if not path.name.lower().endswith(SUFFIXES[kind]):
        raise InputError(f"a file of format {kind} must end in {' or '.join(SUFFIXES[kind])}; got {path.name}")
    check_free(path, overwrite=overwrite)
    if path.is_dir() and not (path / "zarr.json").is_file():
        raise InputError(f"{path} is a folder that holds no Zarr group and is left alone; choose another name")


def check_free(path: Path, *, overwrite: bool) -> None:
    """Says whether a path may be written to.

    Parameters
    ----------
    path
        Of the output.
    overwrite
        Whether an older one may be replaced.

    Raises
    ------
    InputError
        The folder is missing, or the file is there and may not be replaced.
    """
    if not path.parent.is_dir():
        raise InputError(f"the folder of the output does not exist: {path.parent}; make it first")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; choose another name, or allow it with --overwrite")


def export_tomogram(
    tomogram: Tomogram,
    kind: str,
    path: Path,
    *,
    overwrite: bool = False,
    on_slices: Callable[[int], None] = lambda count: None,
) -> None:
    """Writes a tomogram to a path, which appears whole or not at all. One slab of slices is in memory at a time.

    Parameters
    ----------
    tomogram
        What is written.
    kind
        A key of `SUFFIXES`.
    path
        Of the output.
    overwrite
        Whether an older one may be replaced.
    on_slices
        Told after each slab how many slices more are written, of `slices_to_write` in all.

    Raises
    ------
    InputError
        The path cannot be used, or the disk refuses.
    StoreError
        The slices could not be read.
    """
    check_target(path, kind, overwrite=overwrite)
    with whole_or_not_at_all(path) as partial:
        _writer(kind)(partial, tomogram, on_slices)


def export_with_bar(console: Console, tomogram: Tomogram, kind: str, path: Path, *, overwrite: bool) -> None:
    """`export_tomogram` with a progress bar; the same errors.

    Parameters
    ----------
    console
        Shows the bar where it is a terminal.
    tomogram
        To be written.
    kind
        A key of `SUFFIXES`.
    path
        Of the output.
    overwrite
        Whether an older one may be replaced.
    """
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"writing {path.name}", total=slices_to_write(tomogram, kind))
        export_tomogram(
            tomogram, kind, path, overwrite=overwrite, on_slices=lambda count: bar.update(task, advance=count)
        )


@contextmanager
def whole_or_not_at_all(path: Path) -> Iterator[Path]:
    """Another path to write a file or folder to, which becomes the wanted one if the block ends well and is removed if
    not.

    Parameters
    ----------
    path
        The one that is wanted.

    Yields
    ------
    Path
        In the same folder.

    Raises
    ------
    InputError
        The disk refuses.
    """
    partial = path.with_name(f".partial-{path.name}")
    try:
        yield partial
        if path.is_dir():
            shutil.rmtree(path)
        partial.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error}; is there space, and may you write there?") from error
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)


def slices_to_write(tomogram: Tomogram, kind: str) -> int:
    """What `on_slices` counts up to.

    Parameters
    ----------
    tomogram
        What is written.
    kind
        A key of `SUFFIXES`.

    Returns
    -------
    int
        Slices of all arrays that the format holds.
    """
    return tomogram.shape[0] * (1 if kind == "tiff" else len(tomogram.arrays))


def _writer(kind: str) -> Writer:
    # h5py, tifffile and zarr take a second to import: only the one that is asked for.
    if kind == "nexus":
        from pfitre_service.export.nexus import write_nexus

        return write_nexus
    if kind == "tiff":
        from pfitre_service.export.tiff import write_tiff

        return write_tiff
    from pfitre_service.export.ome_zarr import write_ome_zarr

    return write_ome_zarr

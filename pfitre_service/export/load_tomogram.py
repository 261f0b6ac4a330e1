"""Tomograms out of the catalogue and into files: what `pfitre export` and the page's links do."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, get_args

from pfitre_service.catalog_access import catalog_url, read_key
from pfitre_service.config import Settings
from pfitre_service.errors import InputError
from pfitre_service.export import provenance
from pfitre_service.export.files import check_free, chosen_format, export_tomogram, export_with_bar, format_of
from pfitre_service.export.report import write_report
from pfitre_service.export.tomogram import Slices, Tomogram
from pfitre_service.model import TomogramKey
from pfitre_service.store.catalog import Catalog
from pfitre_service.store.layout import ResultName
from pfitre_service.text_output import make_console

NEWEST = "newest"
_START_S = 3.0
_REQUEST_S = 120.0
_NEAREST = 5
_PIECE = 1 << 20


def reading_catalog(settings: Settings, server: str | None) -> Catalog:
    """A connection that only reads; makes no file.

    The data folder's own key goes to the data folder's own server alone; another one is given the key of
    `api_key_file`, where that is set.

    Parameters
    ----------
    settings
        Of the service.
    server
        Root address of another one; None for the service of these settings.

    Returns
    -------
    Catalog
        An open connection.

    Raises
    ------
    StoreUnavailableError
        Nothing answers there.
    """
    own = settings.data_dir / "api_key"
    key_file = settings.api_key_file
    if key_file is None and server is None and settings.tiled.uri is None and own.is_file():
        key_file = own
    key = None if key_file is None else read_key(key_file)
    return Catalog.connect_to_read(
        server or catalog_url(settings), key, timeout_s=_START_S, request_timeout_s=_REQUEST_S
    )


def find_tomogram(catalog: Catalog, wanted: str) -> TomogramKey:
    """The tomogram that a person means.

    Parameters
    ----------
    catalog
        An open connection.
    wanted
        A uid or the beginning of one, a scan id, a sample, or `newest`.

    Returns
    -------
    TomogramKey
        The only one.

    Raises
    ------
    InputError
        It is none, or more than one; lists the nearest.
    """
    entries = catalog.entries()
    if wanted == NEWEST:
        volumes = [key for key, metadata in entries.items() if metadata.get("status") != "references"]
        found = volumes[-1:]
    else:
        found = [key for key in entries if key.id == wanted] or [
            key for key, metadata in entries.items() if key.id.startswith(wanted) or wanted in _names(metadata)
        ]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{len(found)} tomograms are called {wanted!r}; give one's uid: {_listed(found, entries)}")
    near = _nearest(wanted, entries)
    there = f"the nearest of {len(entries)}: {_listed(near, entries)}" if near else "the catalogue has none yet"
    raise InputError(f"no tomogram has the uid, scan id or sample {wanted!r}; {there}")


def load_tomogram(catalog: Catalog, key: TomogramKey, only: ResultName | None = None) -> Tomogram:
    """A tomogram with everything but its slices, which are read as they are needed.

    Parameters
    ----------
    catalog
        An open connection.
    key
        The tomogram.
    only
        One array alone; None for all that there are.

    Returns
    -------
    Tomogram
        As it is now.

    Raises
    ------
    InputError
        It has no volume (yet), or not that array.
    StoreMissingError
        There is no such tomogram.
    """
    summary, reader = catalog.summary(key), catalog.reader(key)
    names = get_args(ResultName) if only is None else (only,)
    arrays = {name: array for name in names if (array := reader.result(name)) is not None}
    if not arrays or (only is None and "volume" not in arrays):
        reason = summary.metadata.get("reason") or "the solver has not published one"
        raise InputError(
            f"tomogram {key} has no {only or 'volume'} to export: it is {summary.status} ({reason}); wait for its "
            "first picture, or look at what the page says of it"
        )
    return Tomogram(
        id=key.id,
        arrays=dict[str, Slices](arrays),
        metadata=summary.metadata,
        revision=next(iter(arrays.values())).revision,
        progress=reader.progress(),
        angles=reader.angles().tolist(),
        withdrawn=frozenset(summary.withdrawn),
        acquisition={
            "state": summary.acquisition,
            "reason": summary.reason,
            "expected_frames": summary.expected_frames,
            "frames": dict(summary.frames),
        },
        source=f"{catalog.uri}/api/v1/metadata/tomograms/{key.id}",
    )


def unnamed_export(tomogram: Tomogram, suffix: str) -> tuple[IO[bytes], int]:
    """An export as an open file. Its name is gone already: nothing is left, however it is used.

    Parameters
    ----------
    tomogram
        What is written.
    suffix
        Of the format.

    Returns
    -------
    tuple[IO[bytes], int]
        The file, and its length in bytes.

    Raises
    ------
    InputError
        No format has this suffix, or the disk refuses.
    StoreError
        The slices could not be read.
    """
    with tempfile.TemporaryDirectory(prefix="pfitre-export-") as folder:
        path = Path(folder) / f"export{suffix}"
        export_tomogram(tomogram, format_of(path) or suffix, path)
        return path.open("rb"), path.stat().st_size


def pieces(content: IO[bytes]) -> Iterator[bytes]:
    """The content in pieces; closes it at the end.

    Parameters
    ----------
    content
        An open file.

    Yields
    ------
    bytes
        1 MiB at most.
    """
    with content:
        while piece := content.read(_PIECE):
            yield piece


def export_command(
    wanted: str,
    path: Path,
    *,
    kind: str | None,
    array: ResultName | None,
    server: str | None,
    overwrite: bool,
    settings: Settings,
) -> dict[str, Any]:
    """Exports with a progress bar, as `pfitre export` does.

    Parameters
    ----------
    wanted
        As `find_tomogram` has it.
    path
        Of the output.
    kind
        A key of `SUFFIXES`; None for the one that the path tells.
    array
        One array alone; None for all that there are.
    server
        As `reading_catalog` has it.
    overwrite
        Whether an older file may be replaced.
    settings
        Of the service.

    Returns
    -------
    dict[str, Any]
        What `--json` prints.

    Raises
    ------
    InputError
        The tomogram, the format or the path cannot be had.
    StoreError
        The catalogue cannot be read.
    """
    kind = chosen_format(path, kind, overwrite=overwrite)
    console = make_console(stderr=True)
    with reading_catalog(settings, server) as catalog:
        key = find_tomogram(catalog, wanted)
        tomogram = load_tomogram(catalog, key, array)
        export_with_bar(console, tomogram, kind, path, overwrite=overwrite)
        changed = catalog.summary(key).revision != tomogram.revision if array is None else False
    warnings = provenance.warnings(tomogram)
    if changed:
        warnings.append("A newer revision was published meanwhile: export again for slices of one revision alone.")
    for warning in warnings:
        console.print(warning, style="yellow")
    console.print(f"{tomogram.name}: {' x '.join(map(str, tomogram.shape))} voxels written to {path}")
    return {
        "tomogram": key.id,
        "format": kind,
        "path": path,
        "arrays": ["volume"] if kind == "tiff" and array is None else list(tomogram.arrays),
        "shape": list(tomogram.shape),
        "voxel_size_nm": tomogram.pixel_size_nm,
        "status": tomogram.metadata.get("status"),
        "revision": tomogram.revision,
        "warnings": warnings,
    }


def report_command(
    wanted: str, path: Path, *, server: str | None, overwrite: bool, settings: Settings
) -> dict[str, Any]:
    """Writes the report, as `pfitre report` does.

    Parameters
    ----------
    wanted
        As `find_tomogram` has it.
    path
        Of the output, .html.
    server
        As `reading_catalog` has it.
    overwrite
        Whether an older file may be replaced.
    settings
        Of the service.

    Returns
    -------
    dict[str, Any]
        What `--json` prints.

    Raises
    ------
    InputError
        The tomogram or the path cannot be had.
    StoreError
        The catalogue cannot be read.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"a report must end in .html; got {path.name} (a browser prints it to PDF)")
    check_free(path, overwrite=overwrite)
    console = make_console(stderr=True)
    with reading_catalog(settings, server) as catalog:
        key = find_tomogram(catalog, wanted)
        tomogram = load_tomogram(catalog, key)
        with console.status("drawing"):
            write_report(path, tomogram)
    for warning in provenance.warnings(tomogram):
        console.print(warning, style="yellow")
    console.print(f"{tomogram.name}: report written to {path}")
    return {"tomogram": key.id, "path": path, "status": tomogram.metadata.get("status"), "revision": tomogram.revision}


def _names(metadata: Mapping[str, Any]) -> list[str]:
    return [str(metadata[name]) for name in ("scan_id", "sample") if metadata.get(name) is not None]


def _nearest(wanted: str, entries: Mapping[TomogramKey, Mapping[str, Any]]) -> list[TomogramKey]:
    """By the likeness of uid, scan id or sample; the newest first among those that are as near."""

    def likeness(place: int) -> tuple[float, int]:
        key = keys[place]
        names = [key.id, key.id[: len(wanted)], *_names(entries[key])]
        return max(difflib.SequenceMatcher(None, wanted.lower(), name.lower()).ratio() for name in names), place

    keys = list(entries)
    return [keys[place] for place in sorted(range(len(keys)), key=likeness, reverse=True)[:_NEAREST]]


def _listed(keys: list[TomogramKey], entries: Mapping[TomogramKey, Mapping[str, Any]]) -> str:
    def one(key: TomogramKey) -> str:
        metadata = entries[key]
        return f"{key.id} ({', '.join([*_names(metadata), str(metadata.get('status') or 'idle')])})"

    return ", ".join(map(one, keys))

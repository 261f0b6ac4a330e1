"""Documents that point to files: which file, and which of its frames. Pure; nothing is opened here.

Both generations are understood: `resource` and `datum` (ophyd's area detectors), `stream_resource` and `stream_datum`
(ophyd-async). Either becomes a `FileSource`, and a reference into it `FileRows`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import unquote

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.document_values import quoted, whole

FileKind = Literal["hdf5", "tiff"]

_DATASET_OF_SPEC = {
    "AD_HDF5": "/entry/data/data",
    "AD_HDF5_SINGLE": "/entry/data/data",
    "AD_HDF5_SWMR": "/entry/data/data",
    "AD_HDF5_TS": "/entry/data/data",
    "HDF5": "/entry/data/data",
    "XSP": "/entry/instrument/detector/data",
    "XSP3": "/entry/instrument/detector/data",
    "TPX_HDF5": "/entry/instrument/detector/data",
    # Whose datums name the dataset.
    "ROI_HDF5_FLY": "",
    "SIS_HDF51_FLY_STREAM_V1": "",
    "PANDA": "",
}
_DATASET_IN_DATUM = ("det_elem", "column", "field")
"""Words of `datum_kwargs` that name a dataset: HXN's fluorescence sums, scalers and encoders."""
_TIFF_SPECS = {"AD_TIFF"}
_SINGLE_SPECS = {"AD_HDF5_SINGLE"}
"""One HDF5 file for each image, numbered as the TIFF files are."""
_KIND_OF_MIMETYPE: dict[str, FileKind] = {
    "application/x-hdf5": "hdf5",
    "multipart/related;type=image/tiff": "tiff",
    "image/tiff": "tiff",
}
_LOCAL_HOSTS = {"", "localhost", "127.0.0.1", "::1"}
_MAX_ROWS = 1_000_000
_MAX_EVENTS = 100_000
"""Of one stream_datum, which is short however many it speaks of."""


@dataclass(frozen=True, slots=True)
class FileSource:
    """One file, or one numbered sequence of files, that documents announced."""

    kind: FileKind
    path: str
    """Absolute; of a sequence its folder. `//server/share/...` on another machine."""
    dataset: str = ""
    """HDF5: path of the dataset inside the file."""
    template: str = ""
    """Of a sequence: name of one file, with a place for its number in either of Python's styles."""
    frames_per_file: int = 1
    """Of a sequence."""
    other_path: str = ""
    """What `path` is if its uri was, or was not, quoted: taken where only this is there."""
    frames_per_index: int | None = None
    """Frames that one index of a datum stands for; None where the resource does not say."""


@dataclass(frozen=True, slots=True)
class FileRows:
    """Frames `first` to `stop` of a source, or values of a dataset with one entry a frame."""

    source: FileSource
    first: int
    stop: int

    def of_dataset(self, dataset: str) -> FileRows:
        """The same rows of another dataset in the same file."""
        return replace(self, source=replace(self.source, dataset=dataset))


def source_of(document: Mapping[str, Any]) -> FileSource:
    """The file that a `resource` or `stream_resource` document announces. Raises `DocumentError`."""
    if "mimetype" in document:
        return _of_stream_resource(document)
    return _of_resource(document)


def rows_of_datum(source: FileSource, datum: Mapping[str, Any], seq_num: int, frames: int) -> FileRows:
    """The frames of one `datum`, whose event is number `seq_num`; `frames` a point unless the resource says."""
    arguments = _table(datum.get("datum_kwargs", {}), "datum_kwargs")
    named = next((arguments[word] for word in _DATASET_IN_DATUM if word in arguments), None)
    if named is not None:
        source = replace(source, dataset=_text(named, "the dataset in datum_kwargs"))
    count = source.frames_per_index or frames
    indices = arguments.get("indices")
    if indices is not None:
        first, stop = span(indices, "datum_kwargs.indices")
        return _rows(source, first * count, stop * count)
    point = next((arguments[key] for key in ("point_number", "frame") if key in arguments), seq_num - 1)
    index = whole(point)
    if index is None or index < 0:
        raise DocumentError(f"expected a point number from 0 in datum_kwargs, got {quoted(point)}")
    return _rows(source, index * count, (index + 1) * count)


def rows_of_stream_datum(source: FileSource, datum: Mapping[str, Any], frames: int) -> list[tuple[int, FileRows]]:
    """(seq_num, rows) of each event that a `stream_datum` speaks of; `frames` an index unless the resource says."""
    first, stop = span(datum.get("indices"), "indices")
    number, end = span(datum.get("seq_nums"), "seq_nums")
    indices, events = stop - first, end - number
    if events > _MAX_EVENTS:
        raise DocumentError(f"expected a stream_datum of at most {_MAX_EVENTS:,} events, got one of {events:,}")
    if number < 1 or events < 1 or indices % events:
        raise DocumentError(f"a stream_datum of {indices} indices cannot belong to {events} events from {number}")
    count = (source.frames_per_index or frames) * (indices // events)
    start = first * (source.frames_per_index or frames)
    return [
        (number + event, _rows(source, start + event * count, start + (event + 1) * count)) for event in range(events)
    ]


def span(value: Any, what: str) -> tuple[int, int]:
    """start and stop of a range as documents write it; raises `DocumentError`."""
    table = _table(value, what)
    first, stop = whole(table.get("start")), whole(table.get("stop"))
    if first is None or stop is None or not 0 <= first <= stop or stop - first > _MAX_ROWS:
        raise DocumentError(f"expected {what} with start and stop, 0 <= start <= stop, got {quoted(value)}")
    return first, stop


def _of_stream_resource(document: Mapping[str, Any]) -> FileSource:
    mimetype = str(document["mimetype"]).replace(" ", "").lower()
    kind = _KIND_OF_MIMETYPE.get(mimetype)
    if kind is None:
        raise DocumentError(
            f"files of the mimetype {quoted(mimetype)} are not read; expected one of {', '.join(_KIND_OF_MIMETYPE)}"
        )
    parameters = _table(document.get("parameters", {}), "parameters")
    dataset = parameters.get("dataset", parameters.get("path", "/entry/data/data"))
    path, other = _paths_of(document.get("uri"))
    return FileSource(
        kind,
        path,
        dataset=_text(dataset, "parameters.dataset") if kind == "hdf5" else "",
        template=_text(parameters.get("template", ""), "parameters.template") if kind == "tiff" else "",
        frames_per_index=_frames(parameters),
        frames_per_file=_frames_per_file(parameters) if kind == "tiff" else 1,
        other_path=other,
    )


def _of_resource(document: Mapping[str, Any]) -> FileSource:
    spec = _text(document.get("spec"), "spec")
    arguments = _table(document.get("resource_kwargs", {}), "resource_kwargs")
    where = posixpath.join(
        _text(document.get("root") or "/", "root"), _text(document.get("resource_path"), "resource_path").lstrip("/")
    )
    if spec in _TIFF_SPECS:
        return FileSource("tiff", where, template=_ad_template(arguments, "tiff"), frames_per_index=_frames(arguments))
    if spec not in _DATASET_OF_SPEC:
        known = ", ".join((*_DATASET_OF_SPEC, *_TIFF_SPECS))
        raise DocumentError(f"files of the spec {quoted(spec)} are not read; expected one of {known}")
    dataset = arguments.get("dataset", arguments.get("path", _DATASET_OF_SPEC[spec]))
    return FileSource(
        "hdf5",
        where,
        dataset=_text(dataset, "resource_kwargs.dataset"),
        template=_ad_template(arguments, "h5") if spec in _SINGLE_SPECS else "",
        frames_per_index=_frames(arguments),
    )


def _ad_template(arguments: Mapping[str, Any], suffix: str) -> str:
    """areaDetector fills in folder, name and number; the folder is known here."""
    template = _text(arguments.get("template", f"%s%s_%6.6d.{suffix}"), "resource_kwargs.template")
    name = _text(arguments.get("filename", ""), "resource_kwargs.filename").replace("%", "%%")
    return template.replace("%s", "", 1).replace("%s", name, 1)


def _paths_of(uri: Any) -> tuple[str, str]:
    """The path of a uri, and what it is if the uri was quoted otherwise than it should be; the same one is empty.

    A uri has `#`, `?` and `%` quoted, and writers, ophyd-async among them, do not always do so.
    """
    text = _text(uri, "uri")
    scheme, mark, rest = text.partition("://")
    if not mark:
        host, path = "", text.removeprefix("file:")
    elif scheme.lower() == "file":
        host, slash, path = rest.partition("/")
        path = slash + path
    else:
        raise DocumentError(f"only files are read (file://localhost/...), got {text[:120]!r}: mount the folder here")
    path = path if host.lower() in _LOCAL_HOSTS else f"//{host}{path}"
    unquoted = unquote(path)
    first, second = (path, unquoted) if "#" in path or "?" in path else (unquoted, path)
    return first, "" if first == second else second


def _frames_per_file(parameters: Mapping[str, Any]) -> int:
    """Pages of a file of a sequence, as `chunk_shape` says: (frames, rows, columns)."""
    shape = parameters.get("chunk_shape") or (1,)
    pages = whole(shape[0]) if isinstance(shape, list | tuple) else None
    if pages is None or not 1 <= pages <= _MAX_ROWS:
        raise DocumentError(f"expected parameters.chunk_shape as (frames, rows, columns), got {quoted(shape)}")
    return pages


def _frames(parameters: Mapping[str, Any]) -> int | None:
    value = parameters.get("multiplier", parameters.get("frame_per_point"))
    frames = whole(value)
    if value is not None and (frames is None or not 1 <= frames <= _MAX_ROWS):
        raise DocumentError(f"expected the frames per point as a whole number from 1, got {quoted(value)}")
    return frames


def _rows(source: FileSource, first: int, stop: int) -> FileRows:
    if stop - first > _MAX_ROWS:
        raise DocumentError(f"a datum of {stop - first} frames is taken for garbage")
    return FileRows(source, first, stop)


def _table(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DocumentError(f"expected a table as {what}, got {type(value).__name__}")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or len(value) > 4096 or "\0" in value:
        raise DocumentError(f"expected a text as {what}, got {quoted(value)}")
    return value

"""HDF5 in the layout of NeXus: NXtomoproc's data and process, with everything else in NXnote and NXcollection.

/entry                     NXentry, default "data"
  title, definition, start_time, end_time, entry_identifier
  data                     NXdata: data (the volume), physics, expected_error, inferred, z, y, x
  sample, reconstruction   NXsample; NXprocess with program, version, date, parameters, provenance (NXnote, JSON)
  projections, progress    NXcollection: one row for each projection, for each step of the solver
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pfitre_service.export import provenance
from pfitre_service.export.tomogram import Tomogram, slabs
from pfitre_service.json_values import strict_json
from pfitre_service.store.lengths import Lengths
from pfitre_service.text_output import printable

_LONG_NAMES = {
    "volume": "reconstruction",
    "physics": "reconstruction from the data alone, no prior",
    "expected_error": "|x - truth| to be expected of each voxel, calibrated on simulated samples",
    "inferred": "the part of the volume that no angle measured",
    "preview": "filtered back-projection",
}


def write_nexus(path: Path, tomogram: Tomogram, on_slices: Callable[[int], None]) -> None:
    """Writes an HDF5 file.

    Parameters
    ----------
    path
        Of the output.
    tomogram
        What is written.
    on_slices
        Told after each slab how many slices more are written.
    """
    document = provenance.provenance(tomogram)
    with h5py.File(path, "w") as file:
        file.attrs["default"] = "entry"
        file.attrs["creator"] = document["exported"]["by"]
        entry = _group(file, "entry", "NXentry")
        entry.attrs["default"] = "data"
        entry["definition"] = "NXtomoproc"
        entry["title"] = tomogram.name
        entry["entry_identifier"] = tomogram.id
        _write_times(entry, document)
        _write_process(entry, tomogram, document)
        _write_sample(entry, tomogram)
        _write_angles(entry, tomogram)
        _write_progress(entry, tomogram)
        _write_data(entry, tomogram, document, on_slices)


def _group(parent: Any, name: str, kind: str) -> Any:
    group = parent.create_group(name)
    group.attrs["NX_class"] = kind
    return group


def _write_times(entry: Any, document: dict[str, Any]) -> None:
    for name, field in (("start_time", "created"), ("end_time", "status_time")):
        if document[field] is not None:
            entry[name] = printable(document[field])


def _write_data(entry: Any, tomogram: Tomogram, document: dict[str, Any], on_slices: Callable[[int], None]) -> None:
    group = _group(entry, "data", "NXdata")
    main, *others = tomogram.arrays
    names = {main: "data", **{name: name for name in others}}
    group.attrs["signal"] = "data"
    if others:
        group.attrs["auxiliary_signals"] = others
    group.attrs["axes"] = ["z", "y", "x"]
    for place, axis in enumerate("zyx"):
        group.attrs[f"{axis}_indices"] = place
        _write_axis(group, axis, tomogram.shape[place], tomogram.lengths)
    for name, array in tomogram.arrays.items():
        dataset = group.create_dataset(
            names[name],
            shape=array.shape,
            dtype=np.float32,
            chunks=(1, *array.shape[1:]),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
        )
        dataset.attrs["long_name"] = _LONG_NAMES.get(name, name)
        dataset.attrs["description"] = document["unit"]
        dataset.attrs["array"] = name
        for first, slices in slabs(array):
            dataset[first : first + len(slices)] = slices
            on_slices(len(slices))


def _write_axis(group: Any, name: str, length: int, lengths: Lengths) -> None:
    """z counts from the first detector row; y and x from the middle of the slice, where the geometry has its origin."""
    group[name] = lengths.heights(length) if name == "z" else lengths.across(length)
    group[name].attrs["units"] = lengths.unit
    group[name].attrs["long_name"] = f"{name} ({lengths.unit})"


def _write_process(entry: Any, tomogram: Tomogram, document: dict[str, Any]) -> None:
    process = _group(entry, "reconstruction", "NXprocess")
    process["program"] = "pfitre-service"
    process["version"] = printable(str(document["software"] or "unknown"))
    process["date"] = printable(document["status_time"] or document["exported"]["at"])
    process["sequence_index"] = 1
    process["status"] = printable(str(document["status"]))
    process["run_uids"] = np.array([printable(str(uid)) for uid in document["run_uids"] or [tomogram.id]], dtype=object)
    process["weights_sha256"] = printable(str(document["weights_sha256"] or ""))
    process["quality_statement"] = printable(document["quality"]["sentence"])
    for name in ("heldout_error", "heldout_error_physics", "residual", "prior_gap", "noise_floor", "expected_error"):
        if document["quality"][name] is not None:
            process[name] = document["quality"][name]
    parameters = _group(process, "parameters", "NXparameters")
    parameters["json"] = strict_json(document["parameters"], "the parameters")
    note = _group(process, "provenance", "NXnote")
    note["type"] = "application/json"
    note["description"] = "everything that is known of this tomogram's making"
    note["data"] = strict_json(document, "the record")


def _write_sample(entry: Any, tomogram: Tomogram) -> None:
    sample = _group(entry, "sample", "NXsample")
    sample["name"] = printable(str(tomogram.metadata.get("sample") or ""))


def _write_angles(entry: Any, tomogram: Tomogram) -> None:
    counting = tomogram.counting_angles
    angles = _group(entry, "projections", "NXcollection")
    angles["rotation_angle"] = np.array([angle for angle, _ in counting], np.float64)
    angles["rotation_angle"].attrs["units"] = "degree"
    angles["held_out"] = np.array([held for _, held in counting], np.uint8)


def _write_progress(entry: Any, tomogram: Tomogram) -> None:
    rows = [asdict(row) for row in tomogram.progress]
    group = _group(entry, "progress", "NXcollection")
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows]
        texts = isinstance(values[0], str)
        group[name] = np.array([printable(value) for value in values], dtype=object) if texts else np.array(values)

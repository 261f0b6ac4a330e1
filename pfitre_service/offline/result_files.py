"""Writing a reconstruction to a file: HDF5, TIFF or Zarr, by the suffix."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

import pfitre_service
from pfitre_service.engine.reconstruct import Reconstruction
from pfitre_service.errors import InputError
from pfitre_service.export.files import whole_or_not_at_all
from pfitre_service.json_values import plain
from pfitre_service.model import Progress

_VOLUMES = ("volume", "physics", "expected_error", "inferred", "preview")


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raises InputError, before any work, when nothing can be written to `path`."""
    if path.suffix.lower() not in WRITERS:
        raise InputError(f"output {path} must end in one of {', '.join(WRITERS)}")
    if not path.parent.is_dir():
        raise InputError(f"the folder of the output does not exist: {path.parent}")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; choose another name, or allow it with --overwrite")
    if path.is_dir() and not (path / "zarr.json").is_file():
        raise InputError(f"{path} is a folder that holds no Zarr group and is left alone; choose another name")


def write_result(path: Path, result: Reconstruction, source: str) -> None:
    """Writes `result`; the file appears whole or not at all. `source` says where the data came from.

    HDF5 and Zarr hold `volume`, `physics`, `expected_error`, `inferred`, `preview` (z, y, x) and the table `progress`;
    TIFF the volume.
    Raises InputError when the disk refuses.
    """
    with whole_or_not_at_all(path) as partial:
        WRITERS[path.suffix.lower()](partial, result, _provenance(result, source))


def _provenance(result: Reconstruction, source: str) -> dict[str, Any]:
    last = result.history[-1]
    return {
        "software": f"pfitre-service {pfitre_service.__version__}",
        "source": source,
        "prior": result.prior,
        "axis_order": "z, y, x",
        "rotation_axis": result.calibration.axis,
        "rotation_axis_origin": result.calibration.axis_origin,
        "projection_shifts": list(result.calibration.shifts),
        "angles_used": last.angles_used,
        "heldout_error": last.heldout_error,
        "heldout_error_physics": last.heldout_error_physics,
        "residual": last.residual,
        "quality_sentence": result.statement.sentence,
        "noise_floor": result.statement.noise_floor,
        "seconds": last.seconds,
        "warnings": "\n".join(result.warnings),
    }


def _progress_table(result: Reconstruction) -> dict[str, Any]:
    names = [field.name for field in fields(Progress)]
    return {name: np.array([asdict(row)[name] for row in result.history]) for name in names}


def _write_hdf5(path: Path, result: Reconstruction, provenance: dict[str, Any]) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs.update(provenance)
        for name in _VOLUMES:
            data = getattr(result, name)
            file.create_dataset(name, data=data, chunks=(1, *data.shape[1:]), compression="gzip", compression_opts=1)
        progress = file.create_group("progress")
        for name, column in _progress_table(result).items():
            progress[name] = column.astype("S") if column.dtype.kind == "U" else column


def _write_tiff(path: Path, result: Reconstruction, provenance: dict[str, Any]) -> None:
    import tifffile

    tifffile.imwrite(
        path,
        result.volume,
        photometric="minisblack",
        compression="zlib",
        description=json.dumps(plain(provenance, "provenance")),
        software=provenance["software"],
    )


def _write_zarr(path: Path, result: Reconstruction, provenance: dict[str, Any]) -> None:
    import zarr

    group = zarr.open_group(str(path), mode="w", attributes=plain(provenance, "provenance"))
    for name in _VOLUMES:
        data = getattr(result, name)
        depth = max(1, min(len(data), (8 << 20) // data[0].nbytes))
        group.create_array(name, data=data, chunks=(depth, *data.shape[1:]), dimension_names=("z", "y", "x"))
    table = {name: column.tolist() for name, column in _progress_table(result).items()}
    group.attrs["progress"] = plain(table, "progress")


WRITERS: dict[str, Callable[[Path, Reconstruction, dict[str, Any]], None]] = {
    ".h5": _write_hdf5,
    ".hdf5": _write_hdf5,
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
    ".zarr": _write_zarr,
}

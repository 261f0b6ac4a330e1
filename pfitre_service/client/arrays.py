"""Arrays of one tomogram as xarray, with coordinates and where they come from."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import StoreMissingError
from pfitre_service.store.catalog import TomogramSummary
from pfitre_service.store.layout import FRAME_DIMS, VOLUME_DIMS, ResultName, origin
from pfitre_service.store.lengths import Lengths
from pfitre_service.store.reader import TomogramReader
from pfitre_service.store.result_array import ResultArray

if TYPE_CHECKING:
    import xarray

_MEANING: Mapping[ResultName, str] = {
    "volume": "result, per pixel of the detector",
    "physics": "from the data alone, per pixel of the detector",
    "expected_error": "error to be expected of each voxel, in the volume's unit",
    "inferred": "part of the volume that no angle measured, in its unit",
    "preview": "filtered back-projection of the data, per pixel of the detector",
}
# A volume that was replaced while it was read is read again; a large one may always be.
_ATTEMPTS = 3


def open_result(reader: TomogramReader, name: ResultName, *, lazy: bool, uri: str) -> xarray.DataArray:
    """One array of a tomogram with coordinates and provenance; see `Client.open_volume`.

    Parameters
    ----------
    reader
        Of the tomogram.
    name
        Which of its arrays.
    lazy
        Whether slabs are fetched only when they are computed.
    uri
        Root address of the catalogue, for the attribute `source`.

    Returns
    -------
    xarray.DataArray
        (z, y, x) float32.

    Raises
    ------
    StoreMissingError
        There is no such tomogram, or no such array yet.
    """
    if lazy:
        stored = _stored(reader, name)
        values = _dask_array(stored)
    else:
        stored, values = _read_whole(reader, name)
    metadata = reader.metadata()
    lengths = Lengths.from_metadata(metadata)
    depth, height, width = stored.shape
    coordinates = {"z": lengths.heights(depth), "y": lengths.across(height), "x": lengths.across(width)}
    attributes = _provenance(reader, metadata, uri) | {
        "long_name": _MEANING[name],
        "revision": stored.revision,
        "voxel_size": [lengths.voxel] * 3,
        "voxel_size_unit": lengths.unit,
    }
    return _labelled(values, VOLUME_DIMS, coordinates, lengths.unit, attributes, name)


def open_projections(reader: TomogramReader, summary: TomogramSummary, *, uri: str) -> xarray.DataArray:
    """The stored projections with coordinates and provenance; see `Client.open_projections`.

    Parameters
    ----------
    reader
        Of the tomogram.
    summary
        Its metadata, and which of its frames were withdrawn.
    uri
        Root address of the catalogue, for the attribute `source`.

    Returns
    -------
    xarray.DataArray
        (angle, row, column) in the detector's dtype.

    Raises
    ------
    StoreMissingError
        No projection is stored yet.
    """
    batches = list(reader.batches("projection"))
    if not batches:
        raise StoreMissingError(f"tomogram {reader.key}: no projection is stored yet")
    images = np.concatenate([batch.images for batch in batches])
    angles = np.concatenate([batch.angles for batch in batches])
    damaged = {row: reason for batch in batches for row, reason in batch.damaged.items()}
    lengths = Lengths.from_metadata(summary.metadata)
    coordinates = {"row": lengths.detector(images.shape[1]), "column": lengths.detector(images.shape[2])}
    attributes = _provenance(reader, summary.metadata, uri) | {
        "long_name": "projections as the detector gave them",
        "pixel_size": lengths.pixel,
        "pixel_size_unit": lengths.unit,
    }
    projections = _labelled(images, FRAME_DIMS, coordinates, lengths.unit, attributes, "projections")
    withdrawn = np.isin(np.arange(len(angles)), summary.withdrawn)
    projections = projections.assign_coords(
        angle=("angle", angles, {"units": "degree", "long_name": "angle of the rotation stage"}),
        withdrawn=("angle", withdrawn, {"long_name": "taken again later, or taken back: does not count"}),
    )
    if not damaged:
        return projections
    told = "; ".join(f"projection {row}, {reason}" for row, reason in damaged.items())
    warnings.warn(f"tomogram {reader.key}: damaged in the store and left out: {told}", stacklevel=3)
    intact = [row for row in range(len(angles)) if row not in damaged]
    return projections.isel(angle=intact).assign_attrs(damaged=told)


def _stored(reader: TomogramReader, name: ResultName) -> ResultArray:
    stored = reader.result(name)
    if stored is None:
        reader.metadata()  # a tomogram that is not there at all says so itself
        raise StoreMissingError(
            f"tomogram {reader.key}: there is no {name} yet; the first volume stands alone until the solver has "
            "iterated, so wait for a revision (watch) and try again"
        )
    return stored


def _read_whole(reader: TomogramReader, name: ResultName) -> tuple[ResultArray, NDArray[np.float32]]:
    """What is stored, and (z, y, x) float32."""
    stored = _stored(reader, name)
    for _ in range(_ATTEMPTS):
        values = stored.read(0, stored.shape[0])
        before, stored = stored, _stored(reader, name)
        if stored.revision == before.revision:
            break
    return stored, values


def _dask_array(stored: ResultArray) -> Any:
    """(z, y, x) float32 of one chunk a slab, each fetched when it is computed."""
    import dask
    import dask.array

    read = dask.delayed(stored.read, pure=False)
    slabs = [
        dask.array.from_delayed(read(first, stop), (stop - first, *stored.shape[1:]), np.float32)
        for first, stop in stored.slabs
    ]
    return dask.array.concatenate(slabs)


def _labelled(
    values: Any,
    dims: tuple[str, ...],
    coordinates: Mapping[str, NDArray[np.float64]],
    unit: str,
    attributes: Mapping[str, Any],
    name: str,
) -> xarray.DataArray:
    import xarray

    labels = {dim: (dim, places, {"units": unit}) for dim, places in coordinates.items()}
    return xarray.DataArray(values, dims=dims, coords=labels, attrs=dict(attributes), name=name)


def _provenance(reader: TomogramReader, metadata: Mapping[str, Any], uri: str) -> dict[str, Any]:
    """What is known of where it comes from; nothing that a netCDF file could not hold."""
    told = {**origin(metadata), "status": metadata.get("status"), "reason": metadata.get("reason")}
    known = {name: value for name, value in told.items() if isinstance(value, str | int | float)}
    if sentence := (metadata.get("quality") or {}).get("sentence"):
        known["quality_sentence"] = sentence
    return {"tomogram": reader.key.id, "source": uri, **known, "run_uids": " ".join(metadata.get("run_uids") or ())}

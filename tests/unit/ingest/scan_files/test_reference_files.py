"""Flats and darks in files of their own, for a scan of any format."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from pfitre_service.errors import InputError
from pfitre_service.ingest import read_scan

FLATS = np.arange(1, 1 + 2 * 3 * 4, dtype=np.uint16).reshape(2, 3, 4)
COUNTS = np.full((5, 3, 4), 7, np.uint16)
ANGLES = [0.0, 10.0, 20.0, 30.0, 40.0]


def exchange(path: Path, **datasets) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[f"exchange/{name}"] = values
    return path


def scan_file(tmp_path: Path, kind: str) -> Path:
    if kind == "tiff":
        tifffile.imwrite(tmp_path / "s.tif", COUNTS, photometric="minisblack")
        (tmp_path / "s.csv").write_text("\n".join(map(str, ANGLES)))
        return tmp_path / "s.tif"
    return exchange(tmp_path / "s.h5", data=COUNTS, theta=ANGLES, data_white=np.ones((1, 3, 4), "u2"))


def given(tmp_path: Path, form: str) -> str:
    """FLATS in a file, in one of the forms that the option takes."""
    path = tmp_path / "flats"
    if form == "tiff":
        tifffile.imwrite(path.with_suffix(".tif"), FLATS, photometric="minisblack")
        return f"{path}.tif"
    if form == "npy":
        np.save(path.with_suffix(".npy"), FLATS)
        return f"{path}.npy"
    if form == "dataset":
        with h5py.File(tmp_path / "a:b.h5", "w") as file:
            file["entry/white"] = FLATS
        return f"{tmp_path}/a:b.h5:/entry/white"
    if form == "exchange":
        return str(exchange(tmp_path / "flats.h5", data=np.zeros((1, 3, 4)), theta=[0.0], data_white=FLATS))
    return str(exchange(tmp_path / "flats.h5", data=FLATS))


@pytest.mark.parametrize("form", ["tiff", "npy", "dataset", "exchange", "alone"])
@pytest.mark.parametrize("kind", ["tiff", "hdf5"])
def test_flats_of_any_form_go_with_a_scan_of_any_format_and_this_is_said(tmp_path, kind, form):
    scan = read_scan(scan_file(tmp_path, kind), flats=given(tmp_path, form))
    np.testing.assert_array_equal(scan.flats, FLATS)
    assert scan.measurement == "transmission"
    (said,) = [note for note in scan.notes if note.startswith("flat fields: 2 of")]
    assert ("in place of those in the file" in said) == (kind == "hdf5")


def test_one_image_is_a_stack_of_one(tmp_path):
    np.save(tmp_path / "flat.npy", FLATS[0])
    scan = read_scan(scan_file(tmp_path, "tiff"), darks=str(tmp_path / "flat.npy"))
    np.testing.assert_array_equal(scan.darks, FLATS[:1])
    assert scan.measurement is None


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("{tmp}/none.tif", "no such file or folder"),
        ("{tmp}/s.h5:/exchange/none", "has no dataset '/exchange/none'"),
        ("{tmp}/bare.h5", "holds no flat fields"),
        ("{tmp}/shape.npy", "expected flats like"),
        ("{tmp}/words.npy", "cannot be read as an array"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(tmp_path, option, words):
    file = scan_file(tmp_path, "hdf5")
    exchange(tmp_path / "bare.h5", data=COUNTS, theta=ANGLES)
    np.save(tmp_path / "shape.npy", np.zeros((2, 5, 5)))
    np.save(tmp_path / "words.npy", np.array(["a"], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=words):
        read_scan(file, flats=option.format(tmp=tmp_path))


def test_tomoscan_keeps_angles_as_start_and_step_and_references_before_and_after_or_as_numbers(tmp_path):
    path = exchange(tmp_path / "t.h5", data=COUNTS, data_white_pre=FLATS, data_white_post=FLATS + 1)
    with h5py.File(path, "a") as file:
        file["process/acquisition/rotation/rotation_start"] = [-60.0]
        file["process/acquisition/rotation/rotation_step"] = [2.5]
        file["process/acquisition/dark_fields/dark_field_value"] = [100.0]
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.angles, [-60.0, -57.5, -55.0, -52.5, -50.0])
    np.testing.assert_array_equal(scan.flats, np.concatenate([FLATS, FLATS + 1]))
    np.testing.assert_array_equal(scan.darks, np.full((1, 3, 4), 100.0))
    assert len(scan.notes) == 3


def test_sinograms_and_an_axis_of_length_one_are_recognised_by_the_number_of_angles(tmp_path):
    counts = np.random.default_rng(0).integers(1, 99, (5, 3, 4)).astype("u2")
    file = exchange(tmp_path / "a.h5", data=counts.swapaxes(0, 1), theta=ANGLES, data_white=FLATS.swapaxes(0, 1))
    scan = read_scan(file)
    np.testing.assert_array_equal(scan.projections, counts)
    np.testing.assert_array_equal(scan.flats, FLATS)
    scan = read_scan(exchange(tmp_path / "b.h5", data=counts[:, None], theta=ANGLES, data_white=FLATS[0]))
    np.testing.assert_array_equal(scan.projections, counts)
    np.testing.assert_array_equal(scan.flats, FLATS[:1])

"""NXtomo files as facilities write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from pfitre_service.errors import InputError
from pfitre_service.ingest import read_scan

FRAMES = np.arange(10 * 3 * 4, dtype="u2").reshape(10, 3, 4)
KEYS = np.array([2, 1, 1, 0, 0, 3, 0, 1, 0, 2])
ANGLES = np.linspace(0, 90, 10)


def group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    made = parent.create_group(name)
    made.attrs["NX_class"] = nx_class
    return made


def write(entry: h5py.Group, frames: np.ndarray = FRAMES, units: str = "deg", **filters: Any) -> None:
    """An NXtomo with the parts where the definition puts them; only the classes tell which is which."""
    entry["definition"] = "NXtomo"
    detector = group(group(entry, "beamline", "NXinstrument"), "pco", "NXdetector")
    detector.create_dataset("data", data=frames, **filters)
    detector["image_key"] = KEYS
    detector["x_pixel_size"] = 0.65
    detector["x_pixel_size"].attrs["units"] = "um"
    sample = group(entry, "chip", "NXsample")
    sample["rotation_angle"] = np.deg2rad(ANGLES) if units.startswith("rad") else ANGLES
    sample["rotation_angle"].attrs["units"] = units


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scan.nxs"


@pytest.mark.parametrize("units", ["deg", "radian"])
def test_frames_are_told_apart_by_their_image_key(path, units):
    with h5py.File(path, "w") as file:
        write(group(file, "entry", "NXentry"), units=units)
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.projections, FRAMES[[3, 4, 6, 8]])
    np.testing.assert_array_equal(scan.flats, FRAMES[[1, 2, 7]])
    np.testing.assert_array_equal(scan.darks, FRAMES[[0, 9]])
    np.testing.assert_allclose(scan.angles, ANGLES[[3, 4, 6, 8]])
    assert (scan.pixel_size_nm, scan.measurement, scan.projections.dtype) == (650.0, "transmission", np.dtype("u2"))


def test_it_is_known_by_its_content_inside_another_entry_and_compressed(tmp_path):
    path = tmp_path / "i13-1234.data"  # Diamond: an NXsubentry `tomo_entry`
    with h5py.File(path, "w") as file:
        write(group(group(file, "entry1", "NXentry"), "tomo_entry", "NXsubentry"), **hdf5plugin.Bitshuffle())
    assert "/entry1/tomo_entry" in read_scan(path).source


def test_linked_parts_are_followed(path):
    with h5py.File(path, "w") as file:
        write(group(file, "raw", "NXentry"))
        entry = group(file, "tomo", "NXentry")
        file["raw"].attrs["NX_class"] = "NXcollection"
        entry["definition"] = "NXtomo"
        data = group(entry, "data", "NXdata")
        for name, target in (("data", "beamline/pco/data"), ("image_key", "beamline/pco/image_key")):
            data[name] = h5py.SoftLink(f"/raw/{target}")
        data["rotation_angle"] = file["raw/chip/rotation_angle"]
    assert read_scan(path).projections.shape == (4, 3, 4)


def test_alignment_images_of_the_esrf_are_no_projections(path):
    with h5py.File(path, "w") as file:
        write(group(file, "entry0000", "NXentry"))
        control = KEYS.copy()
        control[8] = -1
        file["entry0000/beamline/pco/image_key_control"] = control
    assert len(read_scan(path).projections) == 3


def test_of_several_entries_the_default_is_read(path):
    with h5py.File(path, "w") as file:
        write(group(file, "entry0", "NXentry"))
        write(group(file, "entry1", "NXentry"), FRAMES + 1000)
    with pytest.raises(InputError, match=r"attribute `default`; found /entry0, /entry1"):
        read_scan(path)
    with h5py.File(path, "r+") as file:
        file.attrs["default"] = "entry1"
    assert read_scan(path).projections.min() >= 1000


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda entry: entry.pop("chip"), "expected 10 values as rotation_angle"),
        (lambda entry: entry["beamline/pco"].pop("image_key"), "`data` and `image_key`"),
        (lambda entry: entry["chip/rotation_angle"].attrs.modify("units", "parsecs"), "one of the units deg"),
        (lambda entry: entry["beamline/pco/image_key"].write_direct(np.full(10, 1)), "expected projections"),
        (lambda entry: entry["chip"].create_dataset("x_pixel_size", data=np.nan), None),
    ],
)
def test_what_is_missing_or_strange_is_named(path, spoil, says):
    with h5py.File(path, "w") as file:
        write(group(file, "entry", "NXentry"))
        spoil(file["entry"])
    if says is None:
        assert read_scan(path).pixel_size_nm == 650.0
        return
    with pytest.raises(InputError, match=says):
        read_scan(path)


def test_a_file_of_neither_kind_says_what_was_looked_for(path):
    with h5py.File(path, "w") as file:
        file["measurement"] = 1
    with pytest.raises(InputError, match=r"/exchange/data .* definition NXtomo; the file's root holds measurement"):
        read_scan(path)


@pytest.mark.parametrize("dtype", ["f8", "f4", "u1", "i8"])
def test_image_keys_are_whole_numbers_whatever_type_they_were_written_in(tmp_path, dtype):
    path = tmp_path / "scan.nxs"
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"], entry["definition"] = "NXentry", "NXtomo"
        detector = entry.create_group("instrument/detector")
        entry["instrument"].attrs["NX_class"], detector.attrs["NX_class"] = "NXinstrument", "NXdetector"
        detector["data"] = np.arange(4 * 3 * 4, dtype="u2").reshape(4, 3, 4)
        detector["image_key"] = np.array([2, 1, 0, 0], dtype)
        sample = entry.create_group("sample")
        sample.attrs["NX_class"] = "NXsample"
        sample["rotation_angle"] = [0.0, 0.0, 10.0, 20.0]
    scan = read_scan(path)
    assert (len(scan.projections), len(scan.flats), len(scan.darks)) == (2, 1, 1)
    if dtype[0] == "f":
        with h5py.File(path, "r+") as file:
            file["entry/instrument/detector/image_key"][0] = 1.5
        with pytest.raises(InputError, match="whole numbers"):
            read_scan(path)

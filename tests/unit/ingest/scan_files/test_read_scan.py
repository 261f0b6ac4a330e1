"""Stored scans from files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from pfitre_service.errors import InputError
from pfitre_service.ingest import read_scan

IMAGES = np.arange(60, dtype=np.float32).reshape(5, 3, 4)
ANGLES = [0.0, 10.0, 20.0, 30.0, 40.0]


@pytest.fixture
def exchange(tmp_path: Path) -> Path:
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["exchange/data"] = IMAGES.astype("u2")
        file["exchange/data_white"] = np.ones((2, 3, 4), "u2")
        file["exchange/data_dark"] = np.zeros((1, 3, 4), "u2")
        file["exchange/theta"] = ANGLES
    return path


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "scan.tiff"
    tifffile.imwrite(path, IMAGES, photometric="minisblack")
    path.with_suffix(".csv").write_text("angle\n" + "\n".join(map(str, ANGLES)) + "\n")
    return path


def test_data_exchange_in_radians_with_a_pixel_size_and_without_flats(exchange):
    with h5py.File(exchange, "r+") as file:
        file["exchange/theta"][...] = np.deg2rad(ANGLES)
        file["exchange/theta"].attrs["units"] = np.bytes_("radians")
        file["measurement/instrument/detector/pixel_size"] = [0.65]
        file["measurement/instrument/detector/pixel_size"].attrs["units"] = "um"
        del file["exchange/data_white"]
    scan = read_scan(exchange)
    np.testing.assert_allclose(scan.angles, ANGLES)
    assert (scan.pixel_size_nm, scan.measurement, scan.flats) == (650.0, None, None)


def test_data_exchange_without_theta_takes_angles_from_a_table_and_only_then(exchange, tmp_path):
    table = tmp_path / "angles.csv"
    table.write_text("\n".join(map(str, ANGLES)))
    with pytest.raises(InputError, match="holds its angles"):
        read_scan(exchange, angles=table)
    with h5py.File(exchange, "r+") as file:
        del file["exchange/theta"]
    np.testing.assert_array_equal(read_scan(exchange, angles=table).angles, ANGLES)
    with pytest.raises(InputError, match="--angles"):
        read_scan(exchange)


def test_a_tiff_stack_without_flats_does_not_say_what_it_holds(stack):
    scan = read_scan(stack)
    np.testing.assert_array_equal(scan.projections, IMAGES)
    assert (scan.measurement, scan.flats, scan.darks) == (None, None, None)


def test_a_folder_of_images_is_read_in_natural_order(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in (10, 9, 2, 1, 100):
        tifffile.imwrite(folder / f"image_{number}.tif", np.full((3, 4), number, "u2"))
    (folder / "notes.txt").write_text("not an image")
    (tmp_path / "other.csv").write_text("index, Theta\n" + "\n".join(f"{n}, {a}" for n, a in enumerate(ANGLES)))
    scan = read_scan(folder, angles=tmp_path / "other.csv")
    assert [int(image[0, 0]) for image in scan.projections] == [1, 2, 9, 10, 100]
    np.testing.assert_array_equal(scan.angles, ANGLES)


def test_a_table_needs_no_header_and_may_have_comments_and_blank_lines(stack):
    stack.with_suffix(".csv").write_text("# degrees\n0\n10\n\n20\n30\n4e1\n")
    np.testing.assert_array_equal(read_scan(stack).angles, ANGLES)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("angle\n0\n10\ntwenty\n30\n40\n", "line 4: expected an angle in degrees, got 'twenty'"),
        ("angle,x\n0,1\n\n,2\n", "line 4: expected an angle in degrees, got ''"),
        ("0,1\n10,2\n", "line 1: '0,1' may be one number with a decimal comma or two columns"),
        ("", "the file is empty"),
        ("0\n10\n", "5 projections, but 2 angles"),
        ("0\n10\n20\n30\nnan\n", "angle of projection 4 is nan"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(stack, table, says):
    stack.with_suffix(".csv").write_text(table)
    with pytest.raises(InputError, match=says):
        read_scan(stack)


def test_missing_files_are_named(stack, tmp_path):
    with pytest.raises(InputError, match=r"no such file or folder: .*absent\.h5"):
        read_scan(tmp_path / "absent.h5")
    stack.with_suffix(".csv").unlink()
    with pytest.raises(InputError, match=r"no table of angles: .*scan\.csv"):
        read_scan(stack)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.csv").write_text("1\n")
    with pytest.raises(InputError, match="found none"):
        read_scan(tmp_path / "empty")


def test_an_unknown_suffix_names_what_is_supported(tmp_path):
    (tmp_path / "scan.xyz").write_text("?")
    with pytest.raises(InputError, match=r"Data Exchange HDF5 .* TIFF stack .*\.xyz"):
        read_scan(tmp_path / "scan.xyz")


@pytest.mark.parametrize("dataset", ["data", "theta"])
def test_a_missing_dataset_is_named(exchange, dataset):
    with h5py.File(exchange, "r+") as file:
        del file[f"exchange/{dataset}"]
    with pytest.raises(InputError, match=f"/exchange/{dataset}"):
        read_scan(exchange)


def test_references_of_another_shape_and_wrong_units_are_refused(exchange):
    with h5py.File(exchange, "r+") as file:
        file["exchange/theta"].attrs["units"] = "parsecs"
    with pytest.raises(InputError, match="one of the units deg"):
        read_scan(exchange)
    with h5py.File(exchange, "r+") as file:
        file["exchange/theta"].attrs["units"] = "deg"
        del file["exchange/data_dark"]
        file["exchange/data_dark"] = np.zeros((1, 2, 4))
    with pytest.raises(InputError, match="expected darks"):
        read_scan(exchange)


def test_a_file_without_the_content_that_its_name_promises_is_refused(exchange):
    exchange.write_bytes(b"no HDF5 at all")
    with pytest.raises(InputError, match="cannot be read as HDF5"):
        read_scan(exchange)


def test_images_of_different_shape_in_a_folder_are_named(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", np.zeros((3, 4), "u2"))
    tifffile.imwrite(folder / "b.tif", np.zeros((3, 5), "u2"))
    (tmp_path / "images.csv").write_text("0\n1\n")
    with pytest.raises(InputError, match=r"b\.tif: expected images of \(3, 4\)"):
        read_scan(folder)

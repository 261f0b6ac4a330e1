"""One scan in every file format: read the same, refused alike where it is not whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.ingest import read_scan


@dataclass(frozen=True)
class Scan:
    """What is written, in any format."""

    projections: NDArray[Any]
    angles: NDArray[np.float64]
    flats: NDArray[Any]
    darks: NDArray[Any]


def write_nxtomo(folder: Path, scan: Scan) -> dict[str, Any]:
    """Frames as they were taken: a dark first, flats before and after."""
    path = folder / "scan.nxs"
    parts = [(scan.darks, 2), (scan.flats[:1], 1), (scan.projections, 0), (scan.flats[1:], 1)]
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"], entry["definition"] = "NXentry", "NXtomo"
        detector, sample = entry.create_group("instrument/detector"), entry.create_group("sample")
        for group, nx_class in (
            (entry["instrument"], "NXinstrument"),
            (detector, "NXdetector"),
            (sample, "NXsample"),
        ):
            group.attrs["NX_class"] = nx_class
        detector["data"] = np.concatenate([frames for frames, _ in parts])
        detector["image_key"] = np.concatenate([np.full(len(frames), key) for frames, key in parts])
        sample["rotation_angle"] = np.concatenate(
            [scan.angles if key == 0 else np.zeros(len(frames)) for frames, key in parts]
        )
        sample["rotation_angle"].attrs["units"] = "deg"
    return {"path": path}


def write_data_exchange(folder: Path, scan: Scan) -> dict[str, Any]:
    path = folder / "scan.h5"
    with h5py.File(path, "w") as file:
        file["exchange/data"], file["exchange/theta"] = scan.projections, scan.angles
        file["exchange/data_white"], file["exchange/data_dark"] = scan.flats, scan.darks
    return {"path": path}


def write_tiff_references(folder: Path, scan: Scan) -> dict[str, Any]:
    """Flats and darks in files of their own, which TIFF wants told."""
    files = {}
    for name in ("flats", "darks"):
        files[name] = folder / f"{name}.tif"
        tifffile.imwrite(files[name], getattr(scan, name), photometric="minisblack")
    return files


def write_table(path: Path, scan: Scan) -> None:
    path.write_text("angle\n" + "".join(f"{angle!r}\n" for angle in scan.angles.tolist()))


def write_tiff_stack(folder: Path, scan: Scan) -> dict[str, Any]:
    path = folder / "scan.tiff"
    tifffile.imwrite(path, scan.projections, photometric="minisblack")
    write_table(path.with_suffix(".csv"), scan)
    return {"path": path, **write_tiff_references(folder, scan)}


def write_tiff_folder(folder: Path, scan: Scan) -> dict[str, Any]:
    path = folder / "images"
    path.mkdir()
    for number, image in enumerate(scan.projections, 8):  # from one digit to two
        tifffile.imwrite(path / f"scan_{number}.tif", image, photometric="minisblack")
    write_table(folder / "images.csv", scan)
    return {"path": path, **write_tiff_references(folder, scan)}


FORMATS: dict[str, Callable[[Path, Scan], dict[str, Any]]] = {
    "NXtomo": write_nxtomo,
    "Data Exchange": write_data_exchange,
    "TIFF stack": write_tiff_stack,
    "TIFF folder": write_tiff_folder,
}
"""A new format has a line here: writes a scan into a folder and gives the arguments with which `read_scan` reads it."""


@pytest.fixture(params=FORMATS)
def write(request, tmp_path) -> Callable[[Scan], dict[str, Any]]:
    return lambda scan: FORMATS[request.param](tmp_path, scan)


def scan_of(dtype: str = "u2", shape: tuple[int, int] = (3, 4)) -> Scan:
    """Pixels of a frame differ from one another and from those of its neighbours; unordered angles, one of them
    twice."""
    values = np.arange(8 * shape[0] * shape[1]).reshape(8, *shape).astype(dtype)
    return Scan(values[:5], np.array([-74.5, 0.0, 12.25, 0.0, 90.125]), values[5:7], values[7:])


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4", "f8"])
def test_every_value_and_angle_comes_back(write, dtype):
    scan = scan_of(dtype)
    read = read_scan(**write(scan))
    for name in ("projections", "flats", "darks"):
        assert getattr(read, name).dtype == np.dtype(dtype)
        np.testing.assert_array_equal(getattr(read, name), getattr(scan, name))
    np.testing.assert_array_equal(read.angles, scan.angles)
    assert read.angles.dtype == np.float64
    assert read.measurement == "transmission"
    assert read.pixel_size_nm is None


def test_where_it_came_from_is_told(write):
    files = write(scan_of())
    assert str(files["path"]) in read_scan(**files).source


def test_a_path_may_be_text_and_reading_changes_no_file(write, tmp_path):
    files = write(scan_of())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    read_scan(**{name: str(path) for name, path in files.items()})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_references_that_are_named_count_in_the_place_of_the_files_own(write, tmp_path):
    scan = scan_of()
    files = write(scan)
    np.save(tmp_path / "other.npy", np.full((4, 3, 4), 7, "u2"))
    read = read_scan(**{**files, "flats": tmp_path / "other.npy"})
    assert read.flats.shape == (4, 3, 4)
    assert (read.flats == 7).all()
    np.testing.assert_array_equal(read.darks, scan.darks)
    assert any("flat fields: 4 of" in note for note in read.notes)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_angle_that_is_no_number_is_refused_by_its_projection(write, bad):
    scan = scan_of()
    scan.angles[3] = bad
    with pytest.raises(InputError, match=f"angle of projection 3 is {bad}"):
        read_scan(**write(scan))


def test_as_many_angles_as_projections_are_asked_for(write):
    scan = scan_of()
    with pytest.raises(InputError, match=r"angle"):
        read_scan(**write(Scan(scan.projections, scan.angles[:3], scan.flats, scan.darks)))


def test_references_of_another_shape_are_refused(write, tmp_path):
    np.save(tmp_path / "other.npy", np.ones((2, 5, 4), "u2"))
    with pytest.raises(InputError, match=r"expected flats like \(3, 4\), got the shape \(2, 5, 4\)"):
        read_scan(**{**write(scan_of()), "flats": tmp_path / "other.npy"})


def test_complex_values_are_refused(write):
    with pytest.raises(InputError):
        read_scan(**write(scan_of("c8")))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_file_that_was_cut_short_is_refused_by_name(write, share):
    files = write(scan_of(shape=(150, 160)))
    path = file_of(files["path"])
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match=re.escape(path.name)):
        read_scan(**files)


def test_wherever_a_file_was_cut_the_scan_is_read_whole_or_not_at_all(write):
    scan = scan_of()
    files = write(scan)
    path = file_of(files["path"])
    whole, refused = path.read_bytes(), 0
    for length in np.linspace(0, len(whole), 40, endpoint=False, dtype=int):
        path.write_bytes(whole[:length])
        try:
            read = read_scan(**files)
        except InputError:
            refused += 1
        else:
            for name in ("projections", "angles", "flats", "darks"):
                np.testing.assert_array_equal(getattr(read, name), getattr(scan, name))
    assert refused >= 10


def file_of(path: Path) -> Path:
    """The file itself, or the first one of a folder."""
    return path if path.is_file() else min(path.iterdir())


def test_what_is_not_there_is_named(write):
    files = write(scan_of())
    with pytest.raises(InputError, match=r"no such file or folder: .*absent"):
        read_scan(**{**files, "path": files["path"].with_name("absent")})

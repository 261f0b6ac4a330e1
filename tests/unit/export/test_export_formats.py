"""Exports are opened by the libraries that scientists use, and say what they must."""

from __future__ import annotations

import dataclasses
import json
import zipfile

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from pfitre_service.errors import InputError
from pfitre_service.export.files import SUFFIXES, chosen_format, export_tomogram, format_of, slices_to_write
from pfitre_service.export.provenance import provenance
from pfitre_service.export.tiff import write_tiff

SHAPE = (37, 20, 24)
NM = 12.5


def check_provenance(document, tomogram):
    assert document["run_uids"] == ["5da75b34-one", "5da75b34-two"]
    assert document["weights_sha256"] == "ab" * 32
    assert document["parameters"]["recon"] == {"rho": 5.0, "tolerance": None}
    assert document["voxel_size_nm"] == NM
    assert document["quality"]["heldout_error"] == pytest.approx(0.12)
    assert "missing 60 degrees are inferred, not measured" in document["quality"]["sentence"]
    assert document["exported"]["from"] == tomogram.source
    assert document["exported"]["versions"]["h5py"] == h5py.__version__


def test_nexus_opens_in_h5py_with_signal_axes_and_provenance(tomogram, tmp_path):
    path = tmp_path / "chip.h5"
    export_tomogram(tomogram, "nexus", path)
    with h5py.File(path) as file:
        entry = file[file.attrs["default"]]
        data = entry[entry.attrs["default"]]
        assert (entry.attrs["NX_class"], data.attrs["NX_class"]) == ("NXentry", "NXdata")
        volume = data[data.attrs["signal"]]
        assert volume.dtype == np.float32
        np.testing.assert_array_equal(volume, tomogram.arrays["volume"].values)
        np.testing.assert_array_equal(data["physics"], tomogram.arrays["physics"].values)
        np.testing.assert_array_equal(data["expected_error"], 2)
        assert list(data.attrs["axes"]) == ["z", "y", "x"]
        for place, axis in enumerate("zyx"):
            assert data.attrs[f"{axis}_indices"] == place
            assert data[axis].attrs["units"] == "nm"
            assert len(data[axis]) == SHAPE[place]
            np.testing.assert_allclose(np.diff(data[axis]), NM)
        assert data["x"][0] == -data["x"][-1]
        process = entry["reconstruction"]
        assert process.attrs["NX_class"] == "NXprocess"
        assert [uid.decode() for uid in process["run_uids"]] == ["5da75b34-one", "5da75b34-two"]
        assert process["heldout_error"][()] == pytest.approx(0.12)
        check_provenance(json.loads(process["provenance/data"][()]), tomogram)
        assert list(entry["progress/revision"]) == [1, 2, 3, 4, 5]
        assert entry["progress/phase"].asstr()[-1] == "final"
        assert len(entry["projections/rotation_angle"]) == 31
        assert sum(entry["projections/held_out"]) == 4


@pytest.mark.parametrize("name", ["chip.ome.zarr", "chip.ome.zarr.zip"])
def test_ome_zarr_opens_in_zarr_with_scales_and_provenance(tomogram, tmp_path, name):
    path = tmp_path / name
    large = dataclasses.replace(tomogram, arrays={"volume": Large((9, 300, 301))})
    for source, shape in ((tomogram, (3, *SHAPE)), (large, (1, 9, 300, 301))):
        export_tomogram(source, "ome-zarr", path, overwrite=True)
        store = zarr.storage.ZipStore(path, mode="r") if name.endswith(".zip") else path
        group = zarr.open_group(store, mode="r")
        image = group.attrs["ome"]["multiscales"][0]
        assert [axis["name"] for axis in image["axes"]] == ["c", "z", "y", "x"]
        assert {axis.get("unit") for axis in image["axes"][1:]} == {"nanometer"}
        levels = [group[entry["path"]] for entry in image["datasets"]]
        assert levels[0].shape == shape
        np.testing.assert_array_equal(levels[0][0], source.main.read(0, shape[1]))
        for level, entry in zip(levels, image["datasets"], strict=True):
            scale = entry["coordinateTransformations"][0]["scale"]
            np.testing.assert_allclose(
                scale[1:], [NM * (a // b) for a, b in zip(shape[1:], level.shape[1:], strict=True)]
            )
        assert max(levels[-1].shape[1:]) <= 128
        assert [channel["label"] for channel in group.attrs["ome"]["omero"]["channels"]] == list(source.arrays)
        window = group.attrs["ome"]["omero"]["channels"][0]["window"]
        assert window["min"] <= window["start"] < window["end"] <= window["max"] == levels[0][0].max()
        check_provenance(group.attrs["pfitre"], source)
    coarse, fine = levels[1], levels[0]
    np.testing.assert_allclose(coarse[0, 1, 2, 3], np.mean(fine[0, 2:4, 4:6, 6:8]), rtol=1e-6)
    assert image["datasets"][1]["coordinateTransformations"][1]["translation"] == [0.0, NM / 2, NM / 2, NM / 2]


class Large:
    """Slices long enough that smaller copies are made."""

    def __init__(self, shape):
        self.shape = shape

    def read(self, first, stop):
        return np.random.default_rng(3).random(self.shape, np.float32)[first:stop]


def test_a_zip_has_its_root_first_and_is_not_compressed(tomogram, tmp_path):
    path = tmp_path / "chip.ome.zarr.zip"
    export_tomogram(tomogram, "ome-zarr", path)
    entries = zipfile.ZipFile(path).infolist()
    assert entries[0].filename == "zarr.json"
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert list(tmp_path.iterdir()) == [path]


def test_tiff_opens_in_tifffile_as_imagej_reads_it(tomogram, tmp_path):
    path = tmp_path / "chip.tif"
    export_tomogram(tomogram, "tiff", path)
    with tifffile.TiffFile(path) as file:
        np.testing.assert_array_equal(file.asarray(), tomogram.arrays["volume"].values)
        assert (file.series[0].axes, file.series[0].dtype) == ("ZYX", np.float32)
        told = file.imagej_metadata
        assert (told["spacing"], told["unit"]) == (NM / 1000, "um")
        pixels, per = file.pages[0].tags["XResolution"].value
        assert per / pixels == pytest.approx(NM / 1000)
        check_provenance(json.loads(told["Info"]), tomogram)


def test_a_tiff_too_large_for_imagej_is_a_bigtiff_with_its_provenance(tomogram, tmp_path):
    path = tmp_path / "chip.tif"
    write_tiff(path, tomogram, lambda count: None, imagej_bytes=1000)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
        assert not file.is_imagej
        np.testing.assert_array_equal(file.asarray(), tomogram.arrays["volume"].values)
        check_provenance(json.loads(file.pages[0].description), tomogram)


@pytest.mark.parametrize("kind", list(SUFFIXES))
def test_slabs_are_read_once_each_and_progress_counts_them_all(tomogram, tmp_path, kind):
    counted = []
    export_tomogram(tomogram, kind, tmp_path / f"chip{SUFFIXES[kind][0]}", on_slices=counted.append)
    assert sum(counted) == slices_to_write(tomogram, kind)
    for array in [tomogram.main] if kind == "tiff" else tomogram.arrays.values():
        assert array.most <= 16
        assert [first for first, _ in array.asked] == [0, 16, 32]


@pytest.mark.parametrize("kind", list(SUFFIXES))
def test_an_export_that_fails_leaves_nothing_and_keeps_what_was_there(tomogram, tmp_path, kind):
    path = tmp_path / f"chip{SUFFIXES[kind][0]}"
    export_tomogram(tomogram, kind, path)
    before = sorted(tmp_path.rglob("*"))

    class Breaking:
        shape = SHAPE

        def read(self, first, stop):
            if first:
                raise OSError("the disk is gone")
            return np.zeros((stop - first, *SHAPE[1:]), np.float32)

    broken = dataclasses.replace(tomogram, arrays={"volume": Breaking()})
    with pytest.raises(InputError, match="the disk is gone"):
        export_tomogram(broken, kind, path, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_path_that_is_there_is_refused_and_a_strange_folder_is_never_replaced(tomogram, tmp_path):
    path = tmp_path / "chip.h5"
    path.write_text("mine")
    with pytest.raises(InputError, match="--overwrite"):
        export_tomogram(tomogram, "nexus", path)
    assert path.read_text() == "mine"
    folder = tmp_path / "chip.ome.zarr"
    folder.mkdir()
    with pytest.raises(InputError, match="left alone"):
        export_tomogram(tomogram, "ome-zarr", folder, overwrite=True)
    with pytest.raises(InputError, match=r"must end in \.tif"):
        export_tomogram(tomogram, "tiff", tmp_path / "chip.png")
    with pytest.raises(InputError, match="does not exist"):
        export_tomogram(tomogram, "tiff", tmp_path / "nowhere" / "chip.tif")


def test_what_is_not_final_says_so_and_without_a_pixel_size_nothing_claims_one(tomogram, tmp_path):
    metadata = {**tomogram.metadata, "status": "iterating", "geometry": {}}
    live = dataclasses.replace(tomogram, metadata=metadata)
    document = provenance(live)
    assert "while the tomogram was iterating, not final" in document["warnings"][0]
    assert document["warnings"][1] == "the axis was not found"
    assert document["voxel_size_nm"] is None
    export_tomogram(live, "nexus", tmp_path / "chip.h5")
    with h5py.File(tmp_path / "chip.h5") as file:
        assert file["entry/data/x"].attrs["units"] == "pixel"
    export_tomogram(live, "ome-zarr", tmp_path / "chip.ome.zarr")
    image = zarr.open_group(tmp_path / "chip.ome.zarr", mode="r").attrs["ome"]["multiscales"][0]
    assert all("unit" not in axis for axis in image["axes"])
    export_tomogram(live, "tiff", tmp_path / "chip.tif")
    with tifffile.TiffFile(tmp_path / "chip.tif") as file:
        assert "unit" not in file.imagej_metadata


def test_the_format_is_told_by_the_end_of_the_path(tmp_path):
    names = {"a.nxs": "nexus", "a.h5": "nexus", "a.OME.zarr": "ome-zarr", "a.ome.zarr.zip": "ome-zarr", "a.tif": "tiff"}
    names |= {"a.zarr": "ome-zarr", "NEW.H5": "nexus"}
    assert {name: format_of(tmp_path / name) for name in names} == names
    assert {name: chosen_format(tmp_path / name, None, overwrite=False) for name in names} == names
    assert format_of(tmp_path / "a.zip") is None


def test_what_cannot_be_written_is_refused_before_any_work(tmp_path):
    (tmp_path / "old.h5").touch()
    (tmp_path / "folder.h5").mkdir()
    for name, said in (
        ("a.png", r"must end in one of \.h5"),
        ("nowhere/a.h5", "does not exist"),
        ("old.h5", "--overwrite"),
    ):
        with pytest.raises(InputError, match=said):
            chosen_format(tmp_path / name, None, overwrite=False)
    assert chosen_format(tmp_path / "old.h5", None, overwrite=True) == "nexus"
    with pytest.raises(InputError, match="a folder that holds no Zarr group"):
        chosen_format(tmp_path / "folder.h5", None, overwrite=True)


def test_places_of_voxels_are_those_of_the_client_also_with_a_region_and_bins(tomogram, tmp_path):
    """Rows 6 to 80 in pairs: the first slice lies between the detector's rows 6 and 7."""
    parameters = {"preprocess": {"bin": 2, "rows": [6, 80]}}
    binned = dataclasses.replace(tomogram, metadata={**tomogram.metadata, "parameters": parameters})
    export_tomogram(binned, "nexus", tmp_path / "chip.h5")
    with h5py.File(tmp_path / "chip.h5") as file:
        data = file["entry/data"]
        np.testing.assert_allclose(data["z"], (6.5 + 2 * np.arange(37)) * NM)
        np.testing.assert_allclose(data["x"], 2 * NM * (np.arange(24) - 11.5))
    assert provenance(binned)["voxel_size_nm"] == 2 * NM

"""A stored scan's result in a file: the same writers and the same record as a tomogram of the catalogue."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import tifffile
import zarr

import pfitre_service
from pfitre_service.engine.reconstruct import reconstruct
from pfitre_service.export.files import SUFFIXES, chosen_format, export_tomogram
from pfitre_service.export.provenance import provenance
from pfitre_service.export.tomogram import Tomogram
from pfitre_service.ingest import StoredScan
from pfitre_service.offline.exported import as_tomogram

NM = 20.0


@pytest.fixture(scope="module")
def result(integrals, angles):
    return reconstruct(integrals, angles, iterations=2, device="cpu")


@pytest.fixture(scope="module")
def tomogram(result, integrals, angles) -> Tomogram:
    scan = StoredScan(np.asarray(integrals), np.asarray(angles), None, None, "line_integral", NM, "some/chip.h5")
    return as_tomogram(result, scan, "chip")


def written(tomogram, path):
    export_tomogram(tomogram, chosen_format(path, None, overwrite=False), path)
    return path


def test_the_record_says_what_was_used_how_and_with_which_error(tomogram, result, angles):
    document = provenance(tomogram)
    assert (document["name"], document["exported"]["from"]) == ("chip", "some/chip.h5")
    assert document["software"] == document["exported"]["by"] == f"pfitre-service {pfitre_service.__version__}"
    assert (document["status"], document["is_final"], document["warnings"]) == ("final", True, list(result.warnings))
    assert document["frames_used"] == result.history[-1].angles_used == len(angles)
    assert (document["prior"], document["device"], document["voxel_size_nm"]) == (result.prior, "cpu", NM)
    assert document["calibration"]["axis"] == pytest.approx(result.calibration.axis)
    assert document["quality"]["sentence"] == result.statement.sentence
    assert document["quality"]["heldout_error"] == pytest.approx(result.heldout_error)
    assert document["quality"]["noise_floor"] == pytest.approx(result.statement.noise_floor)
    assert document["angles"]["values"] == pytest.approx(list(angles))
    assert document["angles"]["held_out"] == len(range(4, len(angles), 8))


def test_the_parameters_are_those_that_it_was_made_with(tomogram):
    assert provenance(tomogram)["parameters"]["recon"]["max_iterations"] == 2


def test_hdf5_holds_every_volume_the_history_and_the_record(tomogram, result, tmp_path):
    with h5py.File(written(tomogram, tmp_path / "a.h5")) as file:
        np.testing.assert_array_equal(file["entry/data/data"], result.volume)
        for name in ("physics", "expected_error", "inferred", "preview"):
            np.testing.assert_array_equal(file["entry/data"][name], getattr(result, name))
        assert list(file["entry/progress/revision"]) == [step.revision for step in result.history]
        assert file["entry/progress/phase"].asstr()[-1] == "final"
        assert json.loads(file["entry/reconstruction/provenance/data"][()])["prior"] == result.prior


def test_tiff_holds_the_volume_and_says_how_it_was_made(tomogram, result, tmp_path):
    with tifffile.TiffFile(written(tomogram, tmp_path / "a.tif")) as file:
        np.testing.assert_array_equal(file.asarray(), result.volume)
        assert json.loads(file.imagej_metadata["Info"])["exported"]["from"] == "some/chip.h5"


@pytest.mark.parametrize("name", ["a.zarr", "a.ome.zarr"])
def test_zarr_holds_every_volume_as_a_channel(tomogram, result, tmp_path, name):
    group = zarr.open_group(str(written(tomogram, tmp_path / name)), mode="r")
    channels = [channel["label"] for channel in group.attrs["ome"]["omero"]["channels"]]
    assert channels == ["volume", "physics", "expected_error", "inferred", "preview"]
    for channel, array in zip(channels, group["0"], strict=True):
        np.testing.assert_array_equal(array, getattr(result, channel))
    json.dumps(dict(group.attrs), allow_nan=False)


@pytest.mark.parametrize("suffix", [suffix for suffixes in SUFFIXES.values() for suffix in suffixes])
def test_a_new_result_takes_the_place_of_the_old_one_whole(tomogram, tmp_path, suffix):
    path = written(tomogram, tmp_path / f"a{suffix}")
    export_tomogram(tomogram, chosen_format(path, None, overwrite=True), path, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]

"""`pfitre reconstruct` on stored scans, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr

import pfitre_service.twin

pytestmark = pytest.mark.slow

RECORDED = Path(pfitre_service.twin.__file__).parent / "data"
SHAPE = (6, 150, 150)


@pytest.fixture(scope="module")
def cropped(tmp_path_factory):
    """Six rows of the recorded scan as TIFF and CSV."""
    folder = tmp_path_factory.mktemp("cropped")
    tifffile.imwrite(folder / "cu23.tiff", tifffile.imread(RECORDED / "cu23.tiff")[:, 40:46])
    (folder / "cu23.csv").write_bytes((RECORDED / "cu23.csv").read_bytes())
    return folder / "cu23.tiff"


@pytest.fixture
def exchange(tmp_path, small_scan):
    """A small transmission scan as Data Exchange HDF5."""
    scan = small_scan(fluorescence=False)
    angles = np.arange(-50.0, 51.0, 5.0)
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["exchange/data"] = np.stack([scan.source.projection(angle) for angle in angles])
        file["exchange/data_white"] = np.stack([scan.source.flat() for _ in range(5)])
        file["exchange/data_dark"] = np.stack([scan.source.dark() for _ in range(5)])
        file["exchange/theta"] = angles
    return path


def test_real_data_to_hdf5(pfitre, cropped, tmp_path):
    output = tmp_path / "volume.h5"
    result = pfitre("reconstruct", str(cropped), "-o", str(output), "--json")
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert {"axis", "heldout_error", "seconds", "iterations", "residual", "prior", "output"} <= set(summary)
    assert (summary["frames_used"], summary["volume_shape"]) == (51, list(SHAPE))
    assert summary["axis_origin"] == "found"
    assert summary["axis"] == pytest.approx(74.5, abs=1.0)
    assert summary["heldout_error"] < summary["heldout_error_physics"] < 1
    with h5py.File(output) as file:
        names = ("data", "physics", "expected_error", "inferred", "preview")
        assert {name: file["entry/data"][name].shape for name in names} == dict.fromkeys(names, SHAPE)
        assert len(file["entry/progress/revision"]) == summary["iterations"] + 1
        provenance = json.loads(file["entry/reconstruction/provenance/data"][()])
        assert (provenance["name"], provenance["frames_used"]) == ("cu23", 51)


@pytest.mark.parametrize("prior", ["none", "tv"])
def test_real_data_to_tiff_with_either_prior(pfitre, cropped, tmp_path, prior):
    output = tmp_path / "volume.tif"
    arguments = ["--prior", prior, "--iterations", "3", "--axis", "75.25"]
    result = pfitre("reconstruct", str(cropped), "-o", str(output), *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    volume = tifffile.imread(output)
    assert (volume.shape, volume.dtype) == (SHAPE, np.float32)
    assert np.isfinite(volume).all()
    assert volume.std() > 0


def test_a_data_exchange_file_to_zarr(pfitre, exchange, tmp_path, small_scan):
    output = tmp_path / "volume.zarr"
    result = pfitre("reconstruct", str(exchange), "-o", str(output), "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["warnings"] == []
    group = zarr.open_group(str(output), mode="r")
    volume, truth = group["0"][0], small_scan().truth
    assert volume.shape == truth.shape
    assert group["0"].metadata.dimension_names == ("c", "z", "y", "x")
    assert np.linalg.norm(volume - truth) < 0.6 * np.linalg.norm(truth)


def test_an_output_that_exists_is_kept_unless_it_may_be_replaced(pfitre, exchange, tmp_path):
    output = tmp_path / "volume.tif"
    output.write_text("precious")
    arguments = ["reconstruct", str(exchange), "-o", str(output), "--iterations", "1"]
    refused = pfitre(*arguments)
    assert refused.returncode == 1
    assert "exists already; choose another name, or allow it with --overwrite" in refused.stderr
    assert output.read_text() == "precious"
    assert pfitre(*arguments, "--overwrite").returncode == 0
    assert tifffile.imread(output).shape == (12, 32, 32)
    assert not list(tmp_path.glob(".*partial*"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{missing}"], "nothing.h5"),
        (["{tiff}", "-o", "{folder}/volume.png"], "must end in one of .h5"),
        (["{tiff}", "-o", "{folder}/nowhere/volume.h5"], "the folder of the output does not exist"),
        (["{tiff}", "--angles", "{wrong}"], "51"),
        (["{wrong}"], "wrong.csv"),
        (["{empty}"], "empty.h5"),
        (["{tiff}", "--axis", "9999"], "rotation axis"),
        (["{tiff}", "--device", "abacus"], "device 'abacus' cannot be used here"),
    ],
)
def test_what_cannot_be_reconstructed_is_said_in_one_line(pfitre, cropped, tmp_path, arguments, said):
    (tmp_path / "wrong.csv").write_text("angle\n1\n2\n3\n")
    h5py.File(tmp_path / "empty.h5", "w").close()
    names = {"tiff": cropped, "folder": tmp_path, "missing": tmp_path / "nothing.h5"}
    names |= {"wrong": tmp_path / "wrong.csv", "empty": tmp_path / "empty.h5"}
    result = pfitre("reconstruct", *(argument.format_map(names) for argument in arguments))
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("pfitre: ")
    assert said in result.stderr.strip().splitlines()[-1]

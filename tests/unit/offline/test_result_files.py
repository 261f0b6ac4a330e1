from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from pfitre_service.engine.reconstruct import reconstruct
from pfitre_service.errors import InputError
from pfitre_service.offline.result_files import WRITERS, check_output, write_result


@pytest.fixture(scope="module")
def result(integrals, angles):
    return reconstruct(integrals, angles, iterations=2, device="cpu")


def test_hdf5_holds_every_volume_the_history_and_where_it_came_from(result, tmp_path):
    write_result(tmp_path / "a.h5", result, "a scan")
    with h5py.File(tmp_path / "a.h5") as file:
        for name in ("volume", "physics", "expected_error", "preview"):
            np.testing.assert_array_equal(file[name][()], getattr(result, name))
        assert list(file["progress/revision"]) == [step.revision for step in result.history]
        assert file["progress/phase"][-1] == b"final"
        found = file.attrs["source"], file.attrs["prior"], file.attrs["axis_order"]
        assert found == ("a scan", result.prior, "z, y, x")


def test_tiff_holds_the_volume_and_says_how_it_was_made(result, tmp_path):
    write_result(tmp_path / "a.tif", result, "a scan")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        np.testing.assert_array_equal(file.asarray(), result.volume)
        assert json.loads(file.pages[0].description)["source"] == "a scan"


def test_zarr_holds_every_volume_and_the_history(result, tmp_path):
    write_result(tmp_path / "a.zarr", result, "a scan")
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")
    np.testing.assert_array_equal(group["volume"][:], result.volume)
    np.testing.assert_array_equal(group["expected_error"][:], result.expected_error)
    assert group.attrs["progress"]["phase"][-1] == "final"
    json.dumps(dict(group.attrs), allow_nan=False)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_new_result_takes_the_place_of_the_old_one_whole(result, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_result(path, result, "first")
    write_result(path, result, "second")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_result_that_cannot_be_written_says_so(result, tmp_path):
    with pytest.raises(InputError, match="cannot write"):
        write_result(tmp_path / "gone" / "a.h5", result, "a scan")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_refused_before_any_work(tmp_path):
    (tmp_path / "old.h5").touch()
    with pytest.raises(InputError, match=r"must end in one of \.h5"):
        check_output(tmp_path / "a.png", overwrite=False)
    with pytest.raises(InputError, match="does not exist"):
        check_output(tmp_path / "nowhere" / "a.h5", overwrite=False)
    with pytest.raises(InputError, match="--overwrite"):
        check_output(tmp_path / "old.h5", overwrite=False)
    check_output(tmp_path / "old.h5", overwrite=True)
    check_output(tmp_path / "NEW.H5", overwrite=False)


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    folder = tmp_path / "results.zarr"
    folder.mkdir()
    (folder / "notes.txt").touch()
    with pytest.raises(InputError, match="a folder that holds no Zarr group"):
        check_output(folder, overwrite=True)
    (tmp_path / "a.h5").mkdir()
    with pytest.raises(InputError, match="a folder that holds no Zarr group"):
        check_output(tmp_path / "a.h5", overwrite=True)

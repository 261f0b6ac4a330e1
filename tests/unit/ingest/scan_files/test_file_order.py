"""The order of a folder's images: what names leave no doubt of is taken and stated, the rest is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from pfitre_service.errors import InputError
from pfitre_service.ingest import read_scan


def folder(tmp_path: Path, names: list[str]) -> Path:
    """Images in the order of `names`, each filled with its place in it."""
    made = tmp_path / "images"
    made.mkdir()
    for place, name in enumerate(names):
        tifffile.imwrite(made / name, np.full((3, 4), place, "u2"))
    return made


def places(scan) -> list[int]:
    return scan.projections[:, 0, 0].tolist()


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(text)
    return path


ANGLES = "0\n10\n20\n30\n"


@pytest.mark.parametrize(
    "names",
    [
        ["s_1.tif", "s_2.tif", "s_10.tif", "s_20.tif"],
        ["s12_0001.tif", "s12_0002.tif", "s12_0003.tif", "s12_0010.tif"],
        ["scan_3-001.tif", "scan_3-002.tif", "scan_3-003.tif", "scan_3-004.tif"],
        ["r1_001.tif", "r1_002.tif", "r2_003.tif", "r2_004.tif"],
    ],
)
def test_numbers_that_leave_no_doubt_are_taken_and_the_order_is_stated(tmp_path, names):
    scan = read_scan(folder(tmp_path, names), angles=table(tmp_path, ANGLES))
    assert places(scan) == [0, 1, 2, 3]
    assert "order: by the numbers in the names" in scan.notes


def test_two_numbers_that_give_two_orders_are_asked_for(tmp_path):
    images = folder(tmp_path, ["s1_2.tif", "s2_1.tif", "s3_4.tif", "s4_3.tif"])
    angles = table(tmp_path, ANGLES)
    with pytest.raises(InputError, match=r"2 numbers change in the names .*--order natural .*--order last"):
        read_scan(images, angles=angles)
    assert places(read_scan(images, angles=angles, order="natural")) == [0, 1, 2, 3]
    assert places(read_scan(images, angles=angles, order="last")) == [1, 0, 3, 2]


def test_repeated_numbers_are_asked_for(tmp_path):
    images = folder(tmp_path, ["s1_1.tif", "s1_2.tif", "s2_1.tif", "s2_2.tif"])
    with pytest.raises(InputError, match="give different orders"):
        read_scan(images, angles=table(tmp_path, ANGLES))
    with pytest.raises(InputError, match="not different in each file"):
        read_scan(images, angles=table(tmp_path, ANGLES), order="last")


SIGNED = ["tilt_-60.0.tif", "tilt_-5.0.tif", "tilt_+5.0.tif", "tilt_60.5.tif"]


def test_angles_in_the_names_pair_each_image_with_its_row_of_the_table(tmp_path):
    images = folder(tmp_path, SIGNED)
    scan = read_scan(images, angles=table(tmp_path, "-5\n-60\n60.5\n5\n"))
    np.testing.assert_array_equal(scan.angles, [-5, -60, 60.5, 5])
    assert places(scan) == [1, 0, 3, 2]
    assert "order: each image by the angle in its name" in scan.notes


def test_angles_in_the_names_are_the_angles_where_there_is_no_table(tmp_path):
    scan = read_scan(folder(tmp_path, SIGNED))
    np.testing.assert_array_equal(scan.angles, [-60, -5, 5, 60.5])
    assert places(scan) == [0, 1, 2, 3]
    assert "angles and order: as the names of the files say" in scan.notes


def test_signed_numbers_that_contradict_the_table_are_asked_for(tmp_path):
    with pytest.raises(InputError, match="not the angles of the table"):
        read_scan(folder(tmp_path, SIGNED), angles=table(tmp_path, ANGLES))


def test_the_names_in_a_table_decide(tmp_path):
    images = folder(tmp_path, ["b1.tif", "b2.tif", "b3.tif"])
    scan = read_scan(images, angles=table(tmp_path, "file,angle\nb3.tif,0\nb1.tif,111.25\n"))
    assert places(scan) == [2, 0]
    assert any("left out" in note and "b2.tif" in note for note in scan.notes)
    with pytest.raises(InputError, match=r"not there: b9\.tif"):
        read_scan(images, angles=table(tmp_path, "file,angle\nb9.tif,0\n"))


def test_hidden_files_and_strangers_are_left_out_and_named(tmp_path):
    images = folder(tmp_path, [f"s_{number:03d}.tif" for number in range(10)])
    tifffile.imwrite(images / "s_180deg.tif", np.zeros((3, 4), "u2"))
    (images / "._s_000.tif").write_bytes(b"\0\5\x16\7")
    scan = read_scan(images, angles=table(tmp_path, "\n".join(map(str, range(10)))))
    assert places(scan) == list(range(10))
    told = " ".join(scan.notes)
    assert "._s_000.tif" in told
    assert "s_180deg.tif" in told

"""Which file a document means: templates of sequences, uris, paths of other machines."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from pfitre_service.errors import DocumentError, InputError
from pfitre_service.ingest import FrameFiles
from pfitre_service.ingest.assembly.file_references import FileRows, FileSource, rows_of_datum, source_of
from pfitre_service.ingest.numbered_names import numbered_name


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("proj_%06d.tif", "proj_000007.tif"),
        ("%6.6d.tiff", "000007.tiff"),
        ("a%d", "a7"),
        ("50%% load %d.tif", "50% load 7.tif"),
        ("proj_{:06d}.tif", "proj_000007.tif"),
        ("proj_{0}.tif", "proj_7.tif"),
        ("proj_{}.tif", "proj_7.tif"),
        ("proj_{0:04d}.tif", "proj_0007.tif"),
        ("{{x}}_{:d}.tif", "{x}_7.tif"),
    ],
)
def test_a_template_has_one_place_for_a_number_in_either_style(template, name):
    assert numbered_name(template, 7) == name
    assert name == (template % 7 if "%" in template else template.format(7))


@pytest.mark.parametrize(
    "template",
    [
        "%09999999d",
        "%3000000000d",
        "%.9999999d",
        "%0999d",
        "{:09999999d}",
        "{:>9999999}",
        "{0.__class__}",
        "{0[0]}",
        "{0!r}",
        "{:{}}",
        "{x}",
        "%s.tif",
        "%(a)d",
        "%d_%d",
        "{}{}",
        "plain.tif",
        "%",
        "{",
        "../%d",
        "%d/x",
        "",
        "x\0%d",
    ],
)
def test_any_other_template_is_refused_in_a_short_message(template):
    with pytest.raises(InputError) as refused:
        numbered_name(template, 7)
    assert len(str(refused.value)) < 400


def announced(uri: str) -> FileSource:
    return source_of({"mimetype": "application/x-hdf5", "uri": uri, "parameters": {"dataset": "data"}})


@pytest.mark.parametrize("name", ["plain", "sample#3", "run?2", "50% load", "50%25", "a%20b", "Müller", "a+b", "a;b=c"])
@pytest.mark.parametrize("quoted", [True, False])
def test_a_uri_is_understood_quoted_as_it_should_be_and_as_writers_leave_it(tmp_path: Path, name, quoted):
    from urllib.parse import quote

    folder = tmp_path / name
    folder.mkdir()
    frame = np.arange(6, dtype="u2").reshape(1, 2, 3)
    with h5py.File(folder / "x.h5", "w") as file:
        file["data"] = frame
    path = f"{folder}/x.h5"
    source = announced(f"file://localhost{quote(path) if quoted else path}")
    np.testing.assert_array_equal(FrameFiles([str(tmp_path)]).images(FileRows(source, 0, 1)), frame)


def test_a_uri_read_the_other_way_leads_out_of_no_folder(tmp_path: Path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.h5").write_bytes(b"")
    source = announced(f"file://localhost{inside}/%2e%2e/secret.h5")
    with pytest.raises(InputError, match=r"outside|not there"):
        FrameFiles([str(inside)]).images(FileRows(source, 0, 1))


@pytest.mark.parametrize(
    "path",
    ["D:\\data\\x.h5", "d:\\data\\x.h5", "D:/data/x.h5", "/D:/data/x.h5", "/d:\\data/x.h5", "D:\\data/./x.h5"],
)
def test_a_drive_of_windows_is_found_where_it_is_mounted_here(tmp_path: Path, path):
    assert FrameFiles([str(tmp_path)], {"D:\\data": str(tmp_path)}).allowed(path) == tmp_path / "x.h5"
    with pytest.raises(InputError, match=r"on another machine.*documents\.path_map"):
        FrameFiles([str(tmp_path)]).allowed(path)


def test_a_mapped_folder_is_no_beginning_of_another_ones_name(tmp_path: Path):
    files = FrameFiles([str(tmp_path)], {"/data": str(tmp_path)})
    assert files.allowed("/data/x.h5") == tmp_path / "x.h5"
    with pytest.raises(InputError, match="outside"):
        files.allowed("/database/x.h5")


def test_a_share_of_another_host_can_be_mapped_and_is_else_told_of(tmp_path: Path):
    files = FrameFiles([str(tmp_path)], {"//server/share": str(tmp_path)})
    for source in (announced("file://server/share/x.h5").path, "\\\\server\\share\\x.h5"):
        assert files.allowed(source) == tmp_path / "x.h5"
        with pytest.raises(InputError, match="another machine"):
            FrameFiles(["/"]).allowed(source)


def test_other_schemes_are_refused():
    with pytest.raises(DocumentError, match="only files"):
        announced("http://localhost/x.h5")


IMAGES = np.arange(10 * 4 * 5, dtype=np.uint16).reshape(10, 4, 5)


def test_one_hdf5_file_an_image_as_areadetector_names_them(tmp_path: Path):
    for number, image in enumerate(IMAGES):
        with h5py.File(tmp_path / f"img_{number:06d}.h5", "w") as file:
            file["entry/data/data"] = image[None] if number % 2 else image
    keywords = {"template": "%s%s_%6.6d.h5", "filename": "img", "frame_per_point": 2}
    resource = {"spec": "AD_HDF5_SINGLE", "root": "/", "resource_path": str(tmp_path)[1:], "resource_kwargs": keywords}
    rows = rows_of_datum(source_of(resource), {"datum_kwargs": {"point_number": 3}}, 4, 1)
    with h5py.File(tmp_path / "img_000006.h5", "r+") as file:  # areaDetector writes (1, row, column)
        del file["entry/data/data"]
        file["entry/data/data"] = IMAGES[6][None]
    np.testing.assert_array_equal(FrameFiles([str(tmp_path)]).images(rows), IMAGES[6:8])


@pytest.mark.parametrize(("first", "stop"), [(0, 10), (0, 1), (3, 8), (9, 10)])
def test_several_pages_a_file_are_counted_on(tmp_path: Path, first, stop):
    for number in range(4):
        tifffile.imwrite(
            tmp_path / f"p_{number:06d}.tif", IMAGES[3 * number : 3 * number + 3], photometric="minisblack"
        )
    parameters = {"chunk_shape": [3, 4, 5], "template": "p_{:06d}.tif"}
    source = source_of(
        {"mimetype": "multipart/related;type=image/tiff", "uri": f"{tmp_path}/", "parameters": parameters}
    )
    images = FrameFiles([str(tmp_path)]).images(FileRows(source, first, stop))
    np.testing.assert_array_equal(images, IMAGES[first:stop])

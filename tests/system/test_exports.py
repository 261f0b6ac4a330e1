"""Exports and the report of a real finished tomogram: by the command line, by the page's addresses, by a browser."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import threading
import zipfile
from pathlib import Path

import h5py
import httpx
import numpy as np
import pytest
import tifffile
import zarr
from tiled.client import from_uri

pytestmark = pytest.mark.slow

SHAPE = (12, 32, 32)
NM = 20.0


@pytest.fixture(scope="module")
def final(service, documents):
    """A tomogram that is final, with a pixel size; its key."""
    run = documents(sample="particle", pixel_size_nm=NM)
    service.publish(*run.whole())
    service.ended(run.key)
    return run.key


@pytest.fixture(scope="module")
def volume(service, final):
    return service.reader(final).volume()


def check(document, final):
    assert document["tomogram"] == final.id
    assert document["run_uids"] == [final.id]
    assert document["is_final"]
    assert document["voxel_size_nm"] == NM
    assert document["parameters"]["heldout_every"] > 0
    assert document["quality"]["heldout_error"] > 0
    assert document["software"].startswith("pfitre-service ")


def check_nexus(content, final, volume):
    with h5py.File(content) as file:
        data = file["entry/data"]
        np.testing.assert_array_equal(data["data"], volume)
        assert data["physics"].shape == data["expected_error"].shape == volume.shape == SHAPE
        assert data["x"].attrs["units"] == "nm"
        assert data["x"][1] - data["x"][0] == NM
        check(json.loads(file["entry/reconstruction/provenance/data"][()]), final)


def check_tiff(content, final, volume):
    with tifffile.TiffFile(content) as file:
        np.testing.assert_array_equal(file.asarray(), volume)
        assert file.imagej_metadata["spacing"] == NM / 1000
        check(json.loads(file.imagej_metadata["Info"]), final)


def check_zarr(group, final, volume):
    np.testing.assert_array_equal(group["0"][0], volume)
    image = group.attrs["ome"]["multiscales"][0]
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"] == [1, NM, NM, NM]
    check(group.attrs["pfitre"], final)


def test_the_command_line_exports_every_format(pfitre, service, final, volume, tmp_path):
    for name in ("a.h5", "a.tif", "a.ome.zarr"):
        result = pfitre("export", final.id[:13], "--to", str(tmp_path / name), "--server", service.url, "--json")
        assert result.returncode == 0, result.stderr
        summary = json.loads(result.stdout)
        assert (summary["tomogram"], summary["shape"], summary["warnings"]) == (final.id, list(SHAPE), [])
    check_nexus(tmp_path / "a.h5", final, volume)
    check_tiff(tmp_path / "a.tif", final, volume)
    check_zarr(zarr.open_group(tmp_path / "a.ome.zarr", mode="r"), final, volume)
    again = pfitre("export", final.id, "--to", str(tmp_path / "a.h5"), "--server", service.url)
    assert again.returncode == 1
    assert "--overwrite" in again.stderr
    assert "Traceback" not in again.stderr


def test_a_name_that_is_no_tomogram_gets_the_nearest(pfitre, service, final, tmp_path):
    wrong = ("f" if final.id[0] != "f" else "e") + final.id[1:8]
    result = pfitre("export", wrong, "--to", str(tmp_path / "a.h5"), "--server", service.url)
    assert result.returncode == 1
    assert final.id in result.stderr
    assert not (tmp_path / "a.h5").exists()


def test_a_server_that_is_not_there_is_named_soon(pfitre, tmp_path):
    result = pfitre("report", "newest", "--to", str(tmp_path / "a.html"), "--server", "http://127.0.0.1:9")
    assert result.returncode == 1
    assert "no Tiled server became ready at http://127.0.0.1:9 within 3 s" in result.stderr


def test_a_running_scan_is_exported_with_a_warning(pfitre, service, documents, until, tmp_path):
    run = documents(sample="half")
    service.publish(*run.whole()[:14])
    until(lambda: service.revision(run.key), "a first volume")
    result = pfitre("export", run.key.id, "--to", str(tmp_path / "a.h5"), "--server", service.url)
    service.publish(run.stop(12))
    service.ended(run.key)
    assert result.returncode == 0, result.stderr
    assert "not final" in result.stderr
    with h5py.File(tmp_path / "a.h5") as file:
        document = json.loads(file["entry/reconstruction/provenance/data"][()])
    assert not document["is_final"]
    assert "not final" in document["warnings"][0]


def test_the_pages_addresses_give_the_same_files_and_leave_nothing(service, final, volume):
    def leftovers():
        return set(Path(tempfile.gettempdir()).glob("pfitre-export-*"))

    before = leftovers()
    address = f"{service.url}/view/export/{final}"
    nexus, tiff, packed = (httpx.get(address + end, timeout=60) for end in (".h5", ".tif", ".ome.zarr.zip"))
    assert nexus.headers["Content-Disposition"] == f'attachment; filename="particle-{final.id[:8]}.h5"'
    check_nexus(io.BytesIO(nexus.content), final, volume)
    check_tiff(io.BytesIO(tiff.content), final, volume)
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(io.BytesIO(packed.content)).extractall(folder)
        check_zarr(zarr.open_group(folder, mode="r"), final, volume)
    physics = httpx.get(f"{address}.tif?array=physics", timeout=60)
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(physics.content)), service.reader(final).physics())
    assert httpx.get(f"{service.url}/view/export/nothing.h5").status_code == 404
    assert httpx.get(f"{address}.png").status_code == 404
    assert leftovers() == before


def test_exports_by_many_at_once_are_put_off_and_the_service_goes_on(service, final):
    answers = []
    address = f"{service.url}/view/report/{final}"
    threads = [
        threading.Thread(target=lambda: answers.append(httpx.get(address, timeout=60).status_code)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(set(answers)) == [200, 503]
    assert httpx.get(address, timeout=60).status_code == 200


def test_what_may_not_be_read_may_not_be_downloaded_and_the_pages_links_carry_its_key(
    start_service, tmp_path, documents, browser
):
    with start_service(tmp_path, {"tiled": {"anonymous_read": False}}) as service:
        run = documents()
        service.publish(*run.whole())
        service.ended(run.key)
        key = (service.settings.data_dir / "api_key").read_text().strip()
        for address in (f"/view/export/{run.key}.tif", f"/view/report/{run.key}"):
            assert httpx.get(service.url + address).status_code == 401
            assert httpx.get(service.url + address, headers={"Authorization": "Apikey no"}).status_code == 401
            answer = httpx.get(service.url + address, headers={"Authorization": f"Apikey {key}"}, timeout=60)
            assert answer.status_code == 200
        with contextlib.closing(browser.new_context()) as context:
            page = context.new_page()
            page.goto(f"{service.url}/view/#t={run.key}")
            page.get_by_label("Key", exact=True).fill(key)
            page.get_by_role("button", name="Open").click()
            with page.expect_download() as download:
                page.get_by_role("link", name="TIFF").click()
            assert tifffile.imread(Path(download.value.path())).shape == SHAPE
            with context.expect_page() as opened:
                page.get_by_role("link", name="Report").click()
            opened.value.get_by_text("How far it may be believed").wait_for()


def test_a_browser_follows_the_links_by_keyboard_and_the_report_asks_for_nothing(service, final, browser):
    context = browser.new_context(viewport={"width": 1500, "height": 900})
    page = context.new_page()
    page.goto(f"{service.url}/view/#t={final}")
    links = page.get_by_role("group", name="Report and downloads").get_by_role("link")
    links.first.wait_for()
    assert links.all_inner_texts() == ["Report", "HDF5", "OME-Zarr", "TIFF"]
    with page.expect_download() as download:
        page.get_by_role("link", name="TIFF").press("Enter")
    assert tifffile.imread(Path(download.value.path())).shape == SHAPE
    assert download.value.suggested_filename == f"particle-{final.id[:8]}.tif"
    requests, complaints = [], []
    context.on("request", lambda request: requests.append(request.url))
    context.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    with context.expect_page() as opened:
        page.get_by_role("link", name="Report").press("Enter")
    report = opened.value
    report.wait_for_load_state()
    assert report.locator("h1").inner_text() == "particle"
    assert report.evaluate("() => [...document.images].every((image) => image.naturalWidth > 0)")
    own = [url for url in requests if not url.startswith("data:") and "/api/v1/" not in url]
    assert own == [f"{service.url}/view/report/{final}"]
    assert complaints == []
    context.close()


def test_a_plain_tiled_client_exports_the_same_files(service, final, volume, tmp_path):
    client = from_uri(service.url)
    for name in ("a.h5", "a.tif", "a.zip"):
        client["tomograms"][final.id].export(str(tmp_path / name))
    client.context.close()
    check_nexus(tmp_path / "a.h5", final, volume)
    check_tiff(tmp_path / "a.tif", final, volume)
    check_zarr(zarr.open_group(zarr.storage.ZipStore(tmp_path / "a.zip", mode="r"), mode="r"), final, volume)
    path = f"{service.url}/api/v1/container/full"
    assert httpx.get(f"{path}/tomograms?format=zip").status_code == 406

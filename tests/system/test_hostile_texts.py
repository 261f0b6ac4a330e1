"""A run may be called anything: no name or reason steers a terminal, forges a line, ends a command or draws a page."""

from __future__ import annotations

import json

import h5py
import httpx
import pytest
import tifffile
import zarr

pytestmark = pytest.mark.slow

MARKUP = "[/nosuch] [bold] $\\frac{ <img src=x onerror=alert(1)>"
STEERING = "\x1b]52;c;cm0gLXJm\x07\x9b2J\r\x08\u202egnp\u200b\ud800\0"
NAME = f"{MARKUP} {STEERING}\n2026-11-30 ERROR forged 試料"
REASON = f"motor [/x] tripped {STEERING}\n{'x' * 2000}"


@pytest.fixture(scope="module")
def ended(service, documents):
    """A tomogram of a run that failed for such a reason; its key."""
    run = documents(sample=NAME, plan_name=NAME, purpose={NAME: [NAME]})
    start, descriptor, *events, _ = run.whole(12)
    service.publish(start, descriptor, *events, run.stop(12, exit_status="fail", reason=REASON))
    service.ended(run.key)
    return run.key


def harmless(text: str) -> bool:
    return all(sign.isprintable() or sign in "\n\xa0" for sign in text)


def check(result, code: int = 0) -> None:
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert harmless(result.stdout)
    assert harmless(result.stderr)
    assert not any(line.startswith("2026-11-30 ERROR") for line in (result.stdout + result.stderr).splitlines())


def test_status_shows_it(pfitre, service, ended, arguments_for):
    arguments = arguments_for(service.settings)
    for more in ([], ["--process", "worker"], ["--process", "ingest"]):
        check(pfitre("status", *more, *arguments))
        as_json = pfitre("status", *more, *arguments, "--json")
        check(as_json)
        assert json.loads(as_json.stdout)["ready"]
    # as a terminal that knows no UTF-8
    check(pfitre("status", "--process", "worker", *arguments, PYTHONIOENCODING="ascii"))


def test_the_catalogue_keeps_it_as_text_and_lists_everything_beside_it(service, ended):
    answer = httpx.get(f"{service.url}/api/v1/search/tomograms", timeout=10).raise_for_status().json()
    metadata = {node["id"]: node["attributes"]["metadata"] for node in answer["data"]}[ended.id]
    assert metadata["sample"].startswith(MARKUP)
    assert "試料" in metadata["sample"]
    assert len(metadata["reason"]) < 1500
    assert "motor [/x] tripped" in metadata["reason"]


def test_every_export_and_the_report_carry_it(pfitre, service, ended, tmp_path):
    for name in ("a.h5", "a.tif", "a.ome.zarr"):
        result = pfitre("export", ended.id, "--to", str(tmp_path / name), "--server", service.url)
        check(result)
        assert "[/nosuch]" in result.stderr
    with h5py.File(tmp_path / "a.h5") as file:
        assert MARKUP in file["entry/title"][()].decode()
        assert MARKUP in file["entry/sample/name"][()].decode()
        assert MARKUP in json.loads(file["entry/reconstruction/provenance/data"][()])["sample"]
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert MARKUP in json.loads(file.imagej_metadata["Info"])["sample"]
    assert MARKUP in zarr.open_group(tmp_path / "a.ome.zarr", mode="r").attrs["ome"]["omero"]["name"]
    check(pfitre("report", ended.id, "--to", str(tmp_path / "a.html"), "--server", service.url))
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
    assert harmless(page)
    for address in (f"view/export/{ended}.h5", f"view/report/{ended}"):
        answer = httpx.get(f"{service.url}/{address}", timeout=60).raise_for_status()
        assert answer.headers.get("Content-Disposition", "").isascii()


def test_an_unknown_name_is_quoted_and_the_nearest_listed(pfitre, service, ended, tmp_path):
    result = pfitre("report", "[/nosuch]\x1b[2J", "--to", str(tmp_path / "b.html"), "--server", service.url)
    check(result, code=1)
    assert "no tomogram has the uid, scan id or sample" in result.stderr


def test_the_page_shows_it_as_text(service, ended, browser):
    page = browser.new_context().new_page()
    said = []
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(f"{service.url}/view/#t={ended}")
    name = page.locator(f"#list button[data-id='{ended}'] strong")
    name.wait_for()
    assert MARKUP in name.inner_text()
    assert "\\u{202e}" in name.inner_text()
    assert page.locator("img[src=x]").count() == 0
    assert said == []
    page.context.close()


def test_doctor_and_replay_read_it_from_a_file(pfitre, documents, tmp_path):
    run = documents(sample=NAME, plan_name=NAME)
    start, descriptor, *events, _ = run.whole(6)
    for _, event in events:
        event["data"]["camera"] = event["data"]["camera"].tolist()
    lines = [start, descriptor, *events, run.stop(6, exit_status="fail", reason=REASON)]
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps({"name": name, "doc": document}) + "\n" for name, document in lines))
    with path.open("a") as file:
        file.write(json.dumps({"name": NAME, "doc": {}}) + "\n")
    for more in ([], ["--json"]):
        result = pfitre("doctor", "--run", str(path), "--set=documents.rotation=theta", *more)
        check(result, code=result.returncode)
        assert result.returncode in (0, 1)
        assert not more or json.loads(result.stdout)["lines"]
    replayed = ["replay", str(path), "--speed", "max", "--embedded", str(tmp_path / "data")]
    check(pfitre(*replayed, "--set=documents.rotation=theta", timeout_s=150))

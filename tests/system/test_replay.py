"""`pfitre replay`: what was stored gives, through a running service, the volume that the live scan gave."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from bluesky_tiled_plugins import TiledWriter
from tiled.client import from_uri

from pfitre_service.catalog_access import api_key
from pfitre_service.model import TomogramKey
from pfitre_service.service.live_tomography import live_tomography
from pfitre_service.testing.forms import FORMS
from pfitre_service.testing.recorder import record_to
from pfitre_service.twin.beamlines.exposures import Exposures, expose

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exposures() -> Exposures:
    return expose(angles=16)


@pytest.fixture(scope="module")
def inline(service, module_engine, exposures, tmp_path_factory) -> dict[str, Any]:
    """The live scan: its uid and volume, with its documents kept in a file and in Tiled."""
    folder = tmp_path_factory.mktemp("recorded")
    client = from_uri(service.url, api_key=api_key(service.settings))
    archive = client.create_container("raw")
    tokens = [
        module_engine.subscribe(record_to(folder / "run.jsonl")),
        module_engine.subscribe(TiledWriter(archive)),
    ]
    with live_tomography(settings=service.settings) as live:
        tokens.append(module_engine.subscribe(live))
        (uid,) = module_engine(FORMS["inline"].plan(exposures, folder))
    for token in tokens:
        module_engine.unsubscribe(token)
    client.context.close()
    service.ended(TomogramKey(uid))
    return {"uid": uid, "volume": service.reader(TomogramKey(uid)).volume(), "file": folder / "run.jsonl"}


@pytest.fixture
def replay(service, pfitre, arguments_for) -> Callable[..., dict[str, Any]]:
    """`pfitre replay ARGUMENTS` into the running service; its summary."""

    def run(*arguments: str) -> dict[str, Any]:
        folder = f"--set=data_dir={service.settings.data_dir.absolute()}"
        done = pfitre("replay", *arguments, "--json", folder, *arguments_for(service.settings), timeout_s=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def nxtomo(exposures, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("nxtomo") / "scan.nxs"
    stacks = [(2, exposures.darks), (1, exposures.flats), (0, exposures.projections)]
    with h5py.File(path, "w") as file:
        for name, nx_class in [("e", "NXentry"), ("e/i", "NXinstrument"), ("e/i/d", "NXdetector"), ("e/s", "NXsample")]:
            file.create_group(name).attrs["NX_class"] = nx_class
        file["e/definition"] = "NXtomo"
        file["e/i/d/data"] = np.concatenate([stack for _, stack in stacks])
        file["e/i/d/image_key"] = np.concatenate([[key] * len(stack) for key, stack in stacks])
        before = len(exposures.darks) + len(exposures.flats)
        file["e/s/rotation_angle"] = np.concatenate([np.zeros(before), exposures.angles])
    return path


@pytest.fixture(scope="module")
def tiff(exposures, tmp_path_factory) -> tuple[str, ...]:
    """Images with a table of angles, and flats and darks in files of other forms, as arguments."""
    folder = tmp_path_factory.mktemp("tiff")
    tifffile.imwrite(folder / "counts.tif", exposures.projections, photometric="minisblack")
    (folder / "counts.csv").write_text("\n".join(map(str, exposures.angles)))
    np.save(folder / "flats.npy", exposures.flats)
    with h5py.File(folder / "darks.h5", "w") as file:
        file["entry/data"] = exposures.darks
    files = (str(folder / "counts.tif"), f"--flats={folder}/flats.npy", f"--darks={folder}/darks.h5:/entry/data")
    return (*files, "--measurement=transmission", f"--axis={exposures.axis}")


@pytest.fixture
def profile(service, tmp_path, monkeypatch) -> str:
    """Name of the catalogue among those that Tiled and databroker know on this machine."""
    content = f"beamline:\n  uri: {service.url}/api/v1/metadata/raw\n"
    (tmp_path / "profiles.yml").write_text(content)
    monkeypatch.setenv("TILED_PROFILES", str(tmp_path))
    return "profile:beamline"


@pytest.mark.parametrize("kind", ["documents", "nxtomo", "tiff", "tiled", "profile"])
def test_a_stored_scan_gives_the_volume_of_the_live_one(
    replay, service, inline, nxtomo, tiff, exposures, profile, kind
):
    arguments = {
        "tiff": tiff,
        "documents": (str(inline["file"]),),
        "nxtomo": (str(nxtomo), f"--axis={exposures.axis}"),
        "tiled": (f"{service.url}/api/v1/metadata/raw", "--run", inline["uid"][:8]),
        "profile": (profile, "--run", inline["uid"]),
    }
    summary = replay(*arguments[kind], "--wait")
    (tomogram,) = summary["tomograms"]
    assert (tomogram["status"], tomogram["frames_used"]) == ("final", 16), summary
    assert tomogram["frames"] == {"projection": 16, "flat": len(exposures.flats), "dark": len(exposures.darks)}
    assert summary["documents_sent"] == {"start": 1, "descriptor": 3, "event": 26, "stop": 1}
    assert summary["runs"] != [inline["uid"]]
    volume = service.reader(TomogramKey(tomogram["tomogram"])).volume()
    assert np.linalg.norm(volume - inline["volume"]) < 1e-4 * np.linalg.norm(inline["volume"])


def test_a_run_without_its_end_is_ended_and_bad_lines_are_told_of(replay, inline, tmp_path):
    lines = inline["file"].read_text().splitlines()
    (tmp_path / "cut.jsonl").write_text("\n".join([*lines[:-4], lines[-4][:100]]))
    summary = replay(str(tmp_path / "cut.jsonl"))
    (tomogram,) = summary["tomograms"]
    assert (tomogram["acquisition"], tomogram["frames"]["projection"]) == ("aborted", 13)
    assert "without a stop document" in tomogram["reason"]
    assert summary["left_out"][0].startswith(f"line {len(lines) - 3}:")


def test_thousands_of_documents_come_through_without_loss(replay, documents, tmp_path):
    run = documents()
    image = np.zeros((64, 64), "u2")
    with (tmp_path / "many.jsonl").open("w") as file:
        for name, document in (run.start(), run.descriptor()):
            file.write(json.dumps([name, document]) + "\n")
        for number in range(1, 2001):
            name, event = run.event(1, image)
            event |= {"seq_num": number, "uid": f"e-{number}", "data": {"camera": image.tolist(), "theta": number / 20}}
            file.write(json.dumps([name, event]) + "\n")
        file.write(json.dumps(run.stop(2000)) + "\n")
    summary = replay(str(tmp_path / "many.jsonl"))
    (tomogram,) = summary["tomograms"]
    assert (tomogram["acquisition"], tomogram["frames"]["projection"]) == ("complete", 2000)


def test_ctrl_c_ends_the_run_as_aborted(service, start_pfitre, arguments_for, inline, until, tmp_path):
    lines = [json.loads(line) for line in inline["file"].read_text().splitlines()]
    lines[-2]["doc"]["time"] += 3600  # the last event is waited for
    (tmp_path / "slow.jsonl").write_text("\n".join(map(json.dumps, lines)))
    settings = [f"--set=data_dir={service.settings.data_dir.absolute()}", *arguments_for(service.settings)]
    command = start_pfitre("replay", str(tmp_path / "slow.jsonl"), "--speed", "1", *settings)
    (run,) = until(
        lambda: [one for one in service.ingest()["open_runs"] if one["projections"] == 15], "all but the last event"
    )
    command.process.send_signal(signal.SIGINT)
    command.process.wait(20)
    (ended,) = until(
        lambda: [one for one in service.ingest()["recent_runs"] if one["uid"] == run["uid"]], "the end of the run"
    )
    assert ended["state"] == "aborted"
    assert "interrupted" in ended["reason"]

"""The simulated beamline's profile: a person starts IPython with it and scans."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zmq

from pfitre_service.ingest.rules import DocumentRules
from pfitre_service.twin.plans import tomo_scan
from pfitre_service.twin.scans import build_scan

PROFILE = Path(__file__).parents[2] / "profiles" / "sim"

FIVE_POINTS = """
import json
documents = []
def keep(name, document):
    documents.append((name, document))
RE.subscribe(keep)
detector.exposure_s.put(0.01)
RE(tomo_scan(detector, rotation, wedge_angles(missing=96, step=21), flats=2, darks=1, sample="chip"))
print("RESULT", json.dumps({
    "names": [name for name, _ in documents],
    "streams": [d["name"] for name, d in documents if name == "descriptor"],
    "angles": [d["data"]["rotation"] for name, d in documents if name == "event" and "rotation" in d["data"]],
    "keys": sorted({key for name, d in documents if name == "event" for key in d["data"]}),
    "measurement": documents[0][1]["measurement"],
    "exit_status": documents[-1][1]["exit_status"],
    "recorded": len(cu23.angles),
}))
"""


def rules() -> DocumentRules:
    with (PROFILE / "profile.toml").open("rb") as file:
        content = tomllib.load(file)
    assert list(content) == ["documents"]
    documents = {key: tuple(v) if isinstance(v, list) else v for key, v in content["documents"].items()}
    return DocumentRules(**documents)


def ipython(folder: Path, code: str, publish: str) -> subprocess.CompletedProcess[str]:
    """One IPython session with a copy of the profile (IPython writes into its profile's folder)."""
    profile = shutil.copytree(PROFILE, folder / "sim")
    environment = {**os.environ, "IPYTHONDIR": str(folder / "ipython"), "SIM_PUBLISH": publish, "MPLBACKEND": "Agg"}
    command = [
        sys.executable,
        "-m",
        "IPython",
        f"--profile-dir={profile}",
        "--no-banner",
        "--colors=NoColor",
        "-c",
        code,
    ]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )


def result_of(session: subprocess.CompletedProcess[str]) -> dict[str, object]:
    lines = [line for line in session.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, session.stdout + session.stderr
    found: dict[str, object] = json.loads(lines[0].removeprefix("RESULT "))
    return found


def test_the_profile_names_what_the_simulated_devices_emit():
    scan = build_scan("chip")
    assert rules().rotation in scan.stage.describe()
    assert rules().image in scan.detector.describe()
    (start,) = [m for m in list(tomo_scan(scan.detector, scan.stage, [0.0])) if m.command == "open_run"]
    assert start.kwargs["measurement"] == "transmission"
    assert rules().measurement == "auto"
    assert [rules().role_of(stream) for stream in ("dark", "flat", "primary")] == ["dark", "flat", "projection"]


@pytest.mark.slow
def test_a_person_starts_ipython_and_scans_five_angles(tmp_path: Path):
    result = result_of(ipython(tmp_path, FIVE_POINTS, publish="none"))
    assert result == {
        "names": ["start", "descriptor", "event", "descriptor", "event", "event", "descriptor", *["event"] * 5, "stop"],
        "streams": ["dark", "flat", "primary"],
        "angles": [-42.0, -21.0, 0.0, 21.0, 42.0],
        "keys": ["detector_image", "rotation", "rotation_setpoint"],
        "measurement": "transmission",
        "exit_status": "success",
        "recorded": 51,
    }


@pytest.mark.slow
def test_without_a_proxy_the_session_says_so_and_still_scans(tmp_path: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"  # bound, but nobody listens
        session = ipython(tmp_path, FIVE_POINTS, publish=address)
    assert result_of(session)["exit_status"] == "success"
    assert f"No 0MQ proxy answers at {address}" in session.stderr


@pytest.mark.slow
def test_documents_arrive_where_a_proxy_listens(tmp_path: Path):
    context = zmq.Context()
    proxy = context.socket(zmq.SUB)  # as the publishers' side of a proxy
    names = []
    try:
        port = proxy.bind_to_random_port("tcp://127.0.0.1")
        proxy.subscribe(b"")
        with ThreadPoolExecutor(1) as pool:
            session = pool.submit(ipython, tmp_path, FIVE_POINTS, publish=f"127.0.0.1:{port}")
            # Polled all the while: only then does the socket tell a new publisher what it wants.
            while proxy.poll(1000) or not session.done():
                if proxy.poll(0):
                    _prefix, name, _payload = proxy.recv().split(b" ", 2)
                    names.append(name.decode())
    finally:
        proxy.close(linger=0)
        context.destroy(linger=0)
    assert result_of(session.result())["exit_status"] == "success"
    assert "No 0MQ proxy" not in session.result().stderr
    assert (names[0], names[-1]) == ("start", "stop")
    assert names.count("event") == 8

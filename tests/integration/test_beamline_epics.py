"""A beamline behind EPICS: an IOC in a process of its own, driven by ophyd over Channel Access on loopback."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import event_model
import h5py
import numpy as np
import pytest

from pfitre_service.errors import InputError, ServiceError
from pfitre_service.twin.beamlines.epics import EpicsBeamline, epics_beamline
from pfitre_service.twin.beamlines.epics_process import running_ioc
from pfitre_service.twin.beamlines.exposures import Exposures, PlayedExposures, expose
from pfitre_service.twin.plans import tomo_scan

ANGLES = 9


def until(condition: Any, what: str, timeout_s: float = 30.0) -> None:
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, f"{what} did not happen within {timeout_s:g} s"
        time.sleep(0.02)


def small_exposures() -> Exposures:
    return expose(angles=ANGLES, flats=3, darks=2)


def broken_source() -> PlayedExposures:
    """Called in the IOC's process."""
    raise InputError("the phantom is lost")


SOURCE = partial(PlayedExposures, small_exposures())


@pytest.fixture(scope="module")
def exposures() -> Exposures:
    return small_exposures()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("epics")


@pytest.fixture(scope="module")
def beamline(exposures: Exposures, folder: Path) -> Iterator[EpicsBeamline]:
    with epics_beamline(SOURCE, folder, exposure_s=0.01, rotation_axis=exposures.axis) as beamline:
        yield beamline


def scan(beamline: EpicsBeamline, exposures: Exposures) -> Any:
    flats, darks = len(exposures.flats), len(exposures.darks)
    angles = exposures.angles.tolist()
    return tomo_scan(beamline.detector, beamline.rotation, angles, flats=flats, darks=darks, sample="chip")


def test_a_scan_writes_every_exposure_and_announces_it_in_valid_documents(RE, beamline, exposures):
    documents: list[tuple[str, dict[str, Any]]] = []

    def keep(name: str, document: dict[str, Any]) -> None:
        event_model.schema_validators[event_model.DocumentNames[name]].validate(document)
        documents.append((name, document))

    RE(scan(beamline, exposures), keep)
    (resource,) = [d for name, d in documents if name == "resource"]
    events = [d for name, d in documents if name == "event"]
    assert resource["spec"] == "AD_HDF5"
    with h5py.File(Path(resource["root"]) / resource["resource_path"], "r") as file:
        frames = file["/entry/data/data"][()]
    np.testing.assert_array_equal(frames, np.concatenate([exposures.darks, exposures.flats, exposures.projections]))
    angles = [event["data"]["rotation"] for event in events if "rotation" in event["data"]]
    np.testing.assert_allclose(angles, exposures.angles, atol=1e-6)
    points = [d["datum_kwargs"]["point_number"] for name, d in documents if name == "datum"]
    assert points == list(range(len(frames)))
    np.testing.assert_array_equal(beamline.detector.image.get(), exposures.projections[-1].ravel())
    assert documents[-1][1]["exit_status"] == "success"


def test_the_stage_takes_its_time(beamline):
    beamline.rotation.set(0).wait(30)
    began = time.monotonic()
    beamline.rotation.set(15).wait(30)
    assert time.monotonic() - began > 0.4  # 30 degrees a second
    assert beamline.rotation.position == 15


def test_an_exposure_that_fails_says_why(beamline):
    beamline.rotation.set(1.234).wait(30)
    with pytest.raises(InputError, match=r"no exposure was taken at 1\.234 degrees"):
        beamline.detector.trigger().wait(30)


def test_an_exposure_can_be_given_up(beamline, exposures):
    detector = beamline.detector
    beamline.rotation.set(float(exposures.angles[0])).wait(30)
    detector.acquire_time.put(60.0)
    status = detector.trigger()
    until(lambda: detector.state.get() == "Acquire", "the exposure's start")
    detector.stop()
    with pytest.raises(InputError, match="took no frame: Aborted"):
        status.wait(30)
    detector.acquire_time.put(0.01)
    detector.files.stage()
    detector.trigger().wait(30)
    detector.files.unstage()


def test_a_folder_that_cannot_be_written_stops_the_scan_before_it_starts(RE, beamline, exposures, folder):
    (folder / "file").touch()
    beamline.detector.files.save_in(folder / "file" / "below")
    with pytest.raises(InputError, match="cannot be written"):
        RE(scan(beamline, exposures))
    beamline.detector.files.save_in(folder)
    assert RE.state == "idle"


def test_everything_stays_on_the_loopback_interface(beamline):
    hosts = set(local_hosts(beamline.ioc.process.pid))
    assert hosts == {"0100007F"}  # 127.0.0.1
    assert os.environ["EPICS_CA_ADDR_LIST"] == beamline.ioc.address
    assert os.environ["EPICS_CA_AUTO_ADDR_LIST"] == "NO"


def local_hosts(pid: int) -> Iterator[str]:
    """Addresses, in hexadecimal, that the process's UDP and TCP sockets are bound to."""
    links = [path.readlink() for path in Path(f"/proc/{pid}/fd").iterdir()]
    inodes = {str(link)[8:-1] for link in links if str(link).startswith("socket:")}
    for table in ("udp", "tcp"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes:
                yield fields[1].partition(":")[0]


def test_a_scan_whose_ioc_dies_fails_and_leaves_the_engine_idle(RE, exposures, tmp_path):
    stops: list[dict[str, Any]] = []
    RE.subscribe(lambda name, document: stops.append(document), "stop")

    def kill(name: str, document: dict[str, Any]) -> None:
        if "rotation" in document["data"] and document["seq_num"] == 4:
            beamline.ioc.process.kill()
            beamline.ioc.process.join()

    RE.subscribe(kill, "event")
    with (
        pytest.raises(ServiceError, match="ended with exit code -9 while it was in use"),
        epics_beamline(SOURCE, tmp_path, exposure_s=0.01) as beamline,
    ):
        RE(scan(beamline, exposures))
    assert RE.state == "idle"
    assert [stop["exit_status"] for stop in stops] == ["fail"]
    assert stops[0]["num_events"]["primary"] == 4


def test_an_ioc_dies_with_its_owner_however_that_ends():
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_beamline_epics import SOURCE, running_ioc\n"
        "if __name__ == '__main__':\n"
        "    with running_ioc(SOURCE, 'orphan:') as ioc:\n"
        "        print(ioc.process.pid, flush=True)\n"
        "        sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        pid = int(owner.stdout.readline())
        assert runs(pid)
        owner.send_signal(signal.SIGKILL)
        until(lambda: not runs(pid), "the IOC's end")


def runs(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def test_an_ioc_that_is_left_is_gone():
    with running_ioc(SOURCE, "left:") as ioc:
        assert ioc.process.is_alive()
    assert ioc.process.exitcode == 0


@pytest.mark.parametrize(
    ("make_source", "reason"),
    [
        (broken_source, "did not start: InputError: the phantom is lost"),
        (partial(os._exit, 7), "ended with exit code 7 before it was ready"),
    ],
)
def test_an_ioc_that_cannot_start_says_why(make_source, reason):
    with pytest.raises(ServiceError, match=reason), running_ioc(make_source, "broken:"):
        pass


def test_without_caproto_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ServiceError, match=r"pip install 'pfitre-service\[epics\]'"), running_ioc(SOURCE, "none:"):
        pass

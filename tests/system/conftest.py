"""The whole service on free ports and small scans: twelve detector rows, so that a tomogram is final within seconds."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky.callbacks.zmq import Publisher
from numpy.typing import NDArray
from playwright.sync_api import sync_playwright

from pfitre_service.catalog_access import catalog_url, connect_catalog
from pfitre_service.config import Settings
from pfitre_service.errors import ServiceError, StoreMissingError, StoreUnavailableError
from pfitre_service.model import TomogramKey
from pfitre_service.service.embedded import demo_settings
from pfitre_service.service.serve import make_supervisor
from pfitre_service.store.catalog import Catalog, TomogramSummary
from pfitre_service.store.reader import TomogramReader
from pfitre_service.supervision.health import HealthReport, fetch_health
from pfitre_service.twin.detector import Camera, CameraParameters, FluorescenceDetector
from pfitre_service.twin.devices import RotationStage, TomoDetector
from pfitre_service.twin.image_sources import SimulatedScan
from pfitre_service.twin.particle import battery_particle
from pfitre_service.twin.plans import tomo_scan, wedge_angles
from pfitre_service.twin.project import FineVolume, bin_volume

IMAGES = Path(__file__).parents[2] / "docs" / "images"
ROWS, COLUMNS = 12, 32
ANGLES = wedge_angles(missing=80.0, step=4.0)
QUICK = {"worker": {"publish_interval_s": 0.1, "poll_interval_s": 0.05}}


def until(condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
    """The condition's first true value."""
    ends_at = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < ends_at, f"{what} did not happen within {timeout_s:g} s"
        time.sleep(0.02)
    return value


@dataclass
class SmallScan:
    """A particle on a stage: the same frames each time it is made."""

    source: SimulatedScan
    detector: TomoDetector
    stage: RotationStage
    truth: NDArray[np.float32]
    """(z, y, x)."""

    @classmethod
    def make(cls, *, fluorescence: bool = True, exposure_s: float = 0.01) -> SmallScan:
        volume = battery_particle((2 * ROWS, 2 * COLUMNS, 2 * COLUMNS)) * np.float32(0.05)
        sample = FineVolume.from_volume(volume, oversampling=2)
        camera = FluorescenceDetector() if fluorescence else Camera((ROWS, COLUMNS), CameraParameters())
        source, stage = SimulatedScan(sample, camera), RotationStage(name="rotation")
        detector = TomoDetector(name="detector", source=source, stage=stage, exposure_s=exposure_s)
        return cls(source, detector, stage, bin_volume(volume, 2))

    def plan(self, angles: Sequence[float] = ANGLES, **options: Any) -> Any:
        return tomo_scan(self.detector, self.stage, angles, sample="particle", **options)


class Documents:
    """Documents of one run, written by hand: what a RunEngine would emit, and what it never would."""

    def __init__(self, scan: SmallScan, **start: Any) -> None:
        self.uid = str(uuid.uuid4())
        self.key = TomogramKey(self.uid)
        self._scan = scan
        self._start = {"motors": ["theta"], **start}

    def start(self) -> tuple[str, dict[str, Any]]:
        return "start", {"uid": self.uid, "time": time.time(), "scan_id": 1, **self._start}

    def descriptor(self, stream: str = "primary") -> tuple[str, dict[str, Any]]:
        keys = {"camera": {"dtype": "array", "shape": [ROWS, COLUMNS], "source": "sim"}}
        if stream == "primary":
            keys["theta"] = {"dtype": "number", "shape": [], "source": "sim"}
        document = {"uid": f"{self.uid}-{stream}", "run_start": self.uid, "name": stream, "data_keys": keys}
        return "descriptor", {**document, "time": time.time()}

    def event(self, number: int, image: NDArray[Any] | None = None, stream: str = "primary") -> tuple[str, Any]:
        data: dict[str, Any] = {"camera": self.image(number) if image is None else image}
        if stream == "primary":
            data["theta"] = ANGLES[number - 1]
        now = time.time()
        return "event", {
            "uid": str(uuid.uuid4()),
            "descriptor": f"{self.uid}-{stream}",
            "seq_num": number,
            "time": now,
            "data": data,
            "timestamps": dict.fromkeys(data, now),
        }

    def image(self, number: int) -> NDArray[Any]:
        """(row, column), the projection of event `number`."""
        return self._scan.source.projection(ANGLES[number - 1])

    def references(self, stream: str, count: int) -> list[tuple[str, Any]]:
        """A descriptor and `count` events of `flat` or `dark`."""
        take = self._scan.source.flat if stream == "flat" else self._scan.source.dark
        events = [self.event(number, take(), stream) for number in range(1, count + 1)]
        return [self.descriptor(stream), *events]

    def stop(self, events: int | None = None, **more: Any) -> tuple[str, dict[str, Any]]:
        counted = {} if events is None else {"num_events": {"primary": events}}
        document = {"uid": str(uuid.uuid4()), "run_start": self.uid, "exit_status": "success", "time": time.time()}
        return "stop", {**document, **counted, **more}

    def whole(self, points: int = len(ANGLES)) -> list[tuple[str, Any]]:
        events = [self.event(number) for number in range(1, points + 1)]
        return [self.start(), self.descriptor(), *events, self.stop(points)]


@dataclass
class Service:
    """A running service as the outside sees it."""

    settings: Settings
    catalog: Catalog
    publisher: Publisher

    @property
    def url(self) -> str:
        return catalog_url(self.settings)

    def health(self, name: str) -> HealthReport | None:
        try:
            return fetch_health(getattr(self.settings.health, name))
        except ServiceError:  # it died while it answered
            return None

    def ingest(self) -> dict[str, Any]:
        """The counters of ingest."""
        report = self.health("ingest")
        return {} if report is None else dict(report.details)

    def publish(self, *documents: tuple[str, Any]) -> None:
        for name, document in documents:
            self.publisher(name, document)

    def summary(self, key: TomogramKey) -> TomogramSummary | None:
        try:
            return self.catalog.summary(key)
        except (StoreMissingError, StoreUnavailableError):
            return None

    def stored(self, key: TomogramKey) -> int:
        """Projections in the catalogue."""
        summary = self.summary(key)
        return 0 if summary is None else summary.frames["projection"]

    def revision(self, key: TomogramKey) -> int:
        """Of the volume in the catalogue; 0 before the first."""
        summary = self.summary(key)
        return 0 if summary is None else summary.revision or 0

    def ended(self, key: TomogramKey, status: str = "final") -> dict[str, Any]:
        """The tomogram's metadata, once it is `status`."""

        def settled() -> TomogramSummary | None:
            summary = self.summary(key)
            return summary if summary is not None and summary.status in ("final", "failed") else None

        summary = until(settled, f"the end of {key}", timeout_s=150.0)  # other work may share the machine
        assert summary.status == status, summary.metadata
        return dict(summary.metadata)

    def reader(self, key: TomogramKey) -> TomogramReader:
        return self.catalog.reader(key)

    def kill(self, name: str) -> int:
        """SIGKILL; returns once the process is gone, with its pid."""
        report = self.health(name)
        assert report is not None
        os.kill(report.pid, signal.SIGKILL)
        until(lambda: self.health(name) is None, f"the death of {name}")
        return report.pid

    def ready_again(self, name: str, killed: int) -> HealthReport:
        """Its health once it is ready with another pid."""

        def successor() -> HealthReport | None:
            report = self.health(name)
            return report if report is not None and report.ready and report.pid != killed else None

        return until(successor, f"the restart of {name}")

    def until_heard(self) -> None:
        """A publisher that connected a moment ago loses what it sends: empty runs, until one has come through."""

        sent = set()

        def heard() -> bool:
            probe = Documents(SmallScan.make(), plan_name="connection_test")
            self.publish(probe.start(), probe.stop())
            sent.add(probe.uid)  # a report may be older than the last one
            return any(run["uid"] in sent for run in _after(0.2, self.ingest).get("recent_runs", []))

        until(heard, "a document's way through the proxy")


def _after(seconds: float, ask: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    threading.Event().wait(seconds)
    return ask()


@contextlib.contextmanager
def connected(settings: Settings) -> Iterator[Service]:
    """A service that runs already."""
    publisher = Publisher(settings.proxy.publish)
    try:
        with connect_catalog(settings) as catalog:
            service = Service(settings, catalog, publisher)
            service.until_heard()
            yield service
    finally:
        publisher.close()


@contextlib.contextmanager
def started(folder: Path, overrides: Mapping[str, Any] | None = None) -> Iterator[Service]:
    settings = demo_settings(folder, {**QUICK, **(overrides or {})})
    with make_supervisor(settings, log_level=logging.WARNING).running(90), connected(settings) as service:
        yield service


PFITRE = (sys.executable, "-m", "pfitre_service")


def as_arguments(settings: Settings) -> list[str]:
    """What a person would type to get these addresses."""
    addresses = {
        "tiled.port": settings.tiled.port,
        "proxy.publish": settings.proxy.publish,
        "proxy.subscribe": settings.proxy.subscribe,
        "source.address": settings.source.address,
        **{f"health.{name}": address for name, address in settings.health.model_dump().items()},
    }
    return [f"--set={name}={value}" for name, value in addresses.items()]


def members(group: int) -> list[int]:
    """Processes of a process group that still do anything."""
    alive = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended while we looked
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                alive.append(int(stat.parent.name))
    return alive


@dataclass
class Command:
    """One `pfitre` in a process group of its own, as a terminal would start it."""

    process: subprocess.Popen[str]
    log: Path

    def left_over(self, grace_s: float = 5.0) -> list[int]:
        """What is still there so long after; Python's own resource tracker ends when it sees its parent gone."""
        ends_at = time.monotonic() + grace_s
        while (left := members(self.process.pid)) and time.monotonic() < ends_at:
            time.sleep(0.02)
        return left


@pytest.fixture
def start_pfitre(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts `pfitre ARGUMENTS` in the background; whatever is left of it afterwards is killed."""
    commands: list[Command] = []

    def start(*arguments: str, **environment: str) -> Command:
        log = tmp_path / f"pfitre-{len(commands)}.log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [*PFITRE, *arguments],
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=tmp_path,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        commands.append(Command(process, log))
        return commands[-1]

    yield start
    for command in commands:
        with contextlib.suppress(ProcessLookupError):  # nothing is left, as it should be
            os.killpg(command.process.pid, signal.SIGKILL)
        command.process.wait(10)


@pytest.fixture(scope="session")
def pfitre(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `pfitre ARGUMENTS` to its end."""
    folder = tmp_path_factory.mktemp("working-directory")

    def run(*arguments: str, timeout_s: float = 60.0, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PFITRE, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            cwd=folder,
            env={**os.environ, **environment},
        )

    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium of the system; WebGL is drawn by its software."""
    chromium = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
    assert chromium, "these tests need Chromium: `make test` installs it as root; else: apt-get install chromium"
    options = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=options)
        yield started
        started.close()


@pytest.fixture
def keep_picture(tmp_path: Path, pytestconfig: pytest.Config) -> Callable[[str, bytes], None]:
    """Keeps a PNG with the test's files, and in docs/images where pytest was asked for it."""
    folder = IMAGES if pytestconfig.getoption("--keep-pictures") else tmp_path

    def keep(name: str, png: bytes) -> None:
        (folder / name).write_bytes(png)

    return keep


@pytest.fixture
def own_settings(tmp_path: Path) -> Settings:
    """Settings on free ports, data below this test's folder."""
    return demo_settings(tmp_path, QUICK)


@pytest.fixture
def arguments_for() -> Callable[[Settings], list[str]]:
    return as_arguments


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """For tests that do it no harm."""
    with started(tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture(scope="session")
def start_service() -> Callable[..., contextlib.AbstractContextManager[Service]]:
    """Starts a service of one's own in a folder: `with start_service(folder, overrides) as service`."""
    return started


@pytest.fixture(scope="session")
def connect() -> Callable[[Settings], contextlib.AbstractContextManager[Service]]:
    return connected


@pytest.fixture(scope="session")
def small_scan() -> Callable[..., SmallScan]:
    return SmallScan.make


@pytest.fixture(scope="session")
def documents() -> Callable[..., Documents]:
    """Documents of a new run of the small scan, with these keys in its start document."""

    def of(*, fluorescence: bool = True, **start: Any) -> Documents:
        measurement = "line_integral" if fluorescence else "transmission"
        middle = (COLUMNS - 1) / 2  # over 100 degrees the projections of so small a sample do not tell it
        facts = {"measurement": measurement, "rotation_axis": middle, **start}
        return Documents(SmallScan.make(fluorescence=fluorescence), **facts)

    return of


@pytest.fixture(scope="session", name="until")
def until_fixture() -> Callable[..., Any]:
    """Waits for a condition's first true value and returns it."""
    return until


@pytest.fixture
def at_projection() -> Callable[..., Callable[[str, dict[str, Any]], None]]:
    """A subscriber that calls `actions[n]()` right after projection n was published; the scan waits for it."""

    def make(actions: Mapping[int, Callable[[], Any]]) -> Callable[[str, dict[str, Any]], None]:
        primary: list[str] = []

        def on_document(name: str, document: dict[str, Any]) -> None:
            if name == "descriptor" and document["name"] == "primary":
                primary[:] = [document["uid"]]
            if name == "event" and [document["descriptor"]] == primary and document["seq_num"] in actions:
                actions[document["seq_num"]]()

        return on_document

    return make

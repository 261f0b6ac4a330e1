"""A real embedded Tiled server for the whole session, and makers of frames."""

from __future__ import annotations

import itertools
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from pfitre_service.model import Frame, Role, TomogramKey
from pfitre_service.store.acquisition_writer import AcquisitionWriter, Appended
from pfitre_service.store.catalog import Catalog
from pfitre_service.store.server.data_folder import ensure_api_key
from pfitre_service.store.server.server import run_server

_COUNTER = itertools.count(1)


@dataclass
class Server:
    """One embedded server in a thread, which may be stopped and started again on its folder and port."""

    data_dir: Path
    anonymous_read: bool = True
    port: int = 0
    url: str = ""
    error: Exception | None = None
    troubles: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def api_key(self) -> str:
        return ensure_api_key(self.data_dir)

    def start(self) -> Server:
        ready = threading.Event()
        self._stop = threading.Event()

        def on_ready(url: str) -> None:
            self.url = url
            self.port = int(url.rsplit(":", 1)[1])
            ready.set()

        def serve() -> None:
            try:
                run_server(
                    self.data_dir,
                    host="127.0.0.1",
                    port=self.port,
                    anonymous_read=self.anonymous_read,
                    stop=self._stop,
                    on_ready=on_ready,
                    on_trouble=self.troubles.append,
                )
            except Exception as error:  # noqa: BLE001  handed to the test that waits for it
                self.error = error
                ready.set()

        self._thread = threading.Thread(target=serve, name="tiled-under-test", daemon=True)
        self._thread.start()
        assert ready.wait(60), "the server did not become ready"
        if self.error is not None:
            raise self.error
        return self

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10)
            assert not self._thread.is_alive(), "the server did not stop"
            self._thread = None

    def catalog(self, *, beside: bool = True) -> Catalog:
        """A connection from the same machine: `beside` the data folder, or as if that were out of reach."""
        data_dir = self.data_dir if beside else None
        return Catalog.connect(self.url, self.api_key, timeout_s=20, request_timeout_s=10, data_dir=data_dir)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("tiled")).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Server]]:
    """Starts a server for the tests of one module."""
    servers: list[Server] = []

    def start() -> Server:
        servers.append(Server(tmp_path_factory.mktemp("tiled")).start())
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TomogramKey, int]]:
    """Tomogram and number of frames of every call that stored some, in their order."""
    calls: list[tuple[TomogramKey, int]] = []
    append = AcquisitionWriter.append

    def noted(self: AcquisitionWriter, frames: Sequence[Frame]) -> Appended:
        done = append(self, frames)
        calls.append((self.key, done.stored))
        return done

    monkeypatch.setattr(AcquisitionWriter, "append", noted)
    return calls


@pytest.fixture(scope="session", params=["beside the folder", "over HTTP"])
def catalog(server: Server, request: pytest.FixtureRequest) -> Iterator[Catalog]:
    """Both ways in which frames are written and read; what comes of it is the same."""
    with server.catalog(beside=request.param == "beside the folder") as catalog:
        yield catalog


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server that the test may stop, start and hurt."""
    server = Server(tmp_path / "own").start()
    yield server
    server.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB of its own, where this machine lets us make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def server_on_small_disk(small_disk: Path) -> Iterator[Server]:
    server = Server(small_disk / "tiled").start()
    yield server
    server.stop()


@pytest.fixture
def key() -> TomogramKey:
    return TomogramKey(f"scan-{next(_COUNTER)}")


MakeFrames = Callable[..., list[Frame]]


@pytest.fixture
def make_frames() -> MakeFrames:
    def make(
        count: int,
        *,
        first: int = 1,
        role: Role = "projection",
        run_uid: str = "run-1",
        shape: tuple[int, int] = (6, 10),
        dtype: str = "uint16",
    ) -> list[Frame]:
        """Frames whose every pixel tells their number."""
        return [
            Frame(
                image=np.full(shape, number, dtype),
                role=role,
                angle=float(number) if role == "projection" else float("nan"),
                seq_num=number,
                time=1000.0 + number,
                run_uid=run_uid,
                stream=role,
            )
            for number in range(first, first + count)
        ]

    return make

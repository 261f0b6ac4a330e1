"""What tests of several folders share."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bluesky import RunEngine

from pfitre_service.config import load_settings
from pfitre_service.ingest import DocumentRules, Source
from pfitre_service.model import Frame, Role, TomogramKey
from pfitre_service.store.acquisition_writer import AcquisitionWriter, Appended
from pfitre_service.store.catalog import Catalog
from pfitre_service.store.server.data_folder import ensure_api_key
from pfitre_service.store.server.server import run_server
from pfitre_service.store.tiled_http.connection import TiledHttp
from pfitre_service.testing.forms import FORMS

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # As in what a shell starts in the background: programs that tests start would not hear Ctrl-C either.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--keep-pictures", action="store_true", help="write the pictures of docs/images anew")


@contextmanager
def _run_engine() -> Iterator[RunEngine]:
    loop = asyncio.new_event_loop()
    engine = RunEngine({}, loop=loop)
    yield engine
    if engine.state != "idle":
        engine.abort()
    loop.call_soon_threadsafe(loop.stop)
    engine._th.join(5)
    loop.close()


@pytest.fixture
def RE() -> Iterator[RunEngine]:
    """A RunEngine whose event loop and thread end with the test."""
    with _run_engine() as engine:
        yield engine


@pytest.fixture(scope="module")
def module_engine() -> Iterator[RunEngine]:
    """The same for scans that several tests look at."""
    with _run_engine() as engine:
        yield engine


PROFILES = Path(__file__).parents[1] / "profiles"


@pytest.fixture(scope="session")
def rules_of_profile() -> Callable[..., DocumentRules]:
    """`rules_of_profile(name, folder, **changes)`: of profiles/NAME, for files that lie in `folder`."""

    def rules(name: str, folder: Path, **changes: Any) -> DocumentRules:
        return dataclasses.replace(load_settings(PROFILES / name).documents, roots=(str(folder),), **changes)

    return rules


@pytest.fixture(scope="session")
def rules_of_form(rules_of_profile: Callable[..., DocumentRules]) -> Callable[[str, Path], DocumentRules]:
    """`rules_of_form(name, folder)`: what reads the documents of FORMS[name]; those of its profile, if it has one."""

    def rules(name: str, folder: Path) -> DocumentRules:
        form = FORMS[name]
        if form.profile is not None:
            return rules_of_profile(form.profile, folder)
        return DocumentRules(roots=(str(folder),), **form.documents)

    return rules


@pytest.fixture(params=["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def device(request: pytest.FixtureRequest) -> str:
    """Every device that computes here."""
    return request.param


@pytest.fixture
def relative_error() -> Callable[..., float]:
    """||got - expected|| / ||expected||."""

    def error(got: object, expected: object) -> float:
        a, b = np.asarray(got, dtype=float), np.asarray(expected, dtype=float)
        return float(np.linalg.norm(a - b) / np.linalg.norm(b))

    return error


class Receiver:
    """A source that runs in a thread while the block lasts, and the documents that it hands on.

    `then` is called with each document after it was noted; what it raises, the source has to bear.
    """

    def __init__(self, source: Source, then: Callable[[str, dict[str, Any]], None] | None = None) -> None:
        self.source = source
        self.documents: list[tuple[str, dict[str, Any]]] = []
        self.idled = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=source.run, args=(self._handle, self.stop, self._idle), name="source")
        self._then = then
        self._changed = threading.Condition()

    def names(self) -> list[str]:
        return [name for name, _ in self.documents]

    def until(self, condition: Callable[[], Any]) -> None:
        """Waits for documents, or whatever else shows when the source is idle."""
        with self._changed:
            assert self._changed.wait_for(condition, 60), (self.names(), self.source.counts)

    def _handle(self, name: str, document: dict[str, Any]) -> None:
        with self._changed:
            self.documents.append((name, document))
            self._changed.notify_all()
        if self._then is not None:
            self._then(name, document)

    def _idle(self) -> None:
        with self._changed:
            self.idled += 1
            self._changed.notify_all()

    def __enter__(self) -> Receiver:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self.thread.join(30)
        assert not self.thread.is_alive()


@pytest.fixture(scope="session")
def receiving() -> type[Receiver]:
    return Receiver


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


@pytest.fixture(scope="session")
def wire(server: Server) -> Iterator[TiledHttp]:
    """Requests to the server itself: what it knows, and what interrupted writers leave behind."""
    wire = TiledHttp(server.url, server.api_key)
    yield wire
    wire.close()


@pytest.fixture
def server_in() -> Iterator[Callable[[Path], Server]]:
    """Starts a server for one test, on a folder of its choice."""
    servers: list[Server] = []

    def start(folder: Path) -> Server:
        servers.append(Server(folder).start())
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def own_server(server_in: Callable[[Path], Server], tmp_path: Path) -> Server:
    """A server that the test may stop, start and hurt."""
    return server_in(tmp_path / "own")


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

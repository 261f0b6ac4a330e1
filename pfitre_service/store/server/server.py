"""The embedded Tiled server: persistent, on one data folder, in one thread or process of the service."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import socket
import threading
import warnings
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from pfitre_service.addresses import format_address, reachable
from pfitre_service.errors import StoreError
from pfitre_service.store.server import data_folder
from pfitre_service.store.server.databases import DatabaseWatch, check_databases
from pfitre_service.store.server.error_responses import answer_faults
from pfitre_service.store.server.http_gate import Gate
from pfitre_service.store.server.http_hosts import AllowedHosts

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger(__name__)

# Messages to live subscribers hold whole payloads: at most so many, for so long, count and seconds.
_STREAM_MESSAGES = 64
_STREAM_S = 5
_GRACE_S = 2


def build_app(data_dir: Path, api_key: str, *, anonymous_read: bool) -> FastAPI:
    """Tiled's application on `data_dir`, whose catalogue is made or reopened. Slow: imports Tiled, 3 s.

    Raises:
        StoreError: the folder cannot be used, or lacks a database that its arrays need.
    """
    data_folder.prepare(data_dir)
    check_databases(data_dir)
    _quieten()
    from tiled.catalog import from_uri
    from tiled.config import Authentication, StreamingCacheConfig
    from tiled.media_type_registration import default_serialization_registry
    from tiled.server.app import build_app as tiled_app
    from tiled.utils import ensure_specified_sql_driver

    from pfitre_service.store.server.checked_zarr import make_tiled_check

    catalog = data_dir / "catalog.db"
    uri = ensure_specified_sql_driver(f"sqlite:///{catalog.absolute()}")
    if not catalog.exists():
        _initialize(data_dir, uri)
    cache = StreamingCacheConfig(uri="memory", data_ttl=_STREAM_S).model_dump()
    cache["maxsize"] = _STREAM_MESSAGES
    tree = from_uri(
        uri,
        writable_storage=[str((data_dir / "data").absolute()), f"sqlite:///{(data_dir / 'tables.db').absolute()}"],
        adapters_by_mimetype=make_tiled_check(),
        cache_config=cache,
        # One connection to the tables: two at once meet "database is locked" (SQLite) or kill the process (DuckDB).
        storage_pool_size=1,
        storage_max_overflow=0,
    )
    # A copy, so that formats which are added to this app are not added to every other one of the process.
    formats = copy.deepcopy(default_serialization_registry)
    app: FastAPI = tiled_app(
        tree,
        authentication=Authentication(single_user_api_key=api_key, allow_anonymous_access=anonymous_read),
        serialization_registry=formats,
    )
    app.state.formats = formats
    _own_settings(app)
    answer_faults(app, data_dir)
    return app


def run_server(
    data_dir: Path,
    *,
    host: str,
    port: int,
    anonymous_read: bool,
    stop: threading.Event,
    api_key: str | None = None,
    allowed_hosts: Iterable[str] = (),
    extend: Callable[[FastAPI], None] = lambda app: None,
    on_ready: Callable[[str], None] = lambda url: None,
    on_trouble: Callable[[str], None] = lambda problem: None,
) -> None:
    """Serve `data_dir` until `stop` is set, then return within about 3 s.

    `api_key` is what writing needs; by default the folder's own, made at its first start.
    `allowed_hosts` are names, besides its own, under which it may be spoken to. `extend` may add routes to the
    application; of Tiled's own, those pass that `http_gate` lists. `on_ready` is called with the server's address once
    it answers, `on_trouble` with what is wrong with its databases, once it is, and with "" when it is over: meanwhile
    all that is asked is answered 503 with the reason.
    Signals are left to the caller.

    Raises:
        StoreError: folder or port cannot be used, or Tiled does not start.
    """
    data_folder.prepare(data_dir)
    with data_folder.locked(data_dir), _listening(host, port) as listener:
        app = build_app(data_dir, api_key or data_folder.ensure_api_key(data_dir), anonymous_read=anonymous_read)
        routes = set(map(id, app.router.routes))
        extend(app)
        own = [route for route in app.router.routes if id(route) not in routes]
        watch = DatabaseWatch(data_dir)
        config = uvicorn.Config(
            Gate(app, AllowedHosts.from_settings(host, allowed_hosts), own, lambda: watch.problem),
            log_config=None,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
        url = f"http://{format_address(reachable(host), listener.getsockname()[1])}"
        server = _Server(config, stop, watch, lambda: on_ready(url), on_trouble)
        server.run(sockets=[listener])
        if not server.started:
            raise StoreError(
                f"Tiled did not start on the data folder {data_dir}; the log above has its reason. A folder made by a "
                "newer version of Tiled needs that version"
            )
    logger.info("Tiled stopped on %s", data_dir)


class _Server(uvicorn.Server):
    """uvicorn that ends on an event instead of a signal, says when it is ready, and looks after the databases."""

    def __init__(
        self,
        config: uvicorn.Config,
        stop: threading.Event,
        watch: DatabaseWatch,
        on_ready: Callable[[], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        super().__init__(config)
        self._stop = stop
        self._watch = watch
        self._on_ready = on_ready
        self._on_trouble = on_trouble

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        # Called ten times a second by uvicorn's own loop.
        before = self._watch.problem
        self._watch.look()
        if self._watch.problem != before:
            logger.error("%s", self._watch.problem or "the databases are whole again")
            self._on_trouble(self._watch.problem)
        return await super().on_tick(counter) or self._stop.is_set()


@contextlib.contextmanager
def _listening(host: str, port: int) -> Generator[socket.socket, None, None]:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family)
    except OSError as error:
        raise StoreError(f"Tiled cannot listen on {host}: {error.strerror}; give an address of this machine") from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise StoreError(
                f"Tiled cannot listen on {host}:{port}: {error.strerror}; stop what uses the port, or set another one "
                "(0 takes any that is free)"
            ) from error
        yield listener


def _own_settings(app: FastAPI) -> None:
    """Tiled has one settings object a process and every app changes it: a second one would set the first one's key."""
    from tiled.server.settings import get_settings

    get_settings.cache_clear()
    app.dependency_overrides[get_settings]()


def _initialize(data_dir: Path, uri: str) -> None:
    """Make the catalogue, and stamp it with its schema's version so that later versions of Tiled can upgrade it."""
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.ext.asyncio import create_async_engine
    from tiled.alembic_utils import stamp_head
    from tiled.catalog.alembic_constants import ALEMBIC_DIR, ALEMBIC_INI_TEMPLATE_PATH
    from tiled.catalog.core import initialize_database

    async def initialize() -> None:
        engine = create_async_engine(uri)
        try:
            await initialize_database(engine)
        finally:
            await engine.dispose()

    try:
        asyncio.run(initialize())
        with warnings.catch_warnings():
            # Tiled's own template for Alembic lacks a setting that newer versions of Alembic ask for.
            warnings.filterwarnings("ignore", "No path_separator found", DeprecationWarning)
            stamp_head(ALEMBIC_INI_TEMPLATE_PATH, ALEMBIC_DIR, uri)
    except (SQLAlchemyError, OSError) as error:
        _discard(data_dir)
        raise StoreError(f"Tiled's catalogue could not be made in {data_dir}: {error}; is there space left?") from error


def _discard(data_dir: Path) -> None:
    """A catalogue made by halves would be taken for a whole one at the next start."""
    for path in data_dir.glob("catalog.db*"):
        path.unlink(missing_ok=True)


def _quieten() -> None:
    """Log only what goes wrong, and where the service says: Tiled gives its logger a handler of its own at import."""
    for name in ("tiled", "tiled.server.app", "alembic", "numexpr"):
        logging.getLogger(name).setLevel(logging.WARNING)
    import tiled.server.app  # noqa: F401

    logging.getLogger("tiled.server.app").handlers.clear()
    logging.getLogger("tiled.server.app").setLevel(logging.WARNING)

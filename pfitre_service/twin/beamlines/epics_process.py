"""The life of the simulated beamline's IOC: a process of its own, on the loopback interface, that ends with its owner.

One pipe does it all: the IOC says through it that it is ready, or why it cannot start; that its other end closed, by
will or by death, tells the IOC to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from pfitre_service.errors import ServiceError
from pfitre_service.twin.image_sources import ImageSource

logger = logging.getLogger(__name__)

_START_S = 60.0
_STOP_S = 5.0
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class IocProcess:
    """An IOC that answers."""

    prefix: str
    """Of its process variables; no two beamlines share one."""
    address: str
    """host:port where clients search."""
    process: SpawnProcess
    """That it runs in."""

    @property
    def client_environment(self) -> Mapping[str, str]:
        """EPICS variables with which a client finds this IOC, and asks nobody else."""
        return {"EPICS_CA_ADDR_LIST": self.address, "EPICS_CA_AUTO_ADDR_LIST": "NO"}


@contextlib.contextmanager
def running_ioc(make_source: Callable[[], ImageSource], prefix: str) -> Iterator[IocProcess]:
    """Starts the IOC, and ends it on leaving.

    Parameters
    ----------
    make_source
        An importable function, or a `partial` of one, called in the IOC's process.
    prefix
        Of its process variables.

    Yields
    ------
    IocProcess
        Until the block ends.

    Raises
    ------
    ServiceError
        It does not start, or died; says why.
    """
    if importlib.util.find_spec("caproto") is None:
        raise ServiceError("the simulated EPICS beamline needs caproto: pip install 'pfitre-service[epics]'")
    ours, process = _spawn(make_source, prefix)
    try:
        address = _address_of_started(process, ours)
        with _death_told(process):
            yield IocProcess(prefix, address, process)
    finally:
        ours.close()
        process.join(_STOP_S)
        if process.is_alive():
            logger.warning("the IOC did not end within %g s and is killed", _STOP_S)
            process.kill()
            process.join()


@contextlib.contextmanager
def _death_told(process: SpawnProcess) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if process.exitcode is None:
            raise
        raise ServiceError(
            f"the simulated EPICS beamline's IOC ended with exit code {process.exitcode} while it was in use"
        ) from error


def _spawn(make_source: Callable[[], ImageSource], prefix: str) -> tuple[Connection, SpawnProcess]:
    """The child inherits a blocked SIGINT: Ctrl-C is for the owner, which ends the IOC in its turn."""
    spawner = multiprocessing.get_context("spawn")
    resource_tracker.ensure_running()  # its own start would unblock SIGINT halfway
    ours, theirs = spawner.Pipe()
    process = spawner.Process(target=_ioc, args=(make_source, prefix, theirs), name="epics-ioc", daemon=True)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
    return ours, process


def _address_of_started(process: SpawnProcess, link: Connection) -> str:
    said = connection.wait([link, process.sentinel], timeout=_START_S)
    if not said:
        raise ServiceError(f"the simulated EPICS beamline was not ready {_START_S:g} s after its start")
    try:
        address, reason = link.recv()
    except (EOFError, ConnectionResetError) as error:
        process.join()
        raise ServiceError(
            f"the simulated EPICS beamline's IOC ended with exit code {process.exitcode} before it was ready"
        ) from error
    if reason:
        raise ServiceError(f"the simulated EPICS beamline did not start: {reason}")
    return str(address)


def _ioc(make_source: Callable[[], ImageSource], prefix: str, link: Connection) -> None:
    """The IOC's process."""
    try:
        asyncio.run(_serve_until_closed(make_source, prefix, link))
    except Exception as error:
        # The process's edge: the owner, if it still waits, is told; a log line stands either way.
        logger.exception("the IOC %s failed", prefix)
        with contextlib.suppress(OSError):  # the owner is gone
            link.send(("", f"{type(error).__name__}: {error}"))


async def _serve_until_closed(make_source: Callable[[], ImageSource], prefix: str, link: Connection) -> None:
    with _bound() as unheard:
        with _bound() as probe:
            port = _port(probe)  # free again a moment before the server binds it
        os.environ |= {
            "EPICS_CA_SERVER_PORT": str(port),
            "EPICS_CAS_INTF_ADDR_LIST": _LOOPBACK,
            # Beacons cannot be turned off: they go where nobody listens, and nobody is refused.
            "EPICS_CAS_BEACON_ADDR_LIST": _LOOPBACK,
            "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO",
            "EPICS_CAS_BEACON_PORT": str(_port(unheard)),
        }
        from pfitre_service.twin.beamlines.epics_ioc import make_ioc, serve

        ioc = make_ioc(prefix, make_source())
        serving = asyncio.ensure_future(serve(ioc, lambda: link.send((f"{_LOOPBACK}:{port}", ""))))
        asyncio.get_running_loop().add_reader(link.fileno(), serving.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await serving


def _bound() -> socket.socket:
    """A socket on a free UDP port of the loopback interface."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind((_LOOPBACK, 0))
    return bound


def _port(bound: socket.socket) -> int:
    return int(bound.getsockname()[1])

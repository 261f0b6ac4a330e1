"""`pfitre serve`: the whole service under its supervisor; `pfitre process`: one process of it alone."""

from __future__ import annotations

import importlib.util
import ipaddress
import logging

from pfitre_service.catalog_access import catalog_url
from pfitre_service.config import EpicsSettings, Settings
from pfitre_service.errors import ServiceError, SettingsError
from pfitre_service.logs import LogOptions, set_up_logging
from pfitre_service.service.composition import PROCESSES, process_specs
from pfitre_service.supervision.process import run_process
from pfitre_service.supervision.supervisor import Supervisor

logger = logging.getLogger(__name__)


def run_service(settings: Settings, *, log_level: int) -> int:
    """Runs until SIGINT or SIGTERM; the exit code. Raises ServiceError for what a restart cannot mend."""
    supervisor = make_supervisor(settings, log_level=log_level)
    set_up_logging(LogOptions(log_level, settings.log.format), "supervisor", force=True)
    logger.info("catalogue at %s, data in %s", catalog_url(settings), settings.data_dir.absolute())
    if settings.proxy.enabled:
        logger.info('RunEngines: RE.subscribe(bluesky.callbacks.zmq.Publisher("%s"))', settings.proxy.publish)
    return supervisor.run()


def make_supervisor(settings: Settings, *, log_level: int) -> Supervisor:
    """The supervisor of the processes that `settings` ask for."""
    _check_source(settings)
    if settings.epics.prefix:
        _check_epics(settings.epics)
    return Supervisor(
        process_specs(settings),
        settings,
        health_address=settings.health.supervisor,
        log=LogOptions(log_level, settings.log.format),
    )


def run_alone(name: str, settings: Settings, *, log_level: int) -> int:
    """Runs one process in the foreground; the exit code. Raises SettingsError for a name that is none."""
    if name not in PROCESSES:
        raise SettingsError(f"there is no process {name!r}; choose one of {', '.join(PROCESSES)}")
    if name == "epics":
        _check_epics(settings.epics)
    set_up_logging(LogOptions(log_level, settings.log.format), name, force=True)
    address = getattr(settings.health, name)
    return run_process(name, PROCESSES[name], settings, address, log=LogOptions(log_level, settings.log.format))


def _check_source(settings: Settings) -> None:
    if settings.proxy.enabled and settings.source.kind == "zmq" and settings.source.address != settings.proxy.subscribe:
        raise ServiceError(
            f"the service's own proxy hands out documents at {settings.proxy.subscribe}, but source.address is "
            f"{settings.source.address}: set both to the same, or proxy.enabled=false to use the beamline's proxy"
        )


def _check_epics(epics: EpicsSettings) -> None:
    """Raises SettingsError, before anything starts, for what its process would end with."""
    if not epics.prefix:
        raise SettingsError("process variables need a prefix: set epics.prefix, for example XF18:pfitre:")
    if importlib.util.find_spec("p4p") is None:
        raise SettingsError(
            f"epics.prefix={epics.prefix} asks for process variables over PV Access, which need p4p: "
            "pip install 'pfitre-service[pva]'"
        )
    for interface in epics.interfaces:
        try:
            ipaddress.ip_address(interface)
        except ValueError as error:
            raise SettingsError(
                f"epics.interfaces must be addresses of this machine, such as 127.0.0.1; got {interface!r}"
            ) from error

"""The process that shows a tomogram as EPICS process variables: it reads the catalogue as any client does.

Of the catalogue it asks one small thing every `epics.poll_interval_s`: the metadata of the tomogram that is shown. When
its revision has changed, or a client has chosen another slice, it reads slices: three of a new volume, one for a
choice. However slow the catalogue is, a fifth of its time at most goes into that. The worker takes no notice.
"""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from pfitre_service.addresses import format_address
from pfitre_service.catalog_access import api_key, catalog_url
from pfitre_service.config import Settings
from pfitre_service.epics.pva_server import TOMOGRAM, Request, Variables, serving
from pfitre_service.epics.pva_values import AXES, Alarm, Axis, Severity, Slice
from pfitre_service.epics.state import Known, Places
from pfitre_service.errors import InputError, StoreError, StoreMissingError
from pfitre_service.model import TomogramKey
from pfitre_service.store.catalog import Catalog
from pfitre_service.store.parameters import is_loopback
from pfitre_service.supervision.process import ProcessContext

logger = logging.getLogger(__name__)

_TURN_S = 0.2
"""A stop is noticed so soon."""
_SHARE = 5
# A volume that was replaced while its slices were read is read again; the next look finds the one after.
_ATTEMPTS = 3


class Show:
    """Brings what the catalogue holds to the variables. `look` and `answer` may raise StoreError; what was shown then
    stays. A context manager, which ends the connection."""

    def __init__(self, connect: Callable[[], Catalog], variables: Variables) -> None:
        self._connect = connect
        self._catalog: Catalog | None = None
        self._variables = variables
        self._followed: TomogramKey | None = None
        """None for the newest."""
        self._known: Known | None = None
        self._read_for: tuple[TomogramKey, int] | None = None
        """Tomogram and revision, as its metadata told it, that slices were last read for."""
        self._shown: tuple[TomogramKey, int] | None = None
        """Tomogram and revision that the pictures are of."""
        self._cut_at: dict[Axis, int] = {}
        self._places = Places()

    def __enter__(self) -> Show:
        return self

    def __exit__(self, *error: object) -> None:
        if self._catalog is not None:
            self._catalog.close()

    @property
    def shows(self) -> str:
        """In words."""
        return "no volume yet" if self._shown is None else f"tomogram {self._shown[0]}, revision {self._shown[1]}"

    def look(self) -> None:
        """Shows what is new."""
        self._known = None if (found := self._find()) is None else Known.from_metadata(*found)
        if self._known is None:
            self._variables.clear(Alarm(Severity.INVALID, "there is no tomogram yet"))
        else:
            self._bring(self._known)

    def answer(self, requests: Sequence[Request]) -> None:
        """Does what clients ask for, and answers each of them when it is shown."""
        accepted = [request for request in requests if self._grant(request)]
        try:
            if any(request.axis is None for request in accepted):
                self.look()
            elif accepted and self._known is not None:
                self._bring(self._known)
        finally:
            for request in accepted:
                request.accept()

    def lost(self, problem: str) -> None:
        """The catalogue is away: everything stays as it was, and says that it may be old."""
        alarm = Alarm(Severity.INVALID, f"may be old, the catalogue cannot be read: {problem}")
        if self._known is None:
            self._variables.clear(alarm)
            return
        self._variables.alarm_pictures(alarm)
        self._set(self._known, alarm)

    def _reachable(self) -> Catalog:
        if self._catalog is None:
            self._catalog = self._connect()
        return self._catalog

    def _find(self) -> tuple[TomogramKey, dict[str, Any]] | None:
        catalog = self._reachable()
        if self._followed is None:
            return catalog.newest_entry()
        return self._followed, catalog.reader(self._followed).metadata()

    def _bring(self, known: Known) -> None:
        if known.revision is not None and (self._read_for != (known.key, known.revision) or self._due):
            self._read(known)
            self._read_for = known.key, known.revision
        alarm = known.alarm
        if known.revision is None and self._shown is not None:
            alarm = Alarm(Severity.INVALID, f"{known.key} has no volume ({known.status}); this is {self.shows}")
        self._variables.alarm_pictures(alarm)
        self._set(known, known.alarm)

    @property
    def _due(self) -> list[Axis]:
        """Across which another slice was chosen than is shown."""
        return [axis for axis in AXES if self._cut_at.get(axis) != self._places.index(axis)]

    def _read(self, known: Known) -> None:
        """Reads and shows the slices that are due: all of them of a volume that is not shown yet."""
        reader = self._reachable().reader(known.key)
        volume = reader.result("volume")
        for _ in range(_ATTEMPTS):
            if volume is None:
                return
            self._places.shape = volume.shape
            axes = self._due if self._shown == (known.key, volume.revision) else AXES
            places = {axis: self._places.index(axis) for axis in axes}
            cuts = {axis: volume.cut(AXES.index(axis), place) for axis, place in places.items()}
            revision, volume = volume.revision, reader.result("volume")
            if volume is None or volume.revision == revision:
                break
        self._shown = known.key, revision
        for axis, place in places.items():
            shown = Slice(cuts[axis], known.key.id, axis, place, revision, known.made, known.pixel_size_nm)
            self._variables.show(shown, known.alarm)
        self._cut_at |= places

    def _set(self, known: Known, alarm: Alarm) -> None:
        """All variables but the pictures."""
        heldout = alarm
        if alarm.severity < Severity.INVALID and math.isnan(known.heldout_error):
            heldout = Alarm(Severity.INVALID, "nothing is held out, so the error is not measured")
        revision = self._shown[1] if self._shown is not None and self._shown[0] == known.key else 0
        self._variables.set("Showing", known.key.id, alarm)
        self._variables.set("Status", known.status, alarm)
        self._variables.set("Reason", known.reason, alarm)
        self._variables.set("Sentence", known.sentence, alarm)
        self._variables.set("AnglesUsed", known.angles_used, alarm)
        self._variables.set("HeldoutError", known.heldout_error, heldout)
        self._variables.set("Revision", revision, alarm)
        for axis in AXES:
            if (size := self._places.size(axis)) is not None:
                self._variables.set_index(axis, self._places.index(axis), size)

    def _grant(self, request: Request) -> bool:
        """Takes over what was asked for; or refuses it, and says why."""
        if request.axis is not None:
            reason = self._places.choose(request.axis, int(request.value))
        else:
            reason = self._follow(str(request.value).strip())
        if reason is not None:
            request.refuse(reason)
        return reason is None

    def _follow(self, name: str) -> str | None:
        """Why that tomogram cannot be shown; None when it will be."""
        try:
            key = TomogramKey(name) if name else None
            if key is not None:
                self._reachable().reader(key).metadata()
        except InputError as error:
            return f"{error}; leave it empty for the newest"
        except StoreMissingError:
            return f"{TOMOGRAM} must be the id of a tomogram, or empty for the newest; the catalogue has no {name}"
        except StoreError as error:
            return f"the catalogue cannot be asked for {name} now: {error}"
        self._followed = key
        self._variables.set(TOMOGRAM, name, Alarm())
        return None


def run_epics(settings: Settings, context: ProcessContext) -> None:
    """The process's main loop, until `context.stop`."""
    epics, parameters = settings.epics, settings.tiled
    connect = functools.partial(
        Catalog.connect_to_read,
        catalog_url(settings),
        api_key(settings),
        timeout_s=0.0,
        request_timeout_s=parameters.request_timeout_s,
    )
    variables = Variables(epics.prefix)
    beacons = not all(map(is_loopback, epics.interfaces))
    with (
        serving(
            variables, interfaces=epics.interfaces, port=epics.port, search_port=epics.search_port, beacons=beacons
        ) as port,
        Show(connect, variables) as show,
    ):
        where = format_address(epics.interfaces[0], port)
        logger.info("process variables %s* at %s (PV Access)", epics.prefix, where)
        context.health.update({"prefix": epics.prefix, "address": where})
        context.health.set_state("waiting", "for the catalogue")
        _keep_showing(show, variables, context, epics.poll_interval_s)


def _keep_showing(show: Show, variables: Variables, context: ProcessContext, poll_s: float) -> None:
    next_look, problem = 0.0, ""
    while not context.stop.is_set():
        context.health.beat()
        requests = variables.requests(min(_TURN_S, max(0.0, next_look - time.monotonic())))
        begin = time.monotonic()
        is_time = begin >= next_look
        if not requests and not is_time:
            continue
        try:
            if requests:
                show.answer(requests)
            if is_time:
                show.look()
            problem = ""
            context.health.set_state("serving", show.shows)
        except StoreError as error:
            if not problem:
                logger.warning("the catalogue cannot be read, trying again: %s", error)
            problem = str(error)
            show.lost(problem)
            context.health.set_state("waiting", problem)
        if is_time:
            next_look = begin + max(poll_s, _SHARE * (time.monotonic() - begin))

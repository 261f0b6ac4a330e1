"""The process variables of one prefix: what they show, what clients ask of them, and the server that offers them.

    SliceZ SliceY SliceX                     pictures
    Z Y X                                    index of each slice; may be put
    Tomogram                                 which one to show, empty for the newest; may be put
    Showing Status Reason Sentence           of the tomogram that is shown
    Revision AnglesUsed HeldoutError

Values are set by one thread. What clients put is only taken down by the server's threads; that one thread asks for it
(`requests`), decides, and answers.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from p4p.nt import NTScalar
from p4p.server import Server
from p4p.server.raw import SharedPV

from pfitre_service.epics.pva_values import (
    AXES,
    Alarm,
    Axis,
    Severity,
    Slice,
    no_picture,
    picture,
    picture_alarm,
    scalar,
)
from pfitre_service.errors import ServiceError

logger = logging.getLogger(__name__)

_TEXT = NTScalar.buildType("s", display=True)
_COUNT = NTScalar.buildType("l", display=True)
_NUMBER = NTScalar.buildType("d", display=True)
_INDEX = NTScalar.buildType("i", display=True, control=True)

TOMOGRAM = "Tomogram"
_NOT_YET = Alarm(Severity.INVALID, "nothing was read from the catalogue yet")
_SHOWN: dict[str, tuple[Any, Any, str]] = {
    "Showing": (_TEXT, "", "id of the tomogram that is shown"),
    "Status": (_TEXT, "none", "receiving, iterating, final or failed; none where there is no tomogram"),
    "Reason": (_TEXT, "", "why it is in this state"),
    "Sentence": (_TEXT, "", "how far the volume may be believed"),
    "Revision": (_COUNT, 0, "of the volume that the slices are cut from; 0 before the first"),
    "AnglesUsed": (_COUNT, 0, "projections that the volume is made of"),
    "HeldoutError": (_NUMBER, float("nan"), "||Ax - y|| / ||y|| on projections that the solver had not seen"),
}
_WAITING_REQUESTS = 100


@dataclass(frozen=True, slots=True)
class Request:
    """What a client has put. Exactly one of `accept` and `refuse` is to be called: the client waits for it."""

    name: str
    """Of the variable, without the prefix."""
    value: Any
    _operation: Any

    @property
    def axis(self) -> Axis | None:
        """Of the index that was put; None for the tomogram."""
        return next((axis for axis in AXES if axis.upper() == self.name), None)

    def accept(self) -> None:
        """The client's put has succeeded."""
        self._operation.done()

    def refuse(self, reason: str) -> None:
        """The client's put fails with this reason."""
        logger.info("a put to %s is refused: %s", self.name, reason)
        self._operation.done(error=reason)


class Variables:
    """See the module. Every variable is there from the start, with an alarm until it is first set."""

    def __init__(self, prefix: str) -> None:
        self._requests: queue.Queue[Request] = queue.Queue(_WAITING_REQUESTS)
        now = time.time()
        kinds = {name: kind for name, (kind, _, _) in _SHOWN.items()}
        kinds |= {TOMOGRAM: _TEXT} | {axis.upper(): _INDEX for axis in AXES}
        self._kinds = kinds
        self._last: dict[str, object] = {}
        self._alarms: dict[str, Alarm] = dict.fromkeys(map(slice_name, AXES), _NOT_YET)
        self._pvs = {name: SharedPV(initial=no_picture(_NOT_YET, now)) for name in self._alarms}
        for name, (kind, value, words) in _SHOWN.items():
            display = {"description": words}
            self._pvs[name] = SharedPV(initial=scalar(kind, value, _NOT_YET, now, display=display))
        for axis in AXES:
            display = {"description": f"index of the slice across {axis}"}
            self._writable(axis.upper(), scalar(_INDEX, 0, _NOT_YET, now, display=display))
        display = {"description": "id of the tomogram to show; empty for the newest"}
        self._writable(TOMOGRAM, scalar(_TEXT, "", Alarm(), now, display=display))
        self.by_name = {prefix + name: pv for name, pv in self._pvs.items()}
        """For the server: each variable by its full name."""

    def requests(self, timeout_s: float) -> list[Request]:
        """What clients have put by now, oldest first; waits `timeout_s` at most for the first one."""
        found: list[Request] = []
        with contextlib.suppress(queue.Empty):
            found.append(self._requests.get(timeout=timeout_s))
            while True:
                found.append(self._requests.get_nowait())
        return found

    def show(self, shown: Slice, alarm: Alarm) -> None:
        """A new picture. Raises InputError for an image that is none."""
        name = slice_name(shown.axis)
        self._alarms[name] = alarm
        self._pvs[name].post(picture(shown, alarm, time.time()))

    def alarm_pictures(self, alarm: Alarm) -> None:
        """The pictures stay, with another alarm."""
        for name, before in self._alarms.items():
            if before != alarm:
                self._alarms[name] = alarm
                self._pvs[name].post(picture_alarm(alarm, time.time()))

    def set(self, name: str, value: Any, alarm: Alarm) -> None:
        """The value of a scalar variable, named without the prefix. Clients hear of it only if it is another one."""
        self._post(name, value, alarm)

    def clear(self, alarm: Alarm) -> None:
        """There is nothing to tell: every scalar as at the start, the pictures as they are, and this alarm."""
        for name, (_, value, _) in _SHOWN.items():
            self._post(name, value, alarm)
        self.alarm_pictures(alarm)

    def set_index(self, axis: Axis, index: int, size: int) -> None:
        """Which slice of how many is shown."""
        limits = {"limitLow": 0, "limitHigh": size - 1}
        self._post(axis.upper(), index, Alarm(), display=limits, control={**limits, "minStep": 1})

    def _post(self, name: str, value: Any, alarm: Alarm, **more: Any) -> None:
        said = (repr(value), alarm, repr(more))  # repr: a NaN is like another NaN
        if self._last.get(name) != said:
            self._last[name] = said
            self._pvs[name].post(scalar(self._kinds[name], value, alarm, time.time(), **more))

    def _writable(self, name: str, initial: Any) -> None:
        self._pvs[name] = SharedPV(handler=_Taker(name, self._requests), initial=initial)


class _Taker:
    """Takes puts down for the thread that decides."""

    def __init__(self, name: str, requests: queue.Queue[Request]) -> None:
        self._name = name
        self._requests = requests

    def put(self, pv: Any, operation: Any) -> None:
        """Called by the server."""
        value = operation.value()
        if not value.changed("value"):
            operation.done(error=f"only the value of {self._name} can be put, not its other fields")
            return
        try:
            self._requests.put_nowait(Request(self._name, value["value"], operation))
        except queue.Full:
            operation.done(error=f"{_WAITING_REQUESTS} puts wait already; try again")


def slice_name(axis: Axis) -> str:
    """Of the picture across `axis`, without the prefix."""
    return f"Slice{axis.upper()}"


@contextlib.contextmanager
def serving(
    variables: Variables, *, interfaces: Sequence[str], port: int, search_port: int, beacons: bool
) -> Iterator[int]:
    """Offers the variables until the block ends; the TCP port that clients connect to.

    The environment's EPICS_ variables do not count. Where `port` is taken, another one is: clients find it by search.

    Args:
        interfaces: addresses of this machine.
        port: TCP; 0 takes a free one.
        search_port: UDP, where clients search; 0 takes a free one.
        beacons: whether to tell the networks of these interfaces of the server from time to time, so that clients that
            had lost it search again.

    Raises ServiceError where the server cannot listen there.
    """
    conf = {
        "EPICS_PVAS_INTF_ADDR_LIST": " ".join(interfaces),
        "EPICS_PVAS_SERVER_PORT": str(port),
        "EPICS_PVAS_BROADCAST_PORT": str(search_port),
        "EPICS_PVAS_AUTO_BEACON_ADDR_LIST": "YES" if beacons else "NO",
    }
    server = _started(lambda: Server(providers=[variables.by_name], conf=conf, useenv=False), interfaces, search_port)
    try:
        listens = int(server.conf()["EPICS_PVAS_SERVER_PORT"])
        if port not in (0, listens):
            logger.warning("port %d (epics.port) is taken; PV Access listens on %d instead", port, listens)
        yield listens
    finally:
        server.stop()


def _started(start: Callable[[], Any], interfaces: Sequence[str], search_port: int) -> Any:
    try:
        return start()
    except RuntimeError as error:
        raise ServiceError(
            f"PV Access cannot listen at {', '.join(interfaces)} with search port {search_port}: {error}; "
            "epics.interfaces must be addresses of this machine"
        ) from error

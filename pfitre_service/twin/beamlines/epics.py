"""A beamline behind EPICS: ophyd devices that drive the simulated IOC over Channel Access on the loopback interface."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import ophyd
from ophyd import Component, Device, EpicsMotor, EpicsSignal, EpicsSignalRO
from ophyd.signal import EpicsSignalBase
from ophyd.status import Status

from pfitre_service.errors import InputError, ServiceError
from pfitre_service.model import Measurement
from pfitre_service.twin.beamlines.epics_process import IocProcess, running_ioc
from pfitre_service.twin.beamlines.filestore import FileAnnouncer
from pfitre_service.twin.image_sources import ImageSource

_CONNECT_S = 30.0
_ANSWER_S = 20.0
"""What has not completed after so many seconds has failed: a beamline that died must not hold a scan for ever."""


def _setting(suffix: str, **options: Any) -> Any:
    """A variable whose put completes when the beamline has done what it was told."""
    return Component(EpicsSignal, suffix, kind="omitted", put_complete=True, write_timeout=_ANSWER_S, **options)


def _said(suffix: str, **options: Any) -> Any:
    return Component(EpicsSignalRO, suffix, kind="omitted", **options)


class HdfWriter(FileAnnouncer):
    """The IOC's HDF5 plugin: one file from `stage` to `unstage`, readable while it is written."""

    filestore_spec = "AD_HDF5"
    path = _setting("FilePath", string=True)
    file_name = _setting("FileName", string=True)
    capture = _setting("Capture")
    full_name = _said("FullFileName_RBV", string=True)
    message = _said("WriteMessage", string=True)

    def unstage(self) -> list[object]:
        """The devices that were unstaged; the file is closed."""
        self.capture.set(0).wait()
        return [super().unstage()]

    def _open(self, folder: Path, name: str) -> tuple[Path, dict[str, Any]]:
        for signal, value in ((self.path, str(folder)), (self.file_name, name), (self.capture, 1)):
            signal.set(value).wait()
        if trouble := self.message.get():
            raise InputError(f"{self.name}: {trouble}")
        return Path(self.full_name.get()), {}


class EpicsDetector(Device):  # type: ignore[misc]  # ophyd has no types
    """The IOC's detector, with the shutter and the sample stage before it; events hold the id of a datum.

    Parameters
    ----------
    rotation_axis
        Column of the rotation axis; None where it is not known.
    *args, **kwargs
        As ophyd's Device has them.
    """

    acquire = _setting("cam1:Acquire")
    acquire_time = Component(EpicsSignal, "cam1:AcquireTime", kind="config")
    state = _said("cam1:DetectorState_RBV", string=True)
    message = _said("cam1:StatusMessage_RBV", string=True)
    columns = _said("cam1:SizeX_RBV")
    rows = _said("cam1:SizeY_RBV")
    data_type = _said("cam1:DataType_RBV", string=True)
    image = _said("image1:ArrayData")
    """The last frame, row after row, for live displays; what is stored comes from the file."""
    files = Component(HdfWriter, "HDF1:", kind="normal")
    shutter = _setting("shutter", string=True)
    sample = _setting("sample", string=True)

    measurement: Measurement = "transmission"
    """A camera: it counts photons."""

    def __init__(self, *args: Any, rotation_axis: float | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rotation_axis = rotation_axis
        """Column of the rotation axis, where it is known."""

    def trigger(self) -> Status:
        """One exposure; done once its frame is in the file."""
        status = Status(obj=self)
        asked = self.acquire.set(1, timeout=float(self.acquire_time.get()) + _ANSWER_S)
        asked.add_callback(lambda exposed: self._conclude(exposed, status))
        return status

    def stop(self, *, success: bool = False) -> None:
        """Gives up the exposure under way; what triggered it fails.

        Parameters
        ----------
        success
            Makes no difference: a frame that is missing stays missing.
        """
        del success  # the IOC cannot be told, and a frame that is missing stays missing
        self.acquire.put(0, wait=False)

    def make_data_key(self) -> dict[str, Any]:
        """What the image's data key says; ophyd's file plugins ask their detector."""
        shape = [int(self.files.frames_per_point.get()), int(self.rows.get()), int(self.columns.get())]
        kind = np.dtype(self.data_type.get().lower()).str
        source = f"PV:{self.image.pvname}"
        return {"source": source, "dtype": "array", "shape": shape, "dtype_numpy": kind, "external": "FILESTORE:"}

    def collect_asset_docs(self) -> Iterator[Any]:
        """Documents of the file, for the RunEngine."""
        yield from self.files.collect_asset_docs()

    def _conclude(self, exposed: Status, status: Status) -> None:
        """On ophyd's callback thread."""
        error = exposed.exception()
        if error is None and (state := self.state.get()) != "Idle":
            error = InputError(f"{self.name} took no frame: {state} {self.message.get()}".rstrip())
        if error is not None:
            status.set_exception(error)
            return
        self.files.generate_datum(f"{self.name}_image", time.time(), {})
        status.set_finished()


@dataclass(frozen=True, slots=True, eq=False)
class EpicsBeamline:
    """Devices that are connected, and the IOC behind them."""

    detector: EpicsDetector
    """Triggers exposures."""
    rotation: EpicsMotor
    """Turns the sample."""
    ioc: IocProcess
    """Behind both."""


@contextlib.contextmanager
def epics_beamline(
    make_source: Callable[[], ImageSource],
    folder: Path,
    *,
    exposure_s: float,
    rotation_axis: float | None = None,
) -> Iterator[EpicsBeamline]:
    """Starts the IOC and connects to it.

    Channel Access of this process speaks to this beamline alone from here on, also after the end: ophyd's layers go on
    searching for what was lost, which must not happen on a facility's network.

    Parameters
    ----------
    make_source
        As in `running_ioc`.
    folder
        That the detector writes into.
    exposure_s
        Seconds that each frame takes.
    rotation_axis
        Column of the rotation axis; None where it is not known.

    Yields
    ------
    EpicsBeamline
        Until the block ends.

    Raises
    ------
    ServiceError
        The IOC does not start or does not answer.
    """
    with running_ioc(make_source, f"pfitre:{uuid4().hex[:8]}:") as ioc:
        os.environ |= ioc.client_environment
        _use_caproto()
        rotation = EpicsMotor(f"{ioc.prefix}rotation", name="rotation", timeout=_ANSWER_S)
        detector = EpicsDetector(ioc.prefix, name="detector", rotation_axis=rotation_axis)
        try:
            _connect(ioc, rotation, detector)
            detector.acquire_time.put(exposure_s)
            detector.files.save_in(folder)
            yield EpicsBeamline(detector, rotation, ioc)
        finally:
            detector.destroy()
            rotation.destroy()


def _use_caproto() -> None:
    """pyepics reads the addresses once, when ophyd is imported; caproto reads them at every search."""
    if ophyd.get_cl().name != "caproto":
        ophyd.set_cl("caproto")
    # A busy machine answers late; refused once a signal exists, which has these values then, or its owner's.
    with contextlib.suppress(RuntimeError):
        EpicsSignalBase.set_defaults(timeout=_ANSWER_S)


def _connect(ioc: IocProcess, *devices: Device) -> None:
    for device in devices:
        try:
            device.wait_for_connection(all_signals=True, timeout=_CONNECT_S)
        except TimeoutError as error:
            raise ServiceError(
                f"the simulated EPICS beamline at {ioc.address} does not answer over Channel Access: {error}"
            ) from error

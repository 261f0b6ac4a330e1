"""The IOC of a simulated beamline (caproto): rotation stage, sample stage, shutter, and a detector that writes HDF5.

Its process variables, behind the prefix:

    rotation                     motor record, degrees, turns at SPEED
    shutter, sample              "open" or "closed", "in" or "out"; a put completes when it has got there
    cam1:Acquire, AcquireTime    a put of 1 exposes once and completes when the frame is in the file; 0 gives up
    cam1:DetectorState_RBV, StatusMessage_RBV, ArrayCounter_RBV, SizeX_RBV, SizeY_RBV, DataType_RBV
    image1:ArrayData             the last frame, row after row
    HDF1:FilePath, FileName, Capture, NumCaptured_RBV, FullFileName_RBV, WriteMessage
                                 Capture of 1 opens a file for reading while it is written, 0 closes it
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from caproto import ChannelType
from caproto.asyncio.server import Context
from caproto.ioc_examples.fake_motor_record import FakeMotor
from caproto.server import PVGroup, SubGroup, pvproperty

from pfitre_service.twin.beamlines.frame_file import EPICS_EPOCH, IMAGES, TIME_STAMPS, Entry, GrowingFile
from pfitre_service.twin.image_sources import ImageSource, look

logger = logging.getLogger(__name__)

SPEED = 30.0
"""Of the rotation, in degrees per second."""
TRAVEL_S = 0.2
"""Seconds that shutter and sample stage take from one place to the other."""

_two_way = partial(pvproperty, dtype=ChannelType.ENUM)
_text = partial(pvproperty, dtype=ChannelType.CHAR, value="", max_length=1024)
_number = partial(pvproperty, value=0, read_only=True)


async def _travel(ioc: BeamlineIoc, instance: Any, goal: str) -> str:
    """The variable says where it came from until it has got there."""
    if instance.value != goal:
        await asyncio.sleep(TRAVEL_S)
    return goal


async def _acquire(ioc: BeamlineIoc, instance: Any, value: int) -> int:
    await (ioc.expose() if value else ioc.give_up())
    return 0


async def _capture(ioc: BeamlineIoc, instance: Any, value: int) -> int:
    ioc.close()
    return int(value and await ioc.open())


class BeamlineIoc(PVGroup):  # type: ignore[misc]  # caproto has no types
    """All devices; what the detector sees depends on where the others stand.

    Parameters
    ----------
    prefix
        Of its process variables.
    source
        What the detector sees.
    """

    rotation = SubGroup(
        FakeMotor, prefix="rotation", velocity=SPEED, user_limits=(-180.0, 180.0), precision=4, tick_rate_hz=50.0
    )
    shutter = _two_way(name="shutter", value="open", enum_strings=["open", "closed"], put=_travel)
    sample = _two_way(name="sample", value="in", enum_strings=["in", "out"], put=_travel)
    acquire = pvproperty(name="cam1:Acquire", value=0, put=_acquire)
    acquire_time = pvproperty(name="cam1:AcquireTime", value=0.1, units="s", precision=3)
    state = _two_way(name="cam1:DetectorState_RBV", value="Idle", enum_strings=["Idle", "Acquire", "Aborted", "Error"])
    message = _text(name="cam1:StatusMessage_RBV", read_only=True)
    exposures = _number(name="cam1:ArrayCounter_RBV")
    columns = _number(name="cam1:SizeX_RBV")
    rows = _number(name="cam1:SizeY_RBV")
    data_type = pvproperty(name="cam1:DataType_RBV", value="", dtype=ChannelType.STRING, read_only=True)
    image: Any
    """image1:ArrayData; see `make_ioc`."""
    path = _text(name="HDF1:FilePath")
    file_name = _text(name="HDF1:FileName")
    capture = pvproperty(name="HDF1:Capture", value=0, put=_capture)
    captured = _number(name="HDF1:NumCaptured_RBV")
    full_name = _text(name="HDF1:FullFileName_RBV", read_only=True)
    write_message = _text(name="HDF1:WriteMessage", read_only=True)

    def __init__(self, prefix: str, source: ImageSource) -> None:
        super().__init__(prefix=prefix)
        self._source = source
        self._file: GrowingFile | None = None
        self._give_up = asyncio.Event()

    async def describe_frames(self) -> None:
        """Shape and dtype of the frames to come, for clients."""
        await self.rows.write(self._source.shape[0])
        await self.columns.write(self._source.shape[1])
        await self.data_type.write(self._source.dtype.name)
        await self.rotation.motor.field_inst.engineering_units.write("deg")

    async def expose(self) -> None:
        """One exposure, unless one is under way; what came of it, `state` and `message` say."""
        if self.state.value == "Acquire":
            await self.message.write("an exposure was asked for while another was under way: ignored")
            return
        self._give_up.clear()
        await self.state.write("Acquire")
        try:
            state, message = await self._take(), ""
        except Exception as error:
            # The edge of the detector: whoever triggered it reads what went wrong.
            logger.exception("no frame")
            state, message = "Error", str(error)
        await self.message.write(message)
        await self.state.write(state)

    async def give_up(self) -> None:
        """The exposure under way ends without a frame."""
        self._give_up.set()

    async def open(self) -> bool:
        """Starts the file that the variables name; False, with a message, where it cannot be written."""
        path = Path(self.path.value) / f"{self.file_name.value}.h5"
        image = Entry(self._source.shape, self._source.dtype.str)
        try:
            self._file = GrowingFile(path, {IMAGES: image, TIME_STAMPS: Entry((), "<f8")})
        except (OSError, RuntimeError, ValueError) as error:
            await self.write_message.write(f"{path} cannot be written: {error}")
            return False
        await self.full_name.write(str(path))
        await self.write_message.write("")
        await self.captured.write(0)
        return True

    def close(self) -> None:
        """Ends the file."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    async def _take(self) -> str:
        ends_at = time.monotonic() + self.acquire_time.value
        frame = await asyncio.to_thread(self._look())
        try:
            await asyncio.wait_for(self._give_up.wait(), max(0.0, ends_at - time.monotonic()))
        except TimeoutError:
            await self._deliver(frame)
            return "Idle"
        return "Aborted"

    def _look(self) -> Callable[[], Any]:
        angle = float(self.rotation.motor.field_inst.user_readback_value.value)
        return partial(look, self._source, angle=angle, shutter=self.shutter.value, sample=self.sample.value)

    async def _deliver(self, frame: Any) -> None:
        if self._file is not None:
            self._file.append({IMAGES: frame, TIME_STAMPS: time.time() - EPICS_EPOCH})
            await self.captured.write(self._file.written)
        await self.image.write(np.asarray(frame, np.int32).ravel())
        await self.exposures.write(self.exposures.value + 1)


def make_ioc(prefix: str, source: ImageSource) -> BeamlineIoc:
    """An IOC whose image is as long as the source's frames: clients set memory aside for as much as may come.

    Parameters
    ----------
    prefix
        Of its process variables.
    source
        What the detector sees.

    Returns
    -------
    BeamlineIoc
        Not serving yet.
    """

    class Ioc(BeamlineIoc):
        image = pvproperty(name="image1:ArrayData", value=[0], max_length=int(np.prod(source.shape)), read_only=True)

    return Ioc(prefix, source)


async def serve(ioc: BeamlineIoc, on_ready: Callable[[], None]) -> None:
    """Answers until it is cancelled; where, the EPICS variables of this process say.

    Parameters
    ----------
    ioc
        What answers.
    on_ready
        Called once it does.
    """

    async def ready(async_lib: Any) -> None:
        await ioc.describe_frames()
        on_ready()

    try:
        await Context(ioc.pvdb).run(startup_hook=ready)
    finally:
        ioc.close()

"""A rotation stage and a detector that a real RunEngine can drive (ophyd)."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ophyd import Component, Device, Signal
from ophyd.status import Status

from pfitre_service.errors import InputError
from pfitre_service.model import Measurement
from pfitre_service.twin.image_sources import ImageSource, look

logger = logging.getLogger(__name__)

_SPARE_S = 30.0
"""Seconds beyond its planned end after which a move or an exposure counts as failed."""

# The statuses below are no ophyd DeviceStatus: when that fails, it stops its device a moment later, from a thread of
# its own, and with it the move or exposure that has been started since.


class AngleSignal(Signal):  # type: ignore[misc]  # ophyd has no types
    """A number in degrees that says so in its descriptor."""

    def describe(self) -> dict[str, Any]:
        """Data key of the signal, with its unit."""
        described: dict[str, Any] = super().describe()
        described[self.name] |= {"dtype": "number", "dtype_numpy": "<f8", "units": "deg", "precision": 3}
        return described


class ImageSignal(Signal):  # type: ignore[misc]
    """An image whose shape and dtype are known before the first frame."""

    def expect(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """Says what every image to come is like.

        Parameters
        ----------
        shape
            (rows, columns).
        dtype
            Of the pixels.
        """
        self.put(np.zeros(shape, dtype))
        self._expected = {"dtype": "array", "shape": list(shape), "dtype_numpy": dtype.str}

    def describe(self) -> dict[str, Any]:
        """Data key of the signal, with shape and dtype."""
        described: dict[str, Any] = super().describe()
        described[self.name] |= self._expected
        return described


class TwoWaySignal(Signal):  # type: ignore[misc]
    """Something that stands in one of two places, such as a shutter; it gets there at once.

    Parameters
    ----------
    places
        Names of the two; it begins in the first.
    *args, **kwargs
        As ophyd's Signal has them.
    """

    def __init__(self, *args: Any, places: tuple[str, str], **kwargs: Any) -> None:
        super().__init__(*args, value=places[0], **kwargs)
        self._places = places

    def put(self, value: str, **kwargs: Any) -> None:
        """Goes there.

        Parameters
        ----------
        value
            One of the two places.
        **kwargs
            As ophyd's Signal has them.

        Raises
        ------
        InputError
            The value is no such place.
        """
        if value not in self._places:
            raise InputError(f"{self.name} can be {self._places[0]!r} or {self._places[1]!r}; got {value!r}")
        super().put(value, **kwargs)

    def set(self, value: str, **kwargs: Any) -> Status:
        """Goes there, as a plan asks for it.

        Parameters
        ----------
        value
            One of the two places.
        **kwargs
            As ophyd's Signal has them.

        Returns
        -------
        Status
            Finished already.
        """
        self.put(value, **kwargs)
        status = Status(obj=self)
        status.set_finished()
        return status


class RotationStage(Device):  # type: ignore[misc]
    """Turns the sample.

    Parameters
    ----------
    speed
        Degrees per second; infinite for a stage that is there at once.
    *args, **kwargs
        As ophyd's Device has them.

    Raises
    ------
    InputError
        The speed is not above 0.
    """

    readback = Component(AngleSignal, value=0.0, kind="hinted")
    setpoint = Component(AngleSignal, value=0.0, kind="normal")
    egu = "deg"

    def __init__(self, *args: Any, speed: float = float("inf"), **kwargs: Any) -> None:
        if not speed > 0:
            raise InputError(f"a stage turns at more than 0 degrees per second; got {speed}")
        super().__init__(*args, **kwargs)
        self.readback.name = self.name
        self._speed = speed
        self._lock = threading.Lock()
        self._move: _Move | None = None

    @property
    def position(self) -> float:
        """Degrees."""
        return float(self.readback.get())

    def set(self, value: float) -> Status:
        """Starts to turn; a move under way is given up where it stands.

        Parameters
        ----------
        value
            Degrees.

        Returns
        -------
        Status
            Finished once the stage is there.

        Raises
        ------
        InputError
            The value is not finite.
        """
        target = float(value)
        if not np.isfinite(target):
            raise InputError(f"{self.name} was sent to {value!r}: an angle must be a finite number of degrees")
        self.stop()
        self.setpoint.put(target)
        duration = abs(target - self.position) / self._speed
        status = Status(obj=self, timeout=duration + _SPARE_S)
        if duration == 0:
            self.readback.put(target)
            status.set_finished()
            return status
        with self._lock:
            self._move = _Move(self.position, target, duration, status, self._arrive, f"{self.name}-move")
            self._move.timer.start()
        return status

    def stop(self, *, success: bool = False) -> None:
        """Stands still where the stage is now.

        Parameters
        ----------
        success
            Whether the move under way counts as done; else it fails.
        """
        with self._lock:
            move, self._move = self._move, None
        if move is None:
            return
        move.timer.cancel()
        self.readback.put(move.position_now())
        if success:
            move.status.set_finished()
        else:
            move.status.set_exception(InterruptedError(f"{self.name} was stopped at {self.position:.3f} degrees"))

    def unstage(self) -> list[object]:
        """The devices that were unstaged; a move under way ends where it stands."""
        self.stop(success=True)
        return list(super().unstage())

    def _arrive(self, move: _Move) -> None:
        """On the timer's thread."""
        with self._lock:
            if self._move is not move:  # stopped while the timer fired
                return
            self._move = None
        self.readback.put(move.target)
        move.status.set_finished()


class _Move:
    """One move on its way."""

    def __init__(self, start: float, target: float, duration: float, status: Status, arrive: Any, name: str) -> None:
        self.target, self.status = target, status
        self._start, self._duration, self._since = start, duration, time.monotonic()
        self.timer = threading.Timer(duration, arrive, args=(self,))
        self.timer.name, self.timer.daemon = name, True

    def position_now(self) -> float:
        done = min(1.0, (time.monotonic() - self._since) / self._duration)
        return self._start + done * (self.target - self._start)


class TomoDetector(Device):  # type: ignore[misc]
    """A detector behind a rotation stage: a trigger exposes at the angle where the stage stands.

    What is seen depends on `shutter` ("open" or "closed") and `sample` ("in" or "out"). The exposure takes
    `exposure_s` seconds of real time and blocks nobody; the image comes with its end.

    Parameters
    ----------
    source
        What there is to be seen.
    stage
        The stage whose angle counts.
    exposure_s
        Seconds that an exposure takes.
    *args, **kwargs
        As ophyd's Device has them.

    Raises
    ------
    InputError
        The exposure is negative or infinite.
    """

    image = Component(ImageSignal, kind="normal")
    exposure_s = Component(Signal, value=0.1, kind="config")
    # Not recorded with the events: the stream (dark, flat, primary) says where they stood.
    shutter = Component(TwoWaySignal, places=("open", "closed"), kind="omitted")
    sample = Component(TwoWaySignal, places=("in", "out"), kind="omitted")

    def __init__(
        self, *args: Any, source: ImageSource, stage: RotationStage, exposure_s: float = 0.1, **kwargs: Any
    ) -> None:
        if not 0 <= exposure_s < float("inf"):
            raise InputError(f"an exposure takes 0 seconds or more; got {exposure_s}")
        super().__init__(*args, **kwargs)
        self._source = source
        self._rotation = stage
        self.exposure_s.put(float(exposure_s))
        self._expect(source)
        self._interrupt = threading.Event()
        self._give_up_quietly = False
        self._exposure: threading.Thread | None = None

    @property
    def measurement(self) -> Measurement:
        """What the images hold: counts, or line integrals."""
        return self._source.measurement

    @property
    def rotation_axis(self) -> float | None:
        """Column of the rotation axis, where it is known."""
        return self._source.rotation_axis

    def trigger(self) -> Status:
        """Status of an exposure that is started now; one that is still under way is given up."""
        self.stop(success=True)
        self._interrupt.clear()
        status = Status(obj=self, timeout=float(self.exposure_s.get()) + _SPARE_S)
        self._exposure = threading.Thread(
            target=self._expose, args=(status,), name=f"{self.name}-exposure", daemon=True
        )
        self._exposure.start()
        return status

    def stop(self, *, success: bool = False) -> None:
        """Ends the exposure under way, if any, without an image.

        Parameters
        ----------
        success
            Whether its status counts as done; else it fails.
        """
        exposure, self._exposure = self._exposure, None
        if exposure is not None:
            self._give_up_quietly = success
            self._interrupt.set()
            exposure.join(_SPARE_S)

    def unstage(self) -> list[object]:
        """The devices that were unstaged; an exposure under way ends without an image."""
        # Nobody waits for an image any more, and a failure now would break into the plan's clean-up.
        self.stop(success=True)
        return list(super().unstage())

    def _expose(self, status: Status) -> None:
        """On the exposure's thread."""
        end = time.monotonic() + float(self.exposure_s.get())
        try:
            image = self._look()
        except Exception as error:
            # The thread's edge: the RunEngine raises what the status carries.
            logger.exception("%s: no image at %.3f degrees", self.name, self._rotation.position)
            status.set_exception(error)
            return
        if not self._interrupt.wait(max(0.0, end - time.monotonic())):
            self._deliver(image)
            status.set_finished()
        elif self._give_up_quietly:
            status.set_finished()
        else:
            status.set_exception(InterruptedError(f"{self.name}: the exposure was cut short"))

    def _expect(self, source: ImageSource) -> None:
        """Prepare for the images of `source`."""
        self.image.expect(source.shape, source.dtype)

    def _deliver(self, image: NDArray[Any]) -> None:
        """What happens to an image when its exposure ends."""
        self.image.put(image)

    def _look(self) -> NDArray[Any]:
        angle = self._rotation.position
        return look(self._source, angle=angle, shutter=self.shutter.get(), sample=self.sample.get())

"""Which documents of a beamline make a tomogram: the `[documents]` table of its profile."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pfitre_service.errors import SettingsError
from pfitre_service.model import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRules:
    """How the documents of one beamline are read."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    rotation: str | None = None
    """Data key of the rotation angle; by default the one angle that the start document's hints or motors name."""
    image: str | None = None
    """Data key of the detector image; by default the only data key with two axes (or three, frames first)."""
    angle_unit: Literal["degrees", "radians"] = "degrees"
    """Unit of the rotation's values, wherever they stand."""
    angle_from: Literal["event", "file", "start"] = "event"
    """Where angles stand. `event`: under the data key `rotation`, as a value or as a reference to a file; `file`: in
    the dataset `angle_dataset` of the images' own file, one a frame; `start`: evenly spaced, as the start document's
    keys `angle_start_keys` say."""
    angle_dataset: str = ""
    """For `angle_from = "file"`: path of the dataset inside the HDF5 file."""
    angle_start_keys: tuple[str, str, str] = ("min_theta", "max_theta", "num_projections")
    """For `angle_from = "start"`: keys of the first angle, the last one, and the number of projections."""
    roots: tuple[str, ...] = ()
    """Folders that detector files may be read from; nothing outside them is opened, through links and `..` neither."""
    file_wait_s: float = 120.0
    """An announced frame whose file cannot be read for so many seconds is given up."""
    projection_streams: tuple[str, ...] = ("primary",)
    """Names of the streams that hold projections."""
    flat_streams: tuple[str, ...] = ("flat", "flats")
    """Names of the streams that hold flat fields (beam without sample)."""
    dark_streams: tuple[str, ...] = ("dark", "darks")
    """Names of the streams that hold dark fields (no beam)."""
    measurement: Literal["auto", "transmission", "line_integral"] = "auto"
    """What the images hold; `auto` follows the start document's key `measurement`, and is transmission without it."""
    abandon_after_s: float = 3600.0
    """A run that was silent for so many seconds without a stop document is given up."""
    hold_s: float = 10.0
    """Documents that came before their start or descriptor wait for it at least so many seconds."""
    max_held: int = 32
    """So many documents may wait for their start or descriptor; the oldest gives way (images count in full)."""
    max_open_runs: int = 32
    """So many runs may be open at once; one more, and the one silent for the longest time is given up."""

    def __post_init__(self) -> None:
        streams = Counter((*self.projection_streams, *self.flat_streams, *self.dark_streams))
        twice = [name for name, count in streams.items() if count > 1]
        if twice or not self.projection_streams:
            raise SettingsError(
                "documents: each stream has one role, and projections need one; "
                f"got {', '.join(map(repr, twice)) + ' twice' if twice else 'no projection_streams'}"
            )
        if (self.angle_from == "file") != bool(self.angle_dataset):
            raise SettingsError(
                "documents: angle_dataset goes with angle_from = 'file' and only with it; "
                f"got angle_from {self.angle_from!r} and angle_dataset {self.angle_dataset!r}"
            )
        if self.file_wait_s <= 0:
            raise SettingsError(f"documents: file_wait_s must be over 0; got {self.file_wait_s}")
        if self.abandon_after_s <= 0 or self.hold_s < 0 or self.max_held < 0 or self.max_open_runs < 1:
            raise SettingsError(
                "documents: abandon_after_s must be over 0, hold_s and max_held 0 or more, max_open_runs 1 or more; "
                f"got {self.abandon_after_s}, {self.hold_s}, {self.max_held}, {self.max_open_runs}"
            )

    def role_of(self, stream: str) -> Role | None:
        """What frames of the stream `stream` are; None for a stream that holds none, such as `baseline`."""
        if stream in self.projection_streams:
            return "projection"
        if stream in self.flat_streams:
            return "flat"
        return "dark" if stream in self.dark_streams else None

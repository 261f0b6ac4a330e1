"""What a beamline may set about the way from counts to line integrals."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pfitre_service.errors import SettingsError

_SHARES = (
    "minimum_transmission",
    "dead_below_neighbours",
    "dead_below_typical",
    "maximum_bad_share",
    "maximum_blocked_share",
)
_CONFIG: dict[str, Any] = {"extra": "forbid", "use_attribute_docstrings": True}


@dataclass(frozen=True, slots=True)
class PhaseParameters:
    """Single-distance phase retrieval; off while `delta_over_beta` is 0."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _CONFIG

    delta_over_beta: float = 0.0
    """Decrement of the refractive index over its absorption part, one number for the whole sample; 0: no retrieval."""
    energy_kev: float = 0.0
    """Energy of the photons."""
    distance_mm: float = 0.0
    """From the sample to the detector, divided by the magnification where there is one."""
    pixel_size_nm: float = 0.0
    """Size of a detector pixel in the sample, before binning."""

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in self.__slots__}
        wrong = {name: value for name, value in values.items() if not (math.isfinite(value) and value >= 0)}
        if self.delta_over_beta > 0:
            wrong |= {name: value for name, value in values.items() if value == 0}
        if wrong:
            raise SettingsError(
                f"preprocess.phase: phase retrieval needs finite numbers above 0 for {', '.join(values)}; got {wrong}"
            )


@dataclass(frozen=True, slots=True)
class PreprocessParameters:
    """The chain from counts to line integrals; what each step does stands in `to_line_integrals`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _CONFIG

    rows: tuple[int, int] | None = None
    """First detector row that is used and the first one after it; all rows by default."""
    columns: tuple[int, int] | None = None
    """First detector column that is used and the first one after it; all columns by default."""
    bin: int = 1
    """So many pixels become one, along rows and columns; what is left over at the end is not used."""
    minimum_transmission: float = 1e-3
    """Transmission below this (zero and negative counts included) counts as this: the floor under the logarithm.
    The default allows line integrals up to 6.9."""
    dead_below_neighbours: float = 0.25
    """A pixel is dead when its flat field is below this share of the median of its 7 x 7 neighbourhood."""
    dead_below_typical: float = 0.01
    """A pixel is dead, or outside the beam, when its flat field is below this share of the detector's median."""
    maximum_bad_share: float = 0.25
    """A frame is unusable when more than this share of its pixels is dead, not finite, or an outlier."""
    maximum_blocked_share: float = 0.7
    """A frame is unusable, for the beam was off or something stood in it, when more than this share of its pixels is
    at the floor of the transmission."""
    outlier_sigmas: float = 0.0
    """A pixel is an outlier (cosmic ray, scattered photon) when it stands so many standard deviations of the frame's
    own noise, and a fifth, above the median of its 3 x 3 neighbourhood. 0 looks for none; 10 is safe."""
    air_columns: int = 0
    """So many columns at either edge see no sample in any frame: their median sets the intensity of each frame, for
    the beam has changed since the flats. 0 where there are none, or nothing is known of them."""
    phase: PhaseParameters = field(default_factory=PhaseParameters)
    """Single-distance phase retrieval."""
    stripes: Literal["off", "auto", "sorting"] = "auto"
    """Columns that are wrong at all angles, which become rings. `auto`: narrow ones that stay the same over a whole
    scan of 170 degrees or more, harmless where there are none, and wide ones too where columns are wrong all over the
    detector; `sorting`: algotom's sorting, from 65 degrees on, which takes edges of the sample near the axis for
    stripes; `off`: they stay."""
    weights: Literal["off", "counts"] = "counts"
    """`counts`: an angle counts as much as the photons of its frame beside the flats', which `air_columns` tell;
    `off`: all the same."""

    def __post_init__(self) -> None:
        for name in _SHARES:
            if not 0 < getattr(self, name) < 1:
                raise SettingsError(
                    f"preprocess.{name} must lie between 0 and 1, both excluded; got {getattr(self, name)!r}"
                )
        for name in ("rows", "columns"):
            chosen = getattr(self, name)
            if chosen is not None and not 0 <= chosen[0] < chosen[1]:
                raise SettingsError(f"preprocess.{name} must be the first and, larger, the one after; got {chosen}")
        if (
            self.bin < 1
            or self.air_columns < 0
            or not (math.isfinite(self.outlier_sigmas) and self.outlier_sigmas >= 0)
        ):
            raise SettingsError(
                "preprocess.bin must be 1 or more, air_columns and outlier_sigmas 0 or more; "
                f"got {self.bin}, {self.air_columns}, {self.outlier_sigmas}"
            )

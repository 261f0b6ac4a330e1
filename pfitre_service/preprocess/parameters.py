"""What a beamline may set about the way from counts to line integrals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pfitre_service.errors import SettingsError


@dataclass(frozen=True, slots=True)
class PreprocessParameters:
    """Thresholds of the flat field correction, the logarithm and the repair of bad pixels."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    minimum_transmission: float = 1e-3
    """Transmission below this (zero and negative counts included) counts as this: the floor under the logarithm.
    The default allows line integrals up to 6.9."""
    dead_below_neighbours: float = 0.25
    """A pixel is dead when its flat field is below this share of the median of its 7 x 7 neighbourhood."""
    dead_below_typical: float = 0.01
    """A pixel is dead, or outside the beam, when its flat field is below this share of the detector's median."""
    maximum_bad_share: float = 0.25
    """A frame is unusable when more than this share of its pixels is dead or not finite."""
    maximum_blocked_share: float = 0.9
    """A frame is unusable, for the beam was off, when more than this share of its good pixels is at the floor of the
    transmission."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not 0 < value < 1:
                raise SettingsError(f"preprocess.{name} must lie between 0 and 1, both excluded; got {value!r}")

"""Units of angles, as descriptors and files name them."""

from __future__ import annotations

import math
from typing import Literal

AngleUnit = Literal["auto", "degrees", "radians"]
"""`auto`: what the documents themselves say, degrees where they say nothing."""

_NAMES = {
    1.0: ("deg", "degs", "degree", "degrees", "°"),
    1e-3: ("mdeg", "mdegs", "millidegree", "millidegrees", "m°"),
    1e-6: ("udeg", "µdeg", "μdeg", "microdegree", "microdegrees"),
    math.degrees(1.0): ("rad", "rads", "radian", "radians"),
    math.degrees(1e-3): ("mrad", "mrads", "milliradian", "milliradians"),
    math.degrees(1e-6): ("urad", "urads", "µrad", "μrad", "microradian", "microradians"),
    1 / 60: ("arcmin", "arcminute", "arcminutes"),
    1 / 3600: ("arcsec", "arcsecond", "arcseconds"),
    360.0: ("turn", "turns", "rev", "revolution", "revolutions"),
}
DEGREES_PER: dict[str, float] = {name: factor for factor, names in _NAMES.items() for name in names}
"""By the unit's name in small letters."""
KNOWN = ", ".join(names[0] for names in _NAMES.values())


def degrees_per(unit: str) -> float | None:
    """How many degrees one of `unit` is; None for a unit that is none of an angle. Case and blanks do not matter."""
    return DEGREES_PER.get(unit.strip().lower())

"""The samples that the twin can put into the beam, by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pfitre_service.twin.chip import layered_chip
from pfitre_service.twin.particle import battery_particle

Phantom = Callable[..., NDArray[np.float32]]
"""phantom((z, y, x), seed=0) -> (z, y, x) float32, relative attenuations from 0 to about 1."""

PHANTOMS: dict[str, Phantom] = {
    "layered_chip": layered_chip,
    "battery_particle": battery_particle,
}

"""The volumes of one revision, as they are published."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfitre_service.engine.quality import Statement


@dataclass(frozen=True, eq=False)
class Volumes:
    """(z, y, x) float32; before the first iteration the volume is the preview, alone."""

    volume: NDArray[np.float32]
    physics: NDArray[np.float32] | None = None
    """The data alone."""
    expected_error: NDArray[np.float32] | None = None
    """|x - truth| to be expected of each voxel, in the volume's own unit."""
    inferred: NDArray[np.float32] | None = None
    """The part of the volume that no angle measured, in its own unit; the volume less this was measured."""
    preview: NDArray[np.float32] | None = None
    """Filtered back-projection of the same angles."""
    prior_gap: NDArray[np.float32] | None = None
    """|z - x|: where prior and data disagree, in the volume's own unit; zero without a prior."""
    statement: Statement | None = None
    """How far the volume may be believed."""

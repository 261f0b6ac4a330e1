"""The volumes of one revision, as they are published: with and without the maps that say how far they hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfitre_service.engine.assessment import Statement


@dataclass(frozen=True, eq=False)
class Volumes:
    """(z, y, x) float32."""

    volume: NDArray[np.float32]
    """Before the first iteration the preview."""

    def beside(self) -> dict[str, NDArray[np.float32]]:
        """What is published beside the volume, by name."""
        return {}


@dataclass(frozen=True, eq=False)
class SolvedVolumes(Volumes):
    """Of a solver."""

    physics: NDArray[np.float32]
    """(z, y, x) float32: the data alone."""

    def beside(self) -> dict[str, NDArray[np.float32]]:
        """The data alone."""
        return {"physics": self.physics}


@dataclass(frozen=True, eq=False)
class AssessedVolumes(SolvedVolumes):
    """With maps, all (z, y, x) float32 in the volume's own unit."""

    expected_error: NDArray[np.float32]
    """|x - truth| to be expected of each voxel."""
    inferred: NDArray[np.float32]
    """The part of the volume that no angle measured; the volume less this was measured."""
    preview: NDArray[np.float32]
    """Filtered back-projection of the same angles."""
    prior_gap: NDArray[np.float32]
    """|z - x|: where prior and data disagree; zero without a prior."""
    statement: Statement
    """How far the volume may be believed."""

    def beside(self) -> dict[str, NDArray[np.float32]]:
        """The data alone, the maps and the preview."""
        return {
            "physics": self.physics,
            "expected_error": self.expected_error,
            "inferred": self.inferred,
            "preview": self.preview,
        }

"""What may be set about the solver; imports nothing heavy, so that settings can be read without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal


@dataclass(frozen=True)
class AdmmParameters:
    """How the solver balances, iterates and stops."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    rho: float = 0.3
    """Pull of the prior on the data step, as a share of the summed weights of the angles."""
    cg_iterations: int = 6
    """Conjugate-gradient iterations of one data step (warm-started)."""
    physics_rho: float = 0.1
    """Tikhonov weight of the physics-only volume, as a share of the summed weights."""
    tolerance: float = 5e-3
    """The solver stops when ||x - x_previous|| / ||x|| stays below this for three steps, or when the held-out error
    stays above its least for three."""
    max_iterations: int = 40
    """Steps after the last angle at the most, converged or not."""

    def __post_init__(self) -> None:
        for name in ("rho", "physics_rho", "tolerance"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value}")
        for name in ("cg_iterations", "max_iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class CalibrationParameters:
    """How rotation axis and drift are found from the projections while the scan runs."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    rotation_axis: float | Literal["auto", "middle"] = "auto"
    """Column of the rotation axis, whatever the run says of it; `auto`: what the run says, found from the projections
    where it says nothing; `middle`: what the run says, else the detector's middle."""
    drift: bool = True
    """Whether each projection's own horizontal shift is found, by comparing it with what the others predict."""
    tolerance: float = 0.25
    """Columns by which axis or shifts must change before the frames are added again."""
    slices: int = 8
    """Bright slices that axis and shifts are found from; they are kept in memory for every projection."""

    def __post_init__(self) -> None:
        if isinstance(self.rotation_axis, float) and not math.isfinite(self.rotation_axis):
            raise ValueError(f"rotation_axis must be a column, auto or middle; got {self.rotation_axis}")
        if not (math.isfinite(self.tolerance) and self.tolerance > 0):
            raise ValueError(f"tolerance must be a positive number of columns, got {self.tolerance}")
        if self.slices < 1:
            raise ValueError(f"slices must be at least 1, got {self.slices}")

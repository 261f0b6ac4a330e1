"""What may be set about the priors; imports nothing heavy, so that settings can be read without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal


@dataclass(frozen=True)
class TvParameters:
    """How strongly and how exactly total variation smooths."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    weight: float | Literal["auto"] = "auto"
    """Height of a step that is smoothed away, as a share of the tomogram's own scale of values; `auto`: the one that
    predicts held-out projections best, looked for while the scan runs."""
    iterations: int = 8
    """Dual iterations a call; the dual variable is kept from call to call."""

    def __post_init__(self) -> None:
        if self.weight != "auto" and not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"weight must be zero or positive, or auto, got {self.weight}")
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations}")

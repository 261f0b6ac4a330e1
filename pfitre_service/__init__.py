"""Live, trustworthy limited-angle tomography for Bluesky beamlines.

from pfitre_service import reconstruct

result = reconstruct(projections, angles)   # (angle, row, column) line integrals; degrees
result.volume                               # (z, y, x) float32
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "reconstruct"]

if TYPE_CHECKING:
    from pfitre_service.engine.reconstruct import reconstruct


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: only who reconstructs pays for it.
    if name == "reconstruct":
        from pfitre_service.engine.reconstruct import reconstruct

        return reconstruct
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

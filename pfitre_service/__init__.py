"""Live, trustworthy limited-angle tomography for Bluesky beamlines.

from pfitre_service import reconstruct

result = reconstruct(projections, angles)   # (angle, row, column) line integrals; degrees
result.volume                               # (z, y, x) float32

`watch` follows a tomogram of a running service, `live_tomography` stores the scans of a RunEngine in this process.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Reconstruction", "__version__", "live_tomography", "reconstruct", "watch"]

if TYPE_CHECKING:
    from pfitre_service.client import watch
    from pfitre_service.engine.reconstruct import Reconstruction, reconstruct
    from pfitre_service.service.live_tomography import live_tomography

# torch takes seconds to import, and bluesky one: only who needs them pays for them.
_WHERE = {
    "Reconstruction": "pfitre_service.engine.reconstruct",
    "live_tomography": "pfitre_service.service.live_tomography",
    "reconstruct": "pfitre_service.engine.reconstruct",
    "watch": "pfitre_service.client",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

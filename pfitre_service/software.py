"""How this software signs what it makes: the one place that asks for versions."""

from __future__ import annotations

import platform
from importlib import metadata

_PACKAGES = ("numpy", "torch", "tiled", "h5py", "zarr", "tifffile")


def signature() -> str:
    """Name and version, as catalogue, exported files and model cards have it."""
    return f"pfitre-service {metadata.version('pfitre-service')}"


def versions() -> dict[str, str]:
    """Of Python and of the packages that results depend on, by name."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}}

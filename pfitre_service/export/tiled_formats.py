"""Our exports as formats of Tiled: `client["tomograms"][id].export("chip.h5")` writes the NeXus file.

Tiled's own HDF5 of a container refuses metadata as nested as a tomogram's, and holds everything in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from pfitre_service.errors import InputError, StoreError
from pfitre_service.export.files import MEDIA_TYPES
from pfitre_service.export.load_tomogram import load_tomogram, pieces, unnamed_export
from pfitre_service.model import TomogramKey
from pfitre_service.store import layout
from pfitre_service.store.catalog import Catalog

if TYPE_CHECKING:
    from fastapi import FastAPI

_CONTAINER = "container"
_REQUEST_S = 120.0

Serializer = Callable[..., Awaitable[Any]]


def add_formats(app: FastAPI, url: str, api_key: str) -> None:
    """Adds the formats. Other containers keep what Tiled has.

    Parameters
    ----------
    app
        The Tiled server.
    url
        At which it answers.
    api_key
        Reads the tomogram, after Tiled has checked that who asks may.
    """
    registry = app.state.formats
    # Tiled's client takes the names h5, zip and tif for them, too.
    registry.register_alias("zip", "application/zip")
    for suffix, media_type in MEDIA_TYPES.items():
        before = registry.media_types(_CONTAINER).get(media_type)
        registry.register(_CONTAINER, media_type, _serializer(url, api_key, suffix, before))


def _serializer(url: str, api_key: str, suffix: str, otherwise: Serializer | None) -> Serializer:
    async def serialize(media_type: str, node: Any, metadata: Any, filter_for_access: Any) -> Any:
        from tiled.utils import SerializationError

        key = await _tomogram_of(node)
        if key is None and otherwise is not None:
            return await otherwise(media_type, node, metadata, filter_for_access)
        if key is None:
            raise SerializationError(f"{media_type} is for whole tomograms, tomograms/ID, alone")
        try:
            return await asyncio.to_thread(_written, url, api_key, key, suffix)
        except (InputError, StoreError) as error:
            raise SerializationError(str(error)) from error

    return serialize


async def _tomogram_of(node: Any) -> TomogramKey | None:
    """The tomogram that a node of the catalogue is; None for any other."""
    if not hasattr(node, "path_segments"):  # not from the catalogue
        return None
    segments = list(await node.path_segments())
    return TomogramKey(segments[1]) if len(segments) == 2 and segments[0] == layout.ROOT else None


def _written(url: str, api_key: str, key: TomogramKey, suffix: str) -> Iterator[bytes]:
    with Catalog.connect_to_read(url, api_key, request_timeout_s=_REQUEST_S) as catalog:
        content, _ = unnamed_export(load_tomogram(catalog, key), suffix)
    return pieces(content)

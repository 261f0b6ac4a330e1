"""How the processes of one service find its catalogue and the key to it."""

from __future__ import annotations

from pathlib import Path

from pfitre_service.addresses import format_address, reachable
from pfitre_service.config import Settings
from pfitre_service.errors import SettingsError
from pfitre_service.store.catalog import Catalog
from pfitre_service.store.server.data_folder import ensure_api_key


def catalog_url(settings: Settings) -> str:
    """Root address of the catalogue: an existing Tiled server's, or the embedded one's."""
    if settings.tiled.uri is not None:
        return settings.tiled.uri
    return f"http://{format_address(reachable(settings.tiled.host), settings.tiled.port)}"


def api_key(settings: Settings) -> str:
    """The key that writing needs: from `api_key_file`, or the one of the data folder, made at its first start.

    Raises SettingsError when the file cannot be read or holds no key, StoreError for the data folder's.
    """
    if settings.api_key_file is None:
        return ensure_api_key(settings.data_dir)
    return read_key(settings.api_key_file)


def read_key(path: Path) -> str:
    """The key in a file: letters and digits alone. Raises SettingsError."""
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the API key from api_key_file {path}: {error}") from error
    if not (key.isalnum() and key.isascii()):
        raise SettingsError(f"the API key in {path} must be ASCII letters and digits, for example 64 of them")
    return key


def connect_catalog(settings: Settings) -> Catalog:
    """A connection that may write; waits for the server to be there."""
    return Catalog.connect(
        catalog_url(settings),
        api_key(settings),
        timeout_s=settings.tiled.start_timeout_s,
        request_timeout_s=settings.tiled.request_timeout_s,
        data_dir=settings.data_dir if settings.tiled.uri is None else None,
    )

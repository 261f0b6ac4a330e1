"""Scans of a RunEngine in this process, stored for a running service."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pfitre_service.catalog_access import connect_catalog
from pfitre_service.config import Settings, load_settings
from pfitre_service.ingest import (
    LiveCallback,
)
from pfitre_service.service.ingestion import Ingestion, store_thread


@contextmanager
def live_tomography(profile: Path | None = None, settings: Settings | None = None) -> Iterator[LiveCallback]:
    """A callback for a RunEngine in this process, which stores its scans for a running service.

    Leaving the block delivers and writes what still waits.

    Parameters
    ----------
    profile
        Folder or file that describes the beamline; by default the settings of the environment.
    settings
        In place of a profile.

    Yields
    ------
    LiveCallback
        To be subscribed to the RunEngine.

    Raises
    ------
    StoreError
        The service's catalogue is not there, or refuses.

    Examples
    --------
    >>> with live_tomography(Path("my-beamline")) as live:  # doctest: +SKIP
    ...     RE.subscribe(live)
    ...     RE(tomo_scan(...))
    """
    chosen = settings if settings is not None else load_settings(profile)
    with connect_catalog(chosen) as catalog, store_thread(chosen, catalog) as store:
        receiver = f"callback on {socket.gethostname()}, pid {os.getpid()}"
        ingestion = Ingestion(chosen.documents, store, profile_name=chosen.profile_name, receiver=receiver)
        try:
            with LiveCallback(ingestion.handle) as live:
                yield live
        finally:
            ingestion.close_joined()
            ingestion.close()

"""Settings of a service of one's own on this machine, beside any that runs already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pfitre_service.addresses import free_ports
from pfitre_service.config import Settings, load_settings, merged


def demo_settings(output: Path, overrides: Mapping[str, Any]) -> Settings:
    """The defaults on free ports, so that a demo never meets a service that runs already; data below `output`."""
    ports = [f"127.0.0.1:{port}" for port in free_ports(9)]
    embedded = {
        "data_dir": output / "data",
        "profile_name": "demo",
        "tiled": {"port": int(ports[0].rpartition(":")[2])},
        "proxy": {"publish": ports[1], "subscribe": ports[2]},
        "source": {"address": ports[2]},
        "health": dict(zip(("supervisor", "tiled", "receive", "ingest", "worker", "epics"), ports[3:], strict=True)),
        "worker": {"publish_interval_s": 1.0},
    }
    return load_settings(None, merged(embedded, overrides))

"""0MQ addresses as people write them."""

from __future__ import annotations

import re

from pfitre_service.errors import SettingsError

_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.*-]+):(\d{1,5})")


def endpoint(address: str) -> str:
    """`address`, given as `host:port`, `tcp://host:port` or `ipc://path`, as 0MQ wants it. Raises `SettingsError`."""
    if address.startswith("ipc://") and len(address) > len("ipc://"):
        return address
    found = _HOST_PORT.fullmatch(address.removeprefix("tcp://"))
    if found is None or int(found[2]) > 65535:
        raise SettingsError(f"expected a 0MQ address such as 127.0.0.1:5568 or tcp://host:5568, got {address!r}")
    return f"tcp://{found[0]}"

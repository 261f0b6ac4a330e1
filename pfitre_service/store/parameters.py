"""Where the catalogue is, who may read it, and how long to wait for it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class TiledParameters:
    """The Tiled server that holds the tomograms: the embedded one, or one that runs already."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    host: str = "127.0.0.1"
    """Address the embedded server listens on. Anything but loopback opens it to the network."""
    port: int = 8010
    """Port of the embedded server; 0 takes a free one."""
    uri: str | None = None
    """Root address of a Tiled server that runs already (http://tiled.example.org:8000); then none is embedded."""
    anonymous_read: bool | None = None
    """Whether everyone may read without a key. Unset: only while the server listens on loopback. Writing needs it."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names of the embedded server, such as that of a proxy before it: a request that calls it by another name
    than an address, `localhost` or this machine's own is refused, and so are pages of other sites."""
    start_timeout_s: float = 60.0
    """Longest wait for the server to become ready."""
    request_timeout_s: float = 20.0
    """Longest wait for one answer of the server; connecting may take 3 s at most."""
    queue_mib: int = 1024
    """Frames that may wait in memory while the server is slow or gone."""
    low_disk_mib: int = 2048
    """The service is degraded when less than this is left on the disk of the data folder."""
    submit_timeout_s: float = 10.0
    """Longest that the receiving side is held up by a full queue before frames are refused, counted and named."""
    give_up_s: float = 300.0
    """How long the server may fail (500) at a write of one tomogram, while it reads from the catalogue and takes the
    word that this tomogram failed, before that tomogram is given up so that the others go on. While the server is gone
    or restarts, or the embedded one has no room on its disk, everything waits as long as it takes."""

    @property
    def allows_anonymous_read(self) -> bool:
        """The setting, or its default: reading is open while only this machine can connect."""
        return is_loopback(self.host) if self.anonymous_read is None else self.anonymous_read


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone.

    Parameters
    ----------
    host
        Name or address.

    Returns
    -------
    bool
        False for names other than localhost.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

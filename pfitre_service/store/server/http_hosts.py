"""Who may be meant, and who may ask: the `Host` and `Origin` of a request to the embedded server. Pure.

A browser sends what any page tells it to, also to 127.0.0.1. `Host` shows a name that was pointed at this machine from
outside (DNS rebinding); `Origin` shows whose page asks. Programs send no `Origin`.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_SHOWN = 100


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """The names under which a server may be spoken to; all in lower case, without a port."""

    names: frozenset[str]
    configured: frozenset[str]
    """Those of `tiled.allowed_hosts`: their pages may ask too, whatever name a proxy put into `Host`."""

    @classmethod
    def from_settings(cls, host: str, configured: Iterable[str]) -> AllowedHosts:
        """host: what the server listens on. Its own names, this machine's, and the `configured` ones."""
        named = frozenset(name.lower().rstrip(".") for name in configured)
        own = {"localhost", host, socket.gethostname(), socket.getfqdn()}
        return cls(frozenset(name.lower().rstrip(".") for name in own) | named, named)

    def refusal(self, hosts: list[str], origins: list[str]) -> str | None:
        """Why a request with these `Host` and `Origin` headers is refused; None where it is not."""
        host = _name_and_port(f"//{hosts[0]}") if len(hosts) == 1 else None
        if host is None:
            return f"expected one Host header with a name and perhaps a port, got {_quoted(hosts)}"
        if not self._knows(host[0]):
            return (
                f"this server is not known as {_quoted([host[0]])}; if that is one of its names, add it to "
                "tiled.allowed_hosts"
            )
        if origins and not (len(origins) == 1 and self._is_own_page(origins[0], host)):
            return (
                f"pages of {_quoted(origins)} may not ask this server; if that is one of its own names, as behind a "
                "proxy, add the name to tiled.allowed_hosts"
            )
        return None

    def _knows(self, name: str) -> bool:
        # No page of another site can make a browser take an address for that site's name.
        return name in self.names or _is_address(name)

    def _is_own_page(self, origin: str, host: tuple[str, int | None]) -> bool:
        found = _name_and_port(origin)
        if found is None:
            return False
        default = _DEFAULT_PORTS.get(urlsplit(origin).scheme)
        same = found[0] == host[0] and (found[1] or default) == (host[1] or default)
        return default is not None and (same or found[0] in self.configured)


def _name_and_port(address: str) -> tuple[str, int | None] | None:
    """Name in lower case without a last dot, and port; None for what is no such address."""
    try:
        parts = urlsplit(address)
        name, port = parts.hostname, parts.port
    except ValueError:
        return None
    extra = parts.path or parts.query or parts.fragment or "@" in parts.netloc
    return None if not name or extra else (name.rstrip("."), port)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _quoted(values: list[str]) -> str:
    return ", ".join(ascii(value[:_SHOWN]) for value in values[:3]) or "none"

"""Addresses of the form "host:port", and ports that are free right now."""

from __future__ import annotations

import contextlib
import re
import socket

from pfitre_service.errors import SettingsError

_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.*-]+):(\d{1,5})")


def parse_address(address: str) -> tuple[str, int]:
    """("127.0.0.1", 5568) of "127.0.0.1:5568", ("::1", 5568) of "[::1]:5568".

    Raises:
        SettingsError: the text is no such address.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise SettingsError(f"an address must read host:port with a port from 0 to 65535; got {address!r}")
    return host, int(port)


def format_address(host: str, port: int) -> str:
    """The inverse of `parse_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable(host: str) -> str:
    """The host by which this machine reaches a server that listens at `host`, which may stand for all of its own."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """`count` different TCP ports on which nobody listens at the moment of the call.

    There is a race: the ports are released before they are returned, so another process may take one before its
    user binds it. All of them are held until the last is chosen, so they never collide with each other, and the
    kernel hands out ephemeral ports in an order that makes an early reuse unlikely. That is good enough for a demo
    and for tests; whoever binds must still report "address in use" plainly, and a service has fixed ports.
    """
    with contextlib.ExitStack() as held:
        ports = []
        for _ in range(count):
            probe = held.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
            probe.bind((host, 0))
            ports.append(int(probe.getsockname()[1]))
        return ports


def endpoint(address: str) -> str:
    """`address`, given as `host:port`, `tcp://host:port` or `ipc://path`, as 0MQ wants it. Raises `SettingsError`."""
    if address.startswith("ipc://") and len(address) > len("ipc://"):
        return address
    found = _HOST_PORT.fullmatch(address.removeprefix("tcp://"))
    if found is None or int(found[2]) > 65535:
        raise SettingsError(f"expected a 0MQ address such as 127.0.0.1:5568 or tcp://host:5568, got {address!r}")
    return f"tcp://{found[0]}"

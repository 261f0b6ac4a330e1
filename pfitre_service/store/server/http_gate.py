"""The door of the embedded server: an allow-list before Tiled's application, and headers on every answer.

Tiled serves more than a catalogue of tomograms needs, some of it without asking for a key (docs/reports). What is not
in `ROUTES` is answered 404 and never reaches Tiled, so that a new version of Tiled cannot open a route by itself. Paths
are matched as Starlette, which routes them afterwards, matches them: on the decoded path, which it does not normalise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import Mount, compile_path

from pfitre_service.store.server.http_hosts import AllowedHosts

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_READ = frozenset({"GET"})
_API = "/api/v1"
ROUTES: Mapping[str, frozenset[str]] = {
    "/healthz": _READ,
    f"{_API}/": _READ,
    f"{_API}/metrics": _READ,
    f"{_API}/search/{{path:path}}": _READ,
    f"{_API}/search-deep/{{path:path}}": _READ,
    f"{_API}/distinct/{{path:path}}": _READ,
    f"{_API}/metadata/{{path:path}}": frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"}),
    f"{_API}/revisions/{{path:path}}": frozenset({"GET", "DELETE"}),
    f"{_API}/data_source/{{path:path}}": frozenset({"PUT"}),
    f"{_API}/array/block/{{path:path}}": frozenset({"GET", "PUT"}),
    f"{_API}/array/full/{{path:path}}": frozenset({"GET", "PUT", "PATCH"}),
    f"{_API}/table/partition/{{path:path}}": frozenset({"GET", "POST", "PUT", "PATCH"}),
    f"{_API}/table/full/{{path:path}}": frozenset({"GET", "POST", "PUT"}),
    f"{_API}/container/full/{{path:path}}": frozenset({"GET", "POST"}),
    f"{_API}/node/full/{{path:path}}": frozenset({"GET", "PUT"}),
    f"{_API}/stream/single/{{path:path}}": frozenset({"WEBSOCKET"}),
    f"{_API}/stream/close/{{path:path}}": frozenset({"DELETE"}),
}
"""Tiled's routes that pass, and by which methods; each asks Tiled for the key, but for health and the server's own
description, which say nothing of any tomogram. What does not pass: its pages, which serve files or come from other
sites; raw files, and foreign data by reference; kinds of data that no tomogram has; routes that ask for no key. The
test of this module has them by name."""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer; a page of our own brings its own Content-Security-Policy."""
_WEBSOCKET_REFUSED = 4403


class Gate:
    """An ASGI application that lets through to `app` what may pass."""

    def __init__(
        self, app: ASGIApp, hosts: AllowedHosts, own: Iterable[Any], problem: Callable[[], str] = lambda: ""
    ) -> None:
        """own: routes of this package, added to Tiled's application; they all pass. problem: why nothing can be
        answered now, empty while it can."""
        self._app = app
        self._problem = problem
        self._hosts = hosts
        self._allowed = [
            (compile_path(template)[0], methods | ({"HEAD", "OPTIONS"} if "GET" in methods else set()))
            for template, methods in ROUTES.items()
        ]
        self._own = [re.compile(_pattern_of(route)) for route in own]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._hosts.refusal(headers.getlist("host"), headers.getlist("origin"))
        if refusal is not None:
            await _refuse(scope, receive, send, 403, refusal)
        elif not self._passes(scope):
            await _refuse(scope, receive, send, 404, "there is no such address on this server")
        elif problem := self._problem():
            await _refuse(scope, receive, send, 503, problem)
        elif scope["type"] == "http":
            await self._app(scope, receive, _with_headers(send))
        else:
            await self._app(scope, receive, send)

    def _passes(self, scope: Scope) -> bool:
        method = str(scope["method"]) if scope["type"] == "http" else "WEBSOCKET"
        path = str(scope["path"])
        if method != "WEBSOCKET" and any(pattern.match(path) for pattern in self._own):
            return True
        return any(method in methods and pattern.match(path) for pattern, methods in self._allowed)


def _pattern_of(route: Any) -> str:
    """Of the paths that a route of our own takes; a mount takes all below it."""
    if isinstance(route, Mount):
        return f"^{re.escape(route.path)}(/.*)?$"
    return str(compile_path(route.path)[0].pattern)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, reason: str) -> None:
    if scope["type"] == "websocket":
        await receive()  # the request to connect, which an answer must follow
        await send({"type": "websocket.close", "code": _WEBSOCKET_REFUSED, "reason": reason[:100]})
        return
    body = json.dumps({"detail": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    sending = _with_headers(send)
    await sending({"type": "http.response.start", "status": status, "headers": headers})
    await sending({"type": "http.response.body", "body": b"" if scope.get("method") == "HEAD" else body})

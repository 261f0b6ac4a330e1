"""One HTTP connection pool to a Tiled server; every failure leaves here as a `StoreError`.

Tiled's own Python client retries for 24 s and more when a server is gone, keeps the shape of a growing array as it was,
and reads through dask. A service needs the opposite: one attempt, a stated timeout, and the truth of this moment. So
the store speaks Tiled's HTTP interface itself; callers that can wait do their own retries.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from pfitre_service.errors import (
    StoreBrokenError,
    StoreConflictError,
    StoreDamagedError,
    StoreError,
    StoreForbiddenError,
    StoreMissingError,
    StoreUnavailableError,
)
from pfitre_service.store.parameters import is_loopback

DAMAGED = 410
"""What the embedded server answers where stored data are damaged: gone, and another try will not help."""
_CONNECT_S = 3.0
_POLL_S = 0.1
# Shorter than the 5 s after which uvicorn closes an idle connection: a request should not meet one that just closed.
_KEEP_ALIVE_S = 2.0

# httpx tells of every request at INFO; the service's log has life events there.
logging.getLogger("httpx").setLevel(logging.WARNING)

_OF_THE_SERVER = (408, 429, 502, 503, 504, 507)
"""What a server, or a proxy before it, answers while it could do no such request: too much to do, gone, no storage."""

Params = Mapping[str, str | int | bool | list[str]]


class TiledHttp:
    """Requests to one server, `http://host:port`. Safe to share between threads."""

    def __init__(self, uri: str, api_key: str | None, *, timeout_s: float = 20.0) -> None:
        self.uri = uri.rstrip("/").removesuffix("/api/v1")
        # Compressing costs more than it saves on loopback and on a laboratory's network.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if api_key is not None:
            headers["Authorization"] = f"Apikey {api_key}"
        try:
            self._client = httpx.Client(
                headers=headers,
                timeout=httpx.Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s)),
                limits=httpx.Limits(keepalive_expiry=_KEEP_ALIVE_S),
                trust_env=not is_loopback(urlsplit(self.uri).hostname or ""),
            )
        except ValueError as error:
            raise StoreError(f"the address of the Tiled server cannot be used: {self.uri!r} ({error})") from error

    def close(self) -> None:
        self._client.close()

    def wait_ready(self, timeout_s: float) -> None:
        """Return once the server answers its health endpoint.

        Raises:
            StoreUnavailableError: it did not within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        pause = threading.Event()
        while True:
            try:
                self._send("GET", f"{self.uri}/healthz")
                return
            except StoreUnavailableError as error:
                if time.monotonic() + _POLL_S > deadline:
                    raise StoreUnavailableError(
                        f"no Tiled server became ready at {self.uri} within {timeout_s:g} s ({error}); "
                        "check that it runs and that address and port are right"
                    ) from error
            pause.wait(_POLL_S)

    def get_json(self, path: str, params: Params | None = None) -> dict[str, Any]:
        """The JSON answer to GET `/api/v1/{path}`."""
        return self._json(self._send("GET", self._url(path), params=params))

    def get_bytes(self, path: str, params: Params) -> bytes:
        """The body of GET `/api/v1/{path}`; `params` names the format."""
        return self._send("GET", self._url(path), params=params).content

    def send_json(self, method: str, path: str, body: Mapping[str, Any], params: Params | None = None) -> None:
        """Send a JSON document (no NaN in it: see `json_values.plain`)."""
        content = json.dumps(body, allow_nan=False).encode()
        self._send(method, self._url(path), params=params, content=content, content_type="application/json")

    def send_bytes(self, method: str, path: str, content: bytes, content_type: str, params: Params) -> None:
        """Send array or table data."""
        self._send(method, self._url(path), params=params, content=content, content_type=content_type)

    def _url(self, path: str) -> str:
        return f"{self.uri}/api/v1/{path}"

    def _send(
        self,
        method: str,
        url: str,
        *,
        params: Params | None = None,
        content: bytes | None = None,
        content_type: str | None = None,
    ) -> httpx.Response:
        headers = {} if content_type is None else {"Content-Type": content_type}
        try:
            response = self._client.request(method, url, params=_query(params), content=content, headers=headers)
        except httpx.TransportError as error:
            what = str(error) or type(error).__name__
            raise StoreUnavailableError(f"the Tiled server at {self.uri} does not answer ({what})") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise StoreError(f"the request to Tiled could not be made: {method} {url} ({error})") from error
        if not response.is_success:
            raise _refusal(response)
        return response

    def _json(self, response: httpx.Response) -> dict[str, Any]:
        try:
            answer = response.json()
        except ValueError as error:
            raise StoreError(f"what answers at {self.uri} is no Tiled server: {response.text[:80]!r}") from error
        if not isinstance(answer, dict):
            raise StoreError(f"what answers at {self.uri} is no Tiled server: {str(answer)[:80]!r}")
        return answer


def _query(params: Params | None) -> httpx.QueryParams:
    pairs: list[tuple[str, str | int | float | bool | None]] = []
    for name, value in (params or {}).items():
        values = value if isinstance(value, list) else [value]
        pairs += [(name, str(item).lower() if isinstance(item, bool) else str(item)) for item in values]
    return httpx.QueryParams(pairs)


def _refusal(response: httpx.Response) -> StoreError:
    """What an answer that is no success means to the caller."""
    where = f"{response.request.method} {response.request.url.path}"
    status = response.status_code
    said = f"Tiled answered {status} to {where}: {_detail(response)}"
    if status in (401, 403):
        return StoreForbiddenError(
            f"{said}; writing needs the server's API key, reading needs it unless anonymous reading is on"
        )
    if status == 404:
        return StoreMissingError(said)
    if status == 409:
        return StoreConflictError(said)
    if status == DAMAGED:
        return StoreDamagedError(_detail(response))
    if status in _OF_THE_SERVER:
        return StoreUnavailableError(said)
    if status >= 500:
        return StoreBrokenError(said)
    return StoreError(said)


def _detail(response: httpx.Response) -> str:
    try:
        answer = response.json()
    except ValueError:
        return response.reason_phrase
    detail = answer.get("detail", answer) if isinstance(answer, dict) else answer
    return str(detail)[:500]

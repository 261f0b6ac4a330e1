"""The embedded server's door, over real sockets: which of Tiled's routes pass, with which key, for whose pages."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from pfitre_service.model import TomogramKey
from pfitre_service.store.server.http_gate import ROUTES
from pfitre_service.store.server.server import build_app

KEY = TomogramKey("behind-the-door")
API = "/api/v1"
NODE = f"tomograms/{KEY.id}"


REFUSED = {
    "/": "a page that loads parts of itself from other sites; ours is at /view/",
    "/favicon.ico": "of those pages",
    "/ui/{path:path}": "serves any file of the machine, without a key",
    "/static": "of those pages",
    "/tiled-ui-settings": "of those pages",
    "/openapi.json": "tells strangers what there is",
    "/docs": "a page that loads its scripts from other sites",
    "/docs/oauth2-redirect": "of that page",
    "/redoc": "a page that loads its scripts from other sites",
    f"{API}/register/{{path:path}}": "takes data outside the folder by reference",
    f"{API}/asset/bytes/{{path:path}}": "serves raw files, and by `..` others than the catalogue's",
    f"{API}/asset/manifest/{{path:path}}": "lists raw files",
    f"{API}/asset/{{path:path}}": "deletes raw files",
    f"{API}/ragged/full/{{path:path}}": "no tomogram has ragged arrays",
    f"{API}/ragged/block/{{path:path}}": "no tomogram has ragged arrays",
    f"{API}/awkward/buffers/{{path:path}}": "no tomogram has awkward arrays",
    f"{API}/awkward/full/{{path:path}}": "no tomogram has awkward arrays",
    "/zarr/v2": "answers without a key",
    "/zarr/v3": "answers without a key",
    "/api/graphql": "links between nodes, of which there are none",
}
BELOW = ("/zarr/v2", "/zarr/v3", "/api/graphql")
"""Of these, whatever lies below."""


def templates_of(routes: Any, prefix: str = "") -> Iterator[tuple[str, frozenset[str]]]:
    """(path template, methods) of every route of an application, those of included routers too."""
    for route in routes:
        if hasattr(route, "effective_candidates"):  # a router that FastAPI keeps as a whole
            yield from templates_of(route.effective_candidates(), prefix)
            continue
        route = getattr(route, "starlette_route", None) or route
        methods = getattr(route, "methods", None)
        yield prefix + route.path, frozenset(methods or ({"ANY"} if hasattr(route, "app") else {"WEBSOCKET"}))


def test_every_route_of_tiled_is_listed_as_one_that_passes_or_one_that_is_refused(tmp_path):
    app = build_app(tmp_path, "0123456789abcdef", anonymous_read=True)
    found = list(templates_of(app.router.routes))
    assert len(found) > 50
    known = [template for template, _ in found if template in ROUTES]
    listed = {*ROUTES, *REFUSED}
    unknown = sorted({template for template, _ in found if template not in listed and not template.startswith(BELOW)})
    assert unknown == [], f"this version of Tiled has routes that http_gate does not know: {unknown}"
    assert set(known) == set(ROUTES), "http_gate lists routes that this version of Tiled does not have"
    more = {
        (template, method)
        for template, methods in found
        if template in ROUTES and methods != {"ANY"}
        for method in methods - ROUTES[template] - {"HEAD", "OPTIONS", "WEBSOCKET"}
    }
    assert more == set(), f"this version of Tiled takes methods that http_gate does not list: {more}"


@dataclass(frozen=True)
class Row:
    """A request of the table, and the statuses that are right for it."""

    method: str
    path: str
    anonymous: int
    """Without a key where everyone may read."""
    keyless: int
    """Without a key where nobody may; a wrong key gives 401 in both."""
    body: Any = None


SLICE = "?slice=0,0:2,0:2&format=application/octet-stream"
PATCH = {"content-type": "application/merge-patch+json", "metadata": {}, "specs": None}
TABLE = [
    Row("GET", "/healthz", 200, 200),
    Row("GET", f"{API}/", 200, 200),
    Row("GET", f"{API}/metrics", 401, 401),
    Row("GET", f"{API}/search/tomograms", 200, 401),
    Row("GET", f"{API}/search-deep/tomograms", 200, 401),
    Row("GET", f"{API}/distinct/tomograms?metadata=sample", 200, 401),
    Row("GET", f"{API}/metadata/{NODE}", 200, 401),
    Row("GET", f"{API}/revisions/{NODE}", 200, 401),
    Row("GET", f"{API}/array/full/{NODE}/volume{SLICE}", 200, 401),
    Row("GET", f"{API}/array/block/{NODE}/volume?block=0,0,0&format=application/octet-stream", 200, 401),
    Row("GET", f"{API}/table/full/{NODE}/frames?format=application/json", 200, 401),
    Row("GET", f"{API}/table/partition/{NODE}/frames?partition=0&format=application/json", 200, 401),
    Row("GET", f"{API}/container/full/{NODE}?format=application/json", 200, 401),
    Row("GET", f"{API}/node/full/{NODE}/frames?format=application/json", 200, 401),
    Row("POST", f"{API}/table/full/{NODE}/frames?format=application/json", 200, 401, ["index"]),
    Row("POST", f"{API}/table/partition/{NODE}/frames?partition=0&format=application/json", 200, 401, ["index"]),
    Row("POST", f"{API}/container/full/{NODE}?format=application/json", 200, 401, ["frames"]),
    Row("POST", f"{API}/metadata/{NODE}", 401, 401, {"structure_family": "container", "metadata": {}, "specs": []}),
    Row("PUT", f"{API}/metadata/{NODE}", 401, 401, {"metadata": {}, "specs": []}),
    Row("PATCH", f"{API}/metadata/{NODE}", 401, 401, PATCH),
    Row("PUT", f"{API}/data_source/{NODE}/volume", 401, 401, {"data_source": {"structure_family": "array"}}),
    Row("PUT", f"{API}/array/full/{NODE}/volume", 401, 401),
    Row("PATCH", f"{API}/array/full/{NODE}/volume?offset=0&shape=1", 401, 401),
    Row("PUT", f"{API}/array/block/{NODE}/volume?block=0,0,0", 401, 401),
    Row("PUT", f"{API}/table/full/{NODE}/frames", 401, 401),
    Row("PUT", f"{API}/node/full/{NODE}/frames", 401, 401),
    Row("PUT", f"{API}/table/partition/{NODE}/frames?partition=0", 401, 401),
    Row("PATCH", f"{API}/table/partition/{NODE}/frames?partition=0", 401, 401),
    Row("DELETE", f"{API}/revisions/{NODE}?number=1", 401, 401),
    Row("DELETE", f"{API}/stream/close/{NODE}/volume", 401, 401),
    Row("DELETE", f"{API}/metadata/{NODE}", 401, 401),
]
WRITES_LAST = [row for row in TABLE if row.method != "DELETE"] + [row for row in TABLE if row.method == "DELETE"]


@pytest.fixture(scope="module", params=[True, False], ids=["everyone reads", "reading needs the key"])
def server(start_server, request):
    server = start_server()
    if not request.param:
        server.stop()
        server.anonymous_read = False
        server.start()
    with server.catalog() as catalog:
        catalog.create(KEY, {"sample": "secret sample"})
        catalog.result_writer(KEY).publish(np.zeros((2, 4, 4), np.float32), 1)
    yield server
    server.stop()


def test_the_table_has_every_route_and_method_that_passes():
    listed = {(template.split("{")[0], method) for template, methods in ROUTES.items() for method in methods}
    tested = {(row.method, row.path) for row in TABLE} | {("WEBSOCKET", f"{API}/stream/single/x")}
    missing = {
        (prefix, method)
        for prefix, method in listed
        if not any(method == tried and path.startswith(prefix) for tried, path in tested)
    }
    assert missing == set()


def test_each_route_asks_for_the_key_as_the_table_says(server):
    with httpx.Client(base_url=server.url) as client:
        for row in WRITES_LAST:
            wanted = row.anonymous if server.anonymous_read else row.keyless
            kept = json.dumps(row.body) if row.body is not None else None
            typed = {"Content-Type": "application/json"}
            plain = client.request(row.method, row.path, content=kept, headers=typed)
            assert plain.status_code == wanted, (row, plain.status_code, plain.text[:300])
            wrong = client.request(row.method, row.path, content=kept, headers=typed | {"Authorization": "Apikey f00"})
            assert wrong.status_code in ({401} if row.path not in ("/healthz", f"{API}/") else {200, 401}), (row, wrong)
            if row.method == "GET":
                right = client.get(row.path, headers={"Authorization": f"Apikey {server.api_key}"})
                assert right.status_code == 200, (row, right.text[:300])


def test_a_websocket_gives_nothing_without_the_key_where_reading_needs_it(server):
    address = f"{server.url.replace('http', 'ws')}{API}/stream/single/{NODE}?envelope_format=json"
    with connect(address) as stream:
        if server.anonymous_read:
            stream.ping().wait(5)
            return
        stream.send(json.dumps({"type": "auth", "api_key": "f00"}))
        with pytest.raises(ConnectionClosed) as closed:
            stream.recv(5)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4003


def exchange(
    url: str, target: str, *, method: str = "GET", host: str | None = None, origin: str | None = None
) -> bytes:
    """The whole answer to a request whose target no client library has had its hands on."""
    parts = urlsplit(url)
    asked = f" Origin: {origin}".lstrip() if origin else ""
    lines = [
        f"{method} {target} HTTP/1.1",
        f"Host: {host or parts.netloc}",
        "Connection: close",
        *filter(None, [asked]),
    ]
    with socket.create_connection((parts.hostname or "", parts.port or 0), 10) as link:
        link.settimeout(20)
        link.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = b""
        while piece := link.recv(65536):
            answer += piece
        return answer


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


TRICKS = [
    "/ui//etc/passwd",
    "/ui/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
    "/ui/%2fetc%2fpasswd",
    "/ui/../../../../../../../../etc/passwd",
    "//ui//etc/passwd",
    "/./ui//etc/passwd",
    "/%75i//etc/passwd",
    "/ui%2f%2fetc%2fpasswd",
    "/%2e/ui//etc/passwd",
    "/view/../ui//etc/passwd",
    "/view/..%2fui//etc/passwd",
    f"{API}/../../ui//etc/passwd",
    f"{API}/metadata/../../../ui//etc/passwd",
    "/healthz/../ui//etc/passwd",
    "/UI//etc/passwd",
    "/ui\\/etc/passwd",
    "http://127.0.0.1/ui//etc/passwd",
    "/static/../../../../../../../../etc/passwd",
    "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/ui/index.html",
    "/tiled-ui-settings",
    "/docs",
    "/redoc",
    "/openapi.json",
    "/zarr/v3/",
    "/zarr/v2/",
    f"/zarr/v3/{NODE}/zarr.json",
    f"/zarr/v2/{NODE}/.zattrs",
    f"/zarr/v3/{NODE}/volume/c/0/0/0",
    f"//zarr/v3/{NODE}/zarr.json",
    f"/zarr%2fv3/{NODE}/zarr.json",
    f"{API}/asset/bytes/{NODE}/volume?id=1&relative_path=../../../../api_key",
    f"{API}/asset/manifest/{NODE}/volume?id=1",
    f"{API}/register/{NODE}",
    "/api/graphql",
]


@pytest.mark.parametrize("target", TRICKS)
def test_what_tiled_would_serve_without_asking_is_not_reached_by_any_way_of_writing_it(server, target):
    for method in ("GET", "HEAD", "POST", "OPTIONS", "PROPFIND"):
        answer = exchange(server.url, target, method=method)
        assert status_of(answer) in (400, 401, 404, 405), (method, answer[:200])
        for held in (b"root:x:0", server.api_key.encode(), b"secret sample", b"zarr_format"):
            assert held not in answer


def test_a_page_of_another_site_reads_nothing_and_a_name_pointed_here_from_outside_is_none_of_ours(server):
    target = f"{API}/search/tomograms"
    rebound = exchange(server.url, target, host="evil.example:8010")
    assert status_of(rebound) == 403
    assert b"tiled.allowed_hosts" in rebound
    foreign = exchange(server.url, target, origin="http://evil.example")
    assert status_of(foreign) == 403
    assert b"access-control-allow-origin" not in foreign.lower()
    assert status_of(exchange(server.url, target, method="OPTIONS", origin="http://evil.example")) == 403
    assert status_of(exchange(server.url, "/healthz", origin=server.url)) == 200


def test_a_websocket_of_another_sites_page_is_refused(server):
    address = f"{server.url.replace('http', 'ws')}{API}/stream/single/tomograms?envelope_format=json"
    with pytest.raises(InvalidStatus) as refused, connect(address, origin="http://evil.example"):  # type: ignore[arg-type]
        pytest.fail("it was let in")
    assert refused.value.response.status_code == 403
    with connect(address, origin=server.url):
        pass


@pytest.mark.parametrize(
    "target", ["/healthz", f"{API}/", f"{API}/metadata/nowhere", "/ui/", f"{API}/metrics", "/view/", "/", "/%00"]
)
def test_every_answer_says_that_it_is_no_page_of_anyone_else(server, target):
    answer = exchange(server.url, target).split(b"\r\n\r\n")[0].lower()
    assert b"content-security-policy: " in answer
    assert b"frame-ancestors 'none'" in answer
    assert b"x-content-type-options: nosniff" in answer
    assert b"referrer-policy: no-referrer" in answer


def test_another_name_can_be_allowed(tmp_path: Path):
    import threading

    from pfitre_service.store.server.server import run_server

    stop, urls = threading.Event(), []
    ready = threading.Event()

    def on_ready(url: str) -> None:
        urls.append(url)
        ready.set()

    options: dict[str, Any] = {"anonymous_read": True, "stop": stop, "allowed_hosts": ["tomo.example.org"]}
    serve = threading.Thread(
        target=lambda: run_server(tmp_path, host="127.0.0.1", port=0, on_ready=on_ready, **options), daemon=True
    )
    serve.start()
    assert ready.wait(60)
    try:
        name = "tomo.example.org"
        assert status_of(exchange(urls[0], "/healthz", host=name, origin=f"https://{name}")) == 200
        assert status_of(exchange(urls[0], "/healthz", host=f"other.{name}")) == 403
    finally:
        stop.set()
        serve.join(10)

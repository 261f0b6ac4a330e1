"""Exports and the report as downloads, beside the page: `/view/export/{id}.h5`, `/view/report/{id}`.

Whoever may read the tomogram from Tiled may download it: the key of the request, or none, goes on to this very server,
and what Tiled refuses is refused here.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import threading
from collections.abc import Iterator
from typing import IO

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, StreamingResponse

from pfitre_service.errors import InputError, StoreError, StoreForbiddenError, StoreMissingError
from pfitre_service.export.files import MEDIA_TYPES
from pfitre_service.export.load_tomogram import load_tomogram, pieces, unnamed_export
from pfitre_service.export.report import report
from pfitre_service.export.tomogram import Tomogram
from pfitre_service.model import TomogramKey
from pfitre_service.store.catalog import Catalog
from pfitre_service.store.layout import ResultName

_AT_A_TIME = 2
"""More would leave the server no thread and no disk for a scan that runs."""
_RETRY_S = 5
_REQUEST_S = 120.0
_REPORT_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


def add_downloads(app: FastAPI, url: str) -> None:
    """Adds the routes. Call it before the page is mounted on `/view`.

    Parameters
    ----------
    app
        The server.
    url
        At which it answers.
    """
    turns = threading.BoundedSemaphore(_AT_A_TIME)

    # Plain functions: they run in threads, and the loop goes on to answer what they read from this server.
    def download(name: str, request: Request, array: ResultName | None = None) -> StreamingResponse:
        suffix = next((end for end in MEDIA_TYPES if name.endswith(end)), None)
        if suffix is None:
            raise HTTPException(404, f"downloads end in {', '.join(MEDIA_TYPES)}; got {name}")
        with _turn(turns), _tomogram(url, request, name.removesuffix(suffix), array) as tomogram:
            content, length = _written(tomogram, suffix)
        headers = {
            "Content-Disposition": f'attachment; filename="{file_name(tomogram, suffix, array)}"',
            "Content-Length": str(length),
            "Cache-Control": "no-store",
        }
        return StreamingResponse(pieces(content), media_type=MEDIA_TYPES[suffix], headers=headers)

    def show_report(tomogram_id: str, request: Request) -> HTMLResponse:
        with _turn(turns), _tomogram(url, request, tomogram_id, None) as tomogram:
            return HTMLResponse(report(tomogram), headers=_REPORT_HEADERS)

    app.add_api_route("/view/export/{name}", download, include_in_schema=False)
    app.add_api_route("/view/report/{tomogram_id}", show_report, include_in_schema=False)


def file_name(tomogram: Tomogram, suffix: str, array: ResultName | None) -> str:
    """Sample or scan, and the beginning of the uid: letters, digits, dots and dashes alone.

    Parameters
    ----------
    tomogram
        That is downloaded.
    suffix
        Of the format.
    array
        The one array that is downloaded; None for all.

    Returns
    -------
    str
        Name without a folder.
    """
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", tomogram.name).strip("-.")[:60]
    return "-".join(part for part in (name, tomogram.id[:8], array or "") if part) + suffix


@contextlib.contextmanager
def _turn(turns: threading.BoundedSemaphore) -> Iterator[None]:
    if not turns.acquire(blocking=False):
        busy = f"{_AT_A_TIME} exports are being written already; try again in a moment"
        raise HTTPException(503, busy, headers={"Retry-After": str(_RETRY_S)})
    try:
        yield
    finally:
        turns.release()


@contextlib.contextmanager
def _tomogram(url: str, request: Request, tomogram_id: str, array: ResultName | None) -> Iterator[Tomogram]:
    """The tomogram as this request may read it; errors become answers."""
    try:
        key = TomogramKey(tomogram_id)
    except InputError as error:
        raise HTTPException(404, str(error)) from error
    try:
        with Catalog.connect_to_read(url, _key_of(request), request_timeout_s=_REQUEST_S) as catalog:
            yield load_tomogram(catalog, key, array)
    except StoreForbiddenError as error:
        raise HTTPException(401, str(error), headers={"WWW-Authenticate": "Apikey"}) from error
    except StoreMissingError as error:
        raise HTTPException(404, f"there is no tomogram {key}") from error
    except StoreError as error:
        raise HTTPException(503, str(error)) from error
    except InputError as error:
        raise HTTPException(409, str(error)) from error


def _key_of(request: Request) -> str | None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "apikey" and key.strip() else None


def _written(tomogram: Tomogram, suffix: str) -> tuple[IO[bytes], int]:
    try:
        return unnamed_export(tomogram, suffix)
    except InputError as error:
        raise HTTPException(507, f"{error} Temporary files lie in {tempfile.gettempdir()} (TMPDIR)") from error

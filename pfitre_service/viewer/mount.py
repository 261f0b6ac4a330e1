"""Puts the page on a Tiled server: `/view/`, from files of this package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

PATH = "/view"
FILES = Path(__file__).parent / "page"

_HEADERS = {
    # The page and its data come from this server alone; nothing may be loaded from elsewhere or frame it.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; connect-src 'self' ws: wss:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    # Small files from the same machine: always the ones of the version that runs.
    "Cache-Control": "no-cache",
}


def add_page(app: FastAPI) -> None:
    """Serve the page under `/view/`. It reads Tiled's interface as any client does, with a key that a person gives."""
    from starlette.requests import Request
    from starlette.responses import RedirectResponse, Response
    from starlette.routing import Route
    from starlette.staticfiles import StaticFiles
    from starlette.types import Scope

    class Page(StaticFiles):
        async def get_response(self, path: str, scope: Scope) -> Response:
            response = await super().get_response(path, scope)
            response.headers.update(_HEADERS)
            return response

    async def to_page(request: Request) -> RedirectResponse:
        return RedirectResponse(f"{PATH}/")

    # Before Tiled's own page at the root, which loads parts of itself from other sites.
    app.router.routes.insert(0, Route("/", to_page))
    app.router.routes.append(Route(PATH, to_page))
    app.mount(PATH, Page(directory=FILES, html=True), name="page")

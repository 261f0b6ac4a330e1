"""What the embedded server answers when its disk or its tables fail.

Tiled would answer 500 "Internal server error", log a traceback and drop the connection. The writer waits and tries
again in any case; people need the reason.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pfitre_service.store.server import data_folder
from pfitre_service.store.tiled_http.connection import DAMAGED

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse

logger = logging.getLogger(__name__)

_UNAVAILABLE = 503
_NO_STORAGE = 507


def answer_faults(app: FastAPI, data_dir: Path) -> None:
    """Give `app` an answer for every way in which the data folder is known to fail."""
    import adbc_driver_manager
    from obstore.exceptions import BaseError as ObjectStoreError
    from sqlalchemy.exc import DatabaseError
    from zarr.errors import ContainsArrayError

    from pfitre_service.store.server.checked_zarr import DamagedArrayError

    def disk(request: Request, error: Exception) -> JSONResponse:
        return _answer(_NO_STORAGE, f"the data folder {data_dir} cannot be used: {_reason(error)}")

    def leftover(request: Request, error: Exception) -> JSONResponse:
        removed = data_folder.remove_leftovers(data_dir)
        return _answer(_UNAVAILABLE, f"an interrupted creation left an empty array; {removed} removed, try again")

    def damaged(request: Request, error: Exception) -> JSONResponse:
        return _answer(DAMAGED, str(error))

    handlers: dict[type[Exception], Callable[[Request, Exception], JSONResponse]] = {
        OSError: disk,
        ObjectStoreError: disk,
        DatabaseError: disk,
        adbc_driver_manager.Error: disk,
        ContainsArrayError: leftover,
        DamagedArrayError: damaged,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def _answer(status: int, detail: str) -> JSONResponse:
    from fastapi.responses import JSONResponse

    logger.warning("answered %d: %s", status, detail)
    return JSONResponse({"detail": detail}, status_code=status)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]

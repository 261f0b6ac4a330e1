"""What the client makes of metadata, and what it costs to import."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pfitre_service.client import connect
from pfitre_service.errors import StoreUnavailableError


def test_an_address_where_nothing_answers_is_named():
    with pytest.raises(StoreUnavailableError, match=r"http://127\.0\.0\.1:9"):
        connect("http://127.0.0.1:9", timeout_s=0.2)


def test_importing_the_client_loads_neither_torch_nor_xarray_nor_tiled():
    code = "import sys, pfitre_service.client; print(sorted({'torch', 'xarray', 'dask', 'tiled'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == "[]"

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from pfitre_service.json_values import plain
from pfitre_service.model import Progress, ScanGeometry
from pfitre_service.store import layout
from pfitre_service.store.parameters import TiledParameters, is_loopback
from pfitre_service.store.result_writer import slab_depth


def test_metadata_becomes_what_json_takes():
    value = {"a": np.float32(1.5), "b": np.arange(3), "c": (1, math.nan), "d": Path("/x"), 5: None, "e": np.bool_(True)}
    assert plain(value) == {"a": 1.5, "b": [0, 1, 2], "c": [1, None], "d": "/x", "5": None, "e": True}
    json.dumps(plain(value), allow_nan=False)


def test_infinite_numbers_inside_arrays_become_null():
    assert plain(np.array([1.0, np.inf])) == [1.0, None]


def test_what_has_no_json_form_is_named_by_its_place():
    with pytest.raises(TypeError, match=r"metadata\.runs\[1\] cannot be stored: a bytes"):
        plain({"runs": ["a", b"b"]})


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("db.org", False),
    ],
)
def test_reading_is_open_by_default_only_while_this_machine_alone_can_connect(host, loopback):
    assert is_loopback(host) is loopback
    assert TiledParameters(host=host).allows_anonymous_read is loopback


def test_anonymous_reading_follows_the_setting_where_there_is_one():
    assert TiledParameters(host="0.0.0.0", anonymous_read=True).allows_anonymous_read is True
    assert TiledParameters(anonymous_read=False).allows_anonymous_read is False


def test_an_unknown_setting_is_refused():
    with pytest.raises(ValidationError):
        TypeAdapter(TiledParameters).validate_python({"hots": "127.0.0.1"})


def test_geometry_is_what_the_metadata_say():
    document = {"rows": 4, "columns": 9, "axis": 3.75, "size": 12, "pixel_size_nm": 20.0}
    assert layout.geometry_of(document, None) == ScanGeometry(**document)


def test_geometry_is_unknown_until_metadata_or_a_frame_tells():
    assert layout.geometry_of({"axis": 4.0}, None) is None
    assert layout.geometry_of({}, (3, 8)) == ScanGeometry.from_detector(rows=3, columns=8)


def test_rows_of_progress_survive_the_way_through_columns_with_null_for_nan():
    row = Progress(3, "final", 1.0, 10, 9, 30, 0.1, math.nan, 0.3, 0.01, 0.2, 5.0)
    columns = layout.progress_columns([row])
    columns["heldout_error"] = [None]
    (back,) = layout.progress_rows(columns)
    assert math.isnan(back.heldout_error)
    assert (back.revision, back.phase, back.angles_used, back.seconds) == (3, "final", 9, 5.0)


@pytest.mark.parametrize(
    ("shape", "depth"), [((84, 150, 150), 84), ((256, 256, 256), 32), ((10, 4096, 4096), 1), ((1, 2, 2), 1)]
)
def test_a_slab_is_about_eight_mebibytes(shape, depth):
    assert slab_depth(shape) == depth


def test_connecting_does_not_need_tiled_or_its_server():
    code = (
        "import sys, pfitre_service.store.catalog, pfitre_service.store.writer_thread; "
        "print(sorted({'tiled', 'uvicorn', 'pyarrow', 'pandas', 'dask'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"

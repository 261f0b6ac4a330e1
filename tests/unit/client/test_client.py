"""What the client makes of metadata, and what it costs to import."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from pfitre_service.client import connect
from pfitre_service.client.arrays import Lengths
from pfitre_service.errors import StoreUnavailableError


def test_binned_volumes_lie_where_their_pixels_were():
    metadata = {"geometry": {"pixel_size_nm": 10.0}, "parameters": {"preprocess": {"bin": 2, "rows": [4, 12]}}}
    lengths = Lengths.from_metadata(metadata)
    assert (lengths.unit, lengths.voxel) == ("nm", 20)
    np.testing.assert_allclose(lengths.heights(4), [45, 65, 85, 105])
    np.testing.assert_allclose(lengths.across(2), [-10, 10])
    np.testing.assert_allclose(lengths.detector(3), [0, 10, 20])


def test_a_size_that_only_the_settings_know_counts_where_the_run_said_none():
    preprocess = {"bin": 1, "rows": None, "pixel_size_nm": 7.0}
    assert (
        Lengths.from_metadata({"geometry": {"pixel_size_nm": None}, "parameters": {"preprocess": preprocess}}).pixel
        == 7
    )
    assert (
        Lengths.from_metadata({"geometry": {"pixel_size_nm": 3.0}, "parameters": {"preprocess": preprocess}}).pixel == 3
    )


def test_without_any_size_lengths_are_pixels():
    assert Lengths.from_metadata({}) == Lengths(unit="pixel", pixel=1.0, bin=1, first_row=0)


def test_an_address_where_nothing_answers_is_named():
    with pytest.raises(StoreUnavailableError, match=r"http://127\.0\.0\.1:9"):
        connect("http://127.0.0.1:9", timeout_s=0.2)


def test_importing_the_client_loads_neither_torch_nor_xarray_nor_tiled():
    code = "import sys, pfitre_service.client; print(sorted({'torch', 'xarray', 'dask', 'tiled'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == "[]"

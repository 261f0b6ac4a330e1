"""The solver benchmark at a tiny size: what it says must be true at any size."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

from pfitre_service.bench.solver.benchmark import render, run
from pfitre_service.bench.solver.head_phantom import shepp_logan
from pfitre_service.bench.solver.transform_floor import measure_floor
from pfitre_service.errors import InputError


@pytest.fixture(scope="module")
def result():
    return run(size=32, angles=20, repeats=1, batch=2)


def test_both_sides_solve_to_the_same_residual(result):
    published, ours = result["published"]["residual"], result["ours"]["residual"]
    assert published < 1.1e-5
    assert published / 3 < ours < 1.1 * published


def test_both_sides_solve_the_same_problem(result):
    assert result["operator_difference"] < 0.01
    assert result["ours"]["misfit"] == pytest.approx(result["published"]["misfit"], abs=0.01)
    assert result["ours"]["psnr"] == pytest.approx(result["published"]["psnr"], abs=1.0)


def test_ratios_are_those_of_the_seconds(result):
    assert result["ratio"] == pytest.approx(result["published"]["seconds"] / result["ours"]["seconds"])
    assert result["ratio_batched"] == pytest.approx(
        result["published"]["seconds"] / result["seconds_per_slice_batched"]
    )
    assert result["times_the_floor"] == pytest.approx(result["iteration_seconds"] / result["floor"]["seconds"])
    assert result["ratio_linear"] > 0
    assert result["ratio_with_setup"] < result["ratio"]


def test_the_result_is_plain_json(result):
    assert json.loads(json.dumps(result)) == result


def test_the_table_names_both_sides_and_the_ratio(result):
    table = render(result)
    assert "published" in table
    assert f"{result['ratio']:.0f} times faster" in table
    assert all(len(line) <= 160 for line in table.splitlines())


def test_number_of_threads_is_put_back(result):
    before = torch.get_num_threads()
    measure_floor(16, repeats=1)
    run(size=16, angles=4, repeats=1, batch=1, threads=before + 1)
    assert torch.get_num_threads() == before


def test_missing_astra_is_named_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "astra", None)
    with pytest.raises(InputError, match=r"pip install pfitre-service\[bench\]"):
        run(size=16, angles=4, repeats=1, batch=1)


def test_the_phantom_is_a_head_in_a_dark_field():
    head = shepp_logan(64)
    assert head.dtype == np.float32
    assert head.min() >= -1e-6
    assert head.max() == pytest.approx(1.0)
    assert np.all(head[:2] == 0)
    assert head[32, 32] == pytest.approx(0.2, abs=0.11)

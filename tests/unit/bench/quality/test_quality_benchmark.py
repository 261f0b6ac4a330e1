"""The quality benchmark from end to end, at a tiny size with an untrained network."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from rich.console import Console

from pfitre_service.bench.quality.benchmark import run
from pfitre_service.bench.quality.case_runs import spread
from pfitre_service.bench.quality.display import real_table, run_and_show, scan_table
from pfitre_service.bench.quality.parameters import METHODS, STACK, QualityParameters
from pfitre_service.bench.quality.real_scan import REAL_METHODS
from pfitre_service.bench.quality.report import markdown
from pfitre_service.errors import InputError, SettingsError
from pfitre_service.prior.architectures import build
from pfitre_service.prior.registry import register, save
from pfitre_service.recon.parameters import AdmmParameters

pytestmark = pytest.mark.slow


def ellipse(shape, rng):
    z, y, x = np.ogrid[tuple(slice(-1, 1, 1j * n) for n in shape)]
    half = rng.uniform(0.3, 0.7, 2)
    return (np.hypot(y / half[0], x / half[1]) < 1 + 0.1 * z).astype(np.float32)


def bars(shape, rng):
    z, y, x = np.ogrid[tuple(slice(-1, 1, 1j * n) for n in shape)]
    stripes = np.sin(rng.uniform(8, 12) * y) > 0.1 * z
    return (stripes & (np.hypot(y, x) < 0.8)).astype(np.float32)


FAMILIES = {"ellipses": ellipse, "bars": bars}


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    info = save(build("pfitre-s").state_dict(), folder / "u.safetensors", architecture="pfitre-s", recipe={})
    register(info, folder, "untrained")
    return folder


@pytest.fixture(scope="module")
def parameters(weights_folder):
    return QualityParameters(
        weights="untrained",
        weights_folder=weights_folder,
        size=32,
        slices=STACK,
        wedges=(0.0, 100.0),
        parts=(1 / 2,),
        sirt_iterations=4,
        tv_iterations=6,
        admm=AdmmParameters(max_iterations=2),
        real_rows=1,
    )


@pytest.fixture(scope="module")
def measured(parameters, tmp_path_factory):
    """The result, its folder, and what was told on the way."""
    folder = tmp_path_factory.mktemp("report") / "new"
    told = {"cases": [], "lines": []}
    result = run(
        parameters,
        output=folder,
        families=FAMILIES,
        on_case=lambda done, total, words: told["cases"].append((done, total, words)),
        on_line=told["lines"].append,
    )
    return result, folder, told


def test_there_is_a_line_for_each_wedge_and_part_with_every_method(measured):
    lines = measured[0]["scans"]
    assert [(line["missing"], line["part"]) for line in lines] == [(0.0, 1.0), (100.0, 1.0), (100.0, 0.5)]
    for line in lines:
        assert set(line["methods"]) == set(METHODS)
        assert line["slices"] == len(FAMILIES) * STACK
        assert set(line["families"]) == set(FAMILIES)


def test_means_over_all_slices_are_those_of_the_families_together(measured):
    for line in measured[0]["scans"]:
        for name in METHODS:
            parts = [family["methods"][name]["psnr"]["mean"] for family in line["families"].values()]
            assert line["methods"][name]["psnr"]["mean"] == pytest.approx(np.mean(parts))


def test_gains_are_differences_of_the_means(measured):
    for line in measured[0]["scans"]:
        for figure in ("psnr", "ssim"):
            reached = {name: line["methods"][name][figure]["mean"] for name in METHODS}
            assert line["gain_over_tv"][figure]["mean"] == pytest.approx(reached["pfitre"] - reached["tv"])
            assert line["gain_over_one_pass"][figure]["mean"] == pytest.approx(reached["pfitre"] - reached["one_pass"])


def test_total_variation_tuned_against_the_truth_is_no_worse_than_as_served(measured):
    for line in measured[0]["scans"]:
        reached = {name: line["methods"][name]["psnr"]["mean"] for name in METHODS}
        assert reached["tv"] >= reached["tv_served"] - 0.05


def test_a_wider_wedge_costs_every_method(measured):
    full, wedge = measured[0]["scans"][:2]
    for name in METHODS:
        assert full["methods"][name]["psnr"]["mean"] > wedge["methods"][name]["psnr"]["mean"]


def test_an_untrained_network_falls_short_and_the_table_says_so(measured):
    full, wedge, _ = measured[0]["scans"]
    assert any("dB over TV" in words for words in wedge["shortfalls"])
    assert any("SSIM over TV" in words for words in wedge["shortfalls"])
    assert any(words.startswith("8 slices") for words in full["shortfalls"])
    assert "dB over TV, of +3 dB" in markdown(measured[0])


def test_the_real_scan_is_judged_by_angles_that_nobody_saw(measured):
    real = measured[0]["real"]
    assert set(real["heldout_error"]) == set(REAL_METHODS)
    assert real["heldout_angles"] == 6
    assert all(0 < error < 1 for error in real["heldout_error"].values())
    assert real["heldout_error"]["tv"] <= real["heldout_error"]["physics"]


def test_the_result_names_weights_and_conditions_and_is_plain_json(measured, weights_folder):
    result = measured[0]
    assert json.loads(json.dumps(result, allow_nan=False)) == json.loads((measured[1] / "quality.json").read_text())
    manifest = json.loads((weights_folder / "weights.json").read_text())
    assert result["weights"]["sha256"] == manifest["weights"][0]["sha256"]
    assert result["conditions"]["noise"] == {"signal": "emission", "counts_at_maximum": 1000.0}


def test_the_course_is_told_case_by_case_and_line_by_line(measured):
    result, _, told = measured
    total = 3 * len(FAMILIES) + 1
    assert [done for done, _, _ in told["cases"]] == list(range(1, total + 1))
    assert {count for _, count, _ in told["cases"]} == {total}
    assert told["lines"] == result["scans"]


def test_the_page_has_a_row_for_each_scan_with_as_many_cells_as_its_header(measured):
    page = (measured[1] / "quality.md").read_text()
    tables = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]
    assert [len(table) - 2 for table in tables] == [3, 3, 1]
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
    assert re.search(r"\| 100°, 50% of the scan \|", page)


def test_the_contact_sheet_is_a_picture_as_wide_as_its_columns(measured):
    from matplotlib import image

    height, width, _ = image.imread(measured[1] / "quality.png").shape
    assert width > 1000
    assert height > 300


def test_tables_show_every_method_and_what_falls_short(measured):
    console = Console(width=120, record=True, quiet=False, file=None, stderr=True)
    console.print(scan_table(measured[0]["scans"][1]), real_table(measured[0]["real"]))
    text = console.export_text()
    for words in (*METHODS.values(), *REAL_METHODS.values(), "short:", "PFITRE over TV"):
        assert words in text


def test_the_shown_run_keeps_standard_output_free(parameters, capsys):
    from dataclasses import replace

    brief = replace(parameters, wedges=(100.0,), parts=(), families=("bars",), real_rows=0)
    result = run_and_show(brief, families=FAMILIES)
    out, err = capsys.readouterr()
    assert out == ""
    assert "PFITRE over TV" in err
    assert result["real"] is None
    assert list(result["scans"][0]["families"]) == ["bars"]


def test_slices_without_truth_count_nowhere(parameters):
    from dataclasses import replace

    def half_empty(shape, rng):
        volume = ellipse(shape, rng)
        volume[: shape[0] // 2] = 0
        return volume

    brief = replace(parameters, wedges=(100.0,), parts=(), real_rows=0)
    result = run(brief, families={"half": half_empty})
    assert result["scans"][0]["slices"] == STACK // 2
    with pytest.raises(InputError, match="empty"):
        run(brief, families={"nothing": lambda shape, rng: np.zeros(shape, np.float32)})


def test_unknown_weights_and_a_folder_that_cannot_be_are_refused_before_anything_runs(parameters, tmp_path):
    from dataclasses import replace

    with pytest.raises(SettingsError, match="no weights 'absent'"):
        run(replace(parameters, weights="absent"), families=FAMILIES)
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="give another one"):
        run(parameters, families=FAMILIES, output=tmp_path / "file" / "folder")


def test_calls_spread_over_processes_give_each_its_own_result():
    assert dict(spread([str, list, dict], jobs=2)) == {0: "", 1: [], 2: {}}


def test_an_error_in_another_process_ends_the_run():
    with pytest.raises(TypeError):
        list(spread([int, memoryview], jobs=2))

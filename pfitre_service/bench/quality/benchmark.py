"""`pfitre bench quality`: what the network is worth, beside the strongest classical answers.

Filtered back-projection, SIRT, tuned total variation, one pass of the network and PFITRE, on objects of kinds that
training never saw, for several missing wedges and for the first parts of a scan, against the truth; and on a real scan,
by angles that no method has seen. See `quality_cases` for the cases and `quality_methods` for the methods.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from pfitre_service.bench.quality.case_runs import CaseResult, run_case, spread
from pfitre_service.bench.quality.cases import Family, Scan, cases, choose_families, scans
from pfitre_service.bench.quality.methods import load_network
from pfitre_service.bench.quality.parameters import STACK, QualityParameters
from pfitre_service.bench.quality.real_scan import run_real
from pfitre_service.bench.quality.report import draw_sheet, write_report
from pfitre_service.bench.quality.summary import summarise
from pfitre_service.errors import SettingsError

OnCase = Callable[[int, int, str], None]
"""Cases done, all cases, and the one that has just been done."""
OnLine = Callable[[dict[str, Any]], None]
"""A finished line of the table, as in the result's `scans`."""


def run(
    parameters: QualityParameters,
    *,
    output: Path | None = None,
    families: Mapping[str, Family] | None = None,
    on_case: OnCase = lambda done, total, words: None,
    on_line: OnLine = lambda line: None,
) -> dict[str, Any]:
    """Measures everything; returns plain numbers, which fall in with `json`.

    output: a folder for `quality.json`, `quality.md` and the contact sheet `quality.png`. families: what to draw
    objects from instead of the held-back families of `twin.families`. Raises InputError and SettingsError.
    """
    begin = time.perf_counter()
    chosen = choose_families(parameters.families, families if families is not None else _held_back())
    _, info = load_network(parameters.weights, parameters.weights_folder)
    if output is not None:
        _make_folder(output)
    every = cases(parameters, tuple(chosen))
    calls: list[Callable[[], Any]] = [partial(run_case, case, chosen[case.family], parameters) for case in every]
    names = [str(case) for case in every]
    if parameters.real_rows:
        calls.append(partial(run_real, parameters))
        names.append("real scan")
    answers: dict[int, Any] = {}
    lines: dict[Scan, dict[str, Any]] = {}
    for place, answer in spread(calls, parameters.jobs):
        answers[place] = answer
        on_case(len(answers), len(calls), names[place])
        for scan in scans(parameters):
            members = [index for index, case in enumerate(every) if case.scan == scan]
            if scan not in lines and all(index in answers for index in members):
                lines[scan] = summarise(scan, [answers[index] for index in members])
                on_line(lines[scan])
    result = {
        "weights": {"name": info.name, "sha256": info.sha256, "architecture": info.architecture},
        "conditions": _conditions(parameters, tuple(chosen)),
        "scans": [lines[scan] for scan in scans(parameters)],
        "real": answers[len(every)] if parameters.real_rows else None,
        "seconds": time.perf_counter() - begin,
    }
    if output is not None:
        write_report(result, output)
        draw_sheet(output / "quality.png", _shown(parameters, [answers[index] for index in range(len(every))]))
    return result


def _held_back() -> Mapping[str, Family]:
    from pfitre_service.twin.families import HELD_BACK_FAMILIES

    return HELD_BACK_FAMILIES


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"cannot make the folder {folder} for the report: {error}; give another one") from error


def _conditions(parameters: QualityParameters, families: tuple[str, ...]) -> dict[str, Any]:
    return {
        "families": list(families),
        "objects_of_each_family": parameters.objects,
        "slices_of_each_object": STACK,
        "size": parameters.size,
        "angles_per_degree": parameters.size / 128,
        "noise": {"signal": "emission", "counts_at_maximum": parameters.counts},
        "sirt_iterations": parameters.sirt_iterations,
        "tv_iterations": parameters.tv_iterations,
        "pfitre": asdict(parameters.admm),
        "seed": parameters.seed,
        "jobs": parameters.jobs,
    }


def _shown(parameters: QualityParameters, results: list[CaseResult]) -> list[CaseResult]:
    """The first object of each family, in the whole scan nearest to `part_missing`."""
    missing = min(parameters.wedges, key=lambda wedge: abs(wedge - parameters.part_missing))
    return [result for result in results if result.case.scan == Scan(missing) and result.case.number == 0]

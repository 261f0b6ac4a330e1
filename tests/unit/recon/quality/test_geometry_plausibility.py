"""Angles and field of view held against projections of discs, which are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from pfitre_service.bench.quality.cases import Case, Scan, simulate
from pfitre_service.bench.quality.parameters import QualityParameters
from pfitre_service.recon.quality.geometry_plausibility import geometry_findings
from pfitre_service.twin.families import HELD_BACK_FAMILIES, TRAINING_FAMILIES

DISCS = [(0.25, 0.30, 0.22, 1.0), (-0.35, 0.05, 0.16, 1.6), (0.10, -0.42, 0.12, 2.2)]
"""x, y, radius in half widths; attenuation."""
WEDGE = np.arange(-75.0, 75.1, 3.0)
UNWRAPPED = np.arange(60) * 111.246
GOLDEN = np.remainder(UNWRAPPED, 180.0) - 90.0


def projections(angles, columns=48, axis=None, half=24.0, photons=20_000, seed=0):
    """(angle, 3 slices, column) line integrals with photon noise."""
    axis = (columns - 1) / 2 if axis is None else axis
    places = (np.arange(columns) - axis) / half
    made = np.zeros((len(angles), columns))
    for row, angle in enumerate(np.deg2rad(angles)):
        for x, y, radius, attenuation in DISCS:
            away = places - (x * np.cos(angle) + y * np.sin(angle))
            made[row] += 2 * attenuation * np.sqrt(np.maximum(radius**2 - away**2, 0))
    counts = np.random.default_rng(seed).poisson(photons * np.exp(-np.repeat(made[:, None], 3, 1)))
    return -np.log(np.maximum(counts, 1) / photons).astype(np.float32)


def told(rows, angles):
    return {finding.name: finding.fatal for finding in geometry_findings(rows, np.asarray(angles, np.float64))}


FULL, HALF_TURN = np.arange(0.0, 360.0, 4.0), np.arange(0.0, 180.0, 2.0)
RNG = np.random.default_rng(1)
SHUFFLE = RNG.permutation(len(WEDGE))


@pytest.mark.parametrize(
    ("true", "said", "name"),
    [
        (WEDGE, np.deg2rad(WEDGE), "angles-in-radians"),
        (HALF_TURN, np.deg2rad(HALF_TURN), "angles-in-radians"),
        (WEDGE, 1000 * np.deg2rad(WEDGE), "angles-in-milliradians"),
        (WEDGE, 1000 * WEDGE, "angles-in-millidegrees"),
        (FULL, FULL / 2, "angles-halved"),
        (HALF_TURN, 2 * HALF_TURN, "angles-doubled"),
        (WEDGE, np.abs(WEDGE), "angles-without-sign"),
        (np.sort(GOLDEN), GOLDEN, "angles-in-other-order"),
        (GOLDEN, GOLDEN[::-1], "angles-in-other-order"),
        (WEDGE, np.zeros(len(WEDGE)), "angles-do-not-change"),
        (WEDGE, np.full(len(WEDGE), 360.0), "angles-do-not-change"),
    ],
)
def test_angles_that_are_read_wrongly_are_named_and_refused(true, said, name):
    assert told(projections(true), said) == {name: True}


@pytest.mark.parametrize(("true", "said"), [(GOLDEN, np.sort(GOLDEN)), (WEDGE[SHUFFLE], WEDGE)])
def test_projections_in_another_order_than_their_angles_are_doubted(true, said):
    assert told(projections(true), said) == {"angles-contradict-projections": False}


@pytest.mark.parametrize(
    "angles",
    [
        WEDGE,
        WEDGE[::-1],
        WEDGE[SHUFFLE],
        GOLDEN,
        np.arange(60) * 111.246,
        FULL,
        HALF_TURN,
        WEDGE[:12],
        WEDGE[:3],
        [0.0],
    ],
    ids=["wedge", "descending", "shuffled", "golden", "golden unwrapped", "full", "half", "begun", "three", "one"],
)
def test_angles_that_are_right_are_not_doubted_in_any_order(angles):
    assert told(projections(np.asarray(angles)), angles) == {}


def test_steps_of_more_than_a_turn_and_a_span_of_a_few_degrees_are_doubted():
    round_sample = projections(WEDGE)[:1].repeat(len(WEDGE), 0)  # says nothing of its angle
    assert told(round_sample, WEDGE * 1234.5) == {"angles-far-apart": False}
    few = np.linspace(-1.2, 1.2, 30)
    assert told(projections(few), few) == {"angles-span-little": False}


def test_a_half_acquisition_is_refused_and_a_whole_one_beside_the_middle_is_not():
    around = np.arange(0.0, 360.0, 2.0)
    assert told(projections(around, axis=6.0, half=38.4), around) == {"half-acquisition": True}
    assert told(projections(around, axis=41.0, half=38.4), around) == {"half-acquisition": True}
    assert told(projections(around, axis=33.0, half=14.0), around) == {}
    assert told(projections(around, half=30.0), around).get("half-acquisition") is None


FAMILIES = {**HELD_BACK_FAMILIES, **TRAINING_FAMILIES}


@pytest.mark.parametrize("missing", [0.0, 90.0])
def test_simulated_scans_of_all_kinds_raise_no_doubt_and_radians_do(missing):
    alarms, doubted, refused = [], 0, 0
    for number, (name, family) in enumerate(FAMILIES.items()):
        case = Case(Scan(missing), name, 0, float(33 * number % 180))
        measured, _ = simulate(case, family, QualityParameters(size=48, counts=1000.0))
        rows, angles = measured.projections.numpy(), measured.angles.numpy()
        alarms += [f"{name}: {found}" for found in told(rows, angles)]
        in_radians = told(rows, np.deg2rad(angles))
        doubted += bool(in_radians)
        refused += any(in_radians.values())
    assert alarms == []
    assert doubted == len(FAMILIES)
    assert refused >= len(FAMILIES) // 4

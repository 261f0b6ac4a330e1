"""What is inferred, where the next angle belongs, and the model of the error."""

from __future__ import annotations

import json
import math

import pytest
import torch

from pfitre_service.errors import InputError
from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.quality.error_model import ErrorModel, shipped_error_model
from pfitre_service.recon.quality.evidence import (
    FEATURES,
    Evidence,
    around,
    inferred_part,
    missing_share,
    next_angle,
    unmeasured,
)

SIZE = 64


def measured(angles) -> torch.Tensor:
    """What is left unmeasured by projections at `angles`."""
    data = NormalEquations(ScanGeometry.from_detector(rows=1, columns=SIZE))
    angles = torch.as_tensor(angles, dtype=torch.float64)
    data.add(torch.zeros(len(angles), 1, SIZE), angles)
    return unmeasured(data)


def wave(degrees: float, period: float = 6.0) -> torch.Tensor:
    """A plane wave whose crests a projection at `degrees` resolves, faded towards the edge."""
    place = torch.arange(SIZE, dtype=torch.float32) - (SIZE - 1) / 2
    y, x = torch.meshgrid(place, place, indexing="ij")
    along = x * math.cos(math.radians(degrees)) + y * math.sin(math.radians(degrees))
    fade = torch.exp(-(x.square() + y.square()) / (2 * (SIZE / 6) ** 2))
    return (torch.cos(2 * math.pi * along / period) * fade)[None]


@pytest.mark.parametrize("degrees", [0.0, 35.0, 90.0, 140.0])
def test_a_wave_is_measured_where_its_direction_was_and_inferred_where_not(degrees):
    data = measured(torch.arange(degrees - 50, degrees + 50, 1.0))
    seen, unseen = wave(degrees), wave(degrees + 90)
    assert inferred_part(data, seen).norm() < 0.2 * seen.norm()
    assert inferred_part(data, unseen).norm() > 0.9 * unseen.norm()


def test_nothing_is_inferred_of_a_whole_scan():
    data, x = measured(torch.arange(0, 180, 1.0)), wave(20.0) + wave(110.0, 4.0)
    assert inferred_part(data, x).norm() < 0.15 * x.norm()
    assert missing_share(data) < missing_share(measured(torch.arange(0, 120, 1.0))) < 1.0


def test_the_next_angle_is_where_prior_and_data_disagree_among_what_is_missing():
    data = measured(torch.arange(-30, 31, 1.0))
    x = torch.zeros(1, SIZE, SIZE)
    assert next_angle(data, x, wave(125.0) + 3 * wave(0.0)) == pytest.approx(125, abs=4)
    assert next_angle(data, x, wave(70.0)) == pytest.approx(70, abs=4)


def test_the_next_angle_lies_in_the_gap_where_nothing_is_in_dispute():
    same = wave(10.0)
    assert 45 < next_angle(measured(torch.arange(-30, 31, 1.0)), same, same) < 135


def test_an_average_keeps_a_constant_and_spreads_a_point():
    assert torch.allclose(around(torch.full((2, 20, 20), 3.0)), torch.tensor(3.0))
    point = torch.zeros(1, 31, 31)
    point[0, 15, 15] = 1.0
    spread = around(point)
    assert float(spread.sum()) == pytest.approx(1.0, rel=1e-5)
    assert float(spread.max()) == pytest.approx(1 / (2 * math.pi * 4), rel=0.02)


def evidence(x: torch.Tensor, physics: torch.Tensor | None = None) -> Evidence:
    return Evidence(x, x if physics is None else physics, torch.zeros_like(x), torch.zeros_like(x))


def test_the_expected_error_follows_the_unit_of_the_volume():
    x = wave(30.0).abs()
    model = shipped_error_model()
    error, _ = model.expected(evidence(x, x + 0.1 * wave(80.0)), 0.4)
    larger, _ = model.expected(evidence(1000 * x, 1000 * x + 100 * wave(80.0)), 0.4)
    assert error.shape == x.shape
    assert float(error.min()) > 0
    assert torch.allclose(larger, 1000 * error, rtol=1e-3)


def test_the_expected_error_is_larger_where_the_physics_says_otherwise():
    x = torch.ones(1, SIZE, SIZE)
    physics = x.clone()
    physics[:, :, : SIZE // 2] += wave(40.0)[:, :, : SIZE // 2]
    error, _ = shipped_error_model().expected(evidence(x, physics), 0.4)
    middle = slice(SIZE // 4, 3 * SIZE // 4)
    assert error[0, middle, : SIZE // 2 - 8].mean() > 1.5 * error[0, middle, SIZE // 2 + 8 :].mean()


def test_a_volume_unlike_all_of_the_fit_is_told():
    _, outside = shipped_error_model().expected(evidence(torch.ones(1, SIZE, SIZE)), 0.999)
    assert "missing share" in outside


def test_an_empty_volume_has_finite_errors():
    error, _ = shipped_error_model().expected(evidence(torch.zeros(1, SIZE, SIZE)), 0.5)
    assert torch.isfinite(error).all()


def test_a_model_goes_through_a_file_and_not_into_other_features():
    document = json.loads(json.dumps(shipped_error_model().document()))
    features = torch.randn(len(FEATURES), 50, generator=torch.Generator().manual_seed(0))
    again = ErrorModel.from_document(document)
    assert torch.equal(again.logarithm(features), shipped_error_model().logarithm(features))
    with pytest.raises(InputError, match="the error model reads"):
        ErrorModel.from_document(document | {"features": ["brightness"]})

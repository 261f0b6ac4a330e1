"""What inference has cost on simulated samples, as the shipped coefficients say it."""

from __future__ import annotations

import math

import pytest

from pfitre_service.recon.quality.inference_cost import InferenceCost, shipped_inference_cost


def test_more_inferred_or_more_missing_is_never_said_to_cost_less():
    cost = shipped_inference_cost()
    by_inferred = [cost.cost(0.5, share) for share in (0.0, 0.05, 0.2, 0.5, 0.9)]
    by_missing = [cost.cost(share, 0.3) for share in (0.0, 0.2, 0.4, 0.6, 0.8)]
    for said in (by_inferred, by_missing):
        for name in ("error", "error_upper", "lost_upper"):
            values = [getattr(one, name) for one in said]
            assert values == sorted(values)
            assert values[0] < values[-1]


def test_half_of_the_samples_lie_below_what_nine_in_ten_do_and_nothing_exceeds_the_whole():
    cost = shipped_inference_cost()
    for missing in (0.05, 0.4, 0.95):
        for inferred in (1e-6, 0.1, 0.7, 3.0):
            said = cost.cost(missing, inferred)
            assert 0 < said.error <= said.error_upper <= 1
            assert 0 < said.lost_upper <= 1


def test_a_volume_without_an_inferred_share_has_no_cost():
    said = shipped_inference_cost().cost(0.4, math.nan)
    assert math.isnan(said.error)
    assert math.isnan(said.error_upper)
    assert math.isnan(said.lost_upper)


def test_the_coefficients_come_back_from_their_document():
    cost = shipped_inference_cost()
    again = InferenceCost.from_document(cost.document())
    assert again.cost(0.5, 0.3) == cost.cost(0.5, 0.3)
    assert cost.about["tomograms"] >= 200
    assert len(cost.about["families"]) >= 12


def test_the_logarithm_of_what_is_said_is_linear_in_the_shares():
    cost = InferenceCost((-3.0, 1.0, 0.5), (-2.0, 1.0, 0.5), (-4.0, 2.0, 1.0), about={})
    said = cost.cost(0.5, 0.25)
    assert said.error == pytest.approx(math.exp(-3 + 0.5) * 0.25**0.5)
    assert said.error_upper == pytest.approx(math.exp(-2 + 0.5) * 0.25**0.5)
    assert said.lost_upper == pytest.approx(math.exp(-4 + 1.0) * 0.25)

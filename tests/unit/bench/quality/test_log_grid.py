"""The search over a weight ends with a best that has lower neighbours on both sides."""

from __future__ import annotations

import math

import pytest

from pfitre_service.bench.quality.log_grid import REACH, search


def hill(top: float):
    """A score that is highest at `top`, falling with the logarithm's distance."""
    return lambda weight: -abs(math.log2(weight / top))


@pytest.mark.parametrize("top", [0.004, 0.03, 0.1, 0.9, 4.0])
def test_it_finds_the_top_within_half_a_step(top):
    trials = search(lambda weight: (hill(top)(weight),), start=0.1)
    assert abs(math.log2(trials.weight(trials.best()) / top)) <= 0.25 + 1e-9
    assert not trials.at_edge()


def test_each_figure_gets_a_top_of_its_own():
    trials = search(lambda weight: (hill(0.02)(weight), hill(1.0)(weight)), start=0.1)
    found = [trials.weight(trials.best(figure)) for figure in range(2)]
    assert found == pytest.approx([0.02, 1.0], rel=0.2)
    assert not trials.at_edge(0)
    assert not trials.at_edge(1)


def test_no_weight_is_tried_twice():
    tried: list[float] = []
    search(lambda weight: (tried.append(weight) or hill(0.5)(weight),), start=0.1)
    assert len(tried) == len(set(tried))


def test_a_score_that_always_rises_ends_at_the_edge_and_says_so():
    trials = search(lambda weight: (weight,), start=1.0)
    assert trials.best() == REACH
    assert trials.at_edge()

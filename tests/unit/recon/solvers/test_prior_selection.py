"""How answers of a network are judged by angles that no solver has seen."""

from __future__ import annotations

import math

import torch

from pfitre_service.recon.solvers.prior_rounds import Round
from pfitre_service.recon.solvers.prior_selection import HeldoutErrors, PriorMonitor, is_better


def test_an_answer_takes_the_place_of_an_earlier_one_when_it_is_as_good_and_of_a_later_one_when_it_is_better():
    def made(number: int, error: float) -> Round:
        picture = torch.zeros(1, 8, 8)
        return Round(picture, picture, number, 1.0, error)

    assert is_better(made(2, 1.003), made(1, 1.0))
    assert not is_better(made(2, 1.01), made(1, 1.0))
    assert not is_better(made(1, 0.997), made(3, 1.0))
    assert is_better(made(1, 0.99), made(3, 1.0))
    assert is_better(made(1, math.nan), made(3, math.nan))


class TestWatch:
    def watched(self, *errors: float) -> list[bool]:
        watch = PriorMonitor(patience=2)
        return [watch(HeldoutErrors(physics=1.2, classical=1.0, guided=error)) for error in errors]

    def test_wants_several_bad_rounds_in_a_row(self):
        assert self.watched(1.1, 1.0, 1.1, 1.1) == [False] * 3 + [True]

    def test_a_little_worse_is_not_bad(self):
        assert not any(self.watched(*[1.019] * 10))

    def test_what_is_unknown_says_nothing(self):
        assert not any(self.watched(*[math.nan] * 10))

from __future__ import annotations

from dataclasses import dataclass

from pfitre_service.service.worker.worker import next_turn


@dataclass(frozen=True)
class Tomogram:
    name: str
    unread: int = 0
    has_work: bool = True


A, B, C = Tomogram("a"), Tomogram("b"), Tomogram("c")


def test_nobody_has_a_turn_where_there_is_nothing_to_do():
    assert next_turn([], None) is None
    assert next_turn([Tomogram("a", has_work=False)], None) is None


def test_tomograms_take_turns():
    assert next_turn([A, B, C], None) == A
    assert next_turn([A, B, C], A) == B
    assert next_turn([A, B, C], C) == A


def test_one_that_is_idle_is_passed_over():
    assert next_turn([A, Tomogram("b", has_work=False), C], A) == C


def test_one_that_ended_does_not_disturb_the_order():
    assert next_turn([A, B], C) == A


def test_new_projections_come_before_further_iterations():
    fresh = Tomogram("c", unread=3)
    assert next_turn([A, B, fresh], A) == fresh
    assert next_turn([A, B, fresh], fresh) == fresh


def test_tomograms_with_new_projections_take_turns_among_themselves():
    one, other = Tomogram("a", unread=1), Tomogram("b", unread=9)
    assert next_turn([one, other], one) == other
    assert next_turn([one, other], other) == one

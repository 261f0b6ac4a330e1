"""Rows of a stream's table become takes of its points."""

from __future__ import annotations

import pytest

from pfitre_service.errors import InputError
from pfitre_service.ingest.stored_runs.event_rows import takes_of


def rows(*numbers, start=1000.0):
    return [{"seq_num": number, "time": start + place, "theta": 10 * place} for place, number in enumerate(numbers)]


def places(takes):
    return [take.row["theta"] // 10 for take in takes]


def test_a_point_that_was_taken_again_is_two_takes_with_names_of_their_own():
    takes = takes_of([rows(1, 2, 3, 2, 3, 4)], "s", is_over=True)
    assert [(take.number, take.again) for take in takes] == [(1, 0), (2, 0), (3, 0), (2, 1), (3, 1), (4, 0)]
    assert len({take.name for take in takes}) == 6
    assert places(takes) == [0, 1, 2, 3, 4, 5]


def test_rows_that_a_database_gives_in_any_order_are_put_in_theirs():
    plain, again = rows(1, 2, 3, 4), rows(1, 2, 2, 3, 4)
    assert places(takes_of([[plain[2], plain[0], plain[3], plain[1]]], "s", is_over=True)) == [0, 1, 2, 3]
    shuffled = [again[3], again[1], again[4], again[0], again[2]]
    assert places(takes_of([shuffled], "s", is_over=True)) == [0, 1, 2, 3, 4]


def test_a_clock_that_was_set_back_does_not_turn_the_takes_round():
    stored = [*rows(1, 2, 3), *rows(2, 3, start=500.0)]
    assert [(take.number, take.row["time"]) for take in takes_of([stored], "s", is_over=True)] == [
        (1, 1000.0),
        (2, 1001.0),
        (3, 1002.0),
        (2, 500.0),
        (3, 501.0),
    ]


def test_rows_that_were_sent_twice_over_a_lost_answer_are_no_takes():
    stored = rows(1, 2, 3)
    takes = takes_of([[*stored, *stored[1:], {"seq_num": 4, "time": 1003.0, "theta": 30}]], "s", is_over=True)
    assert [(take.number, take.again) for take in takes] == [(1, 0), (2, 0), (3, 0), (4, 0)]


def test_the_tables_of_a_stream_with_very_many_columns_are_joined_by_place():
    numbers = [{"seq_num": number, "theta": 10 * place} for place, number in enumerate((1, 1, 2))]
    times = [{"time": 1000.0 + place, "y": place} for place in range(4)]
    takes = takes_of([numbers, times], "s", is_over=False)
    assert [(take.number, take.again, take.row["y"]) for take in takes] == [(1, 0, 0), (1, 1, 1), (2, 0, 2)]
    with pytest.raises(InputError, match=r"\[3, 4\] rows"):
        takes_of([numbers, times], "s", is_over=True)

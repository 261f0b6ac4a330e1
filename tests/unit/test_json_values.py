"""Text that every reader of JSON takes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pfitre_service.json_values import strict_json


def refused(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_what_is_not_finite_is_null_and_numpy_is_plain():
    value = {"a": [1.5, float("nan"), np.float32("inf")], "b": np.arange(2), 3: np.bool_(True)}
    found = json.loads(strict_json(value, "the test"), parse_constant=refused)
    assert found == {"a": [1.5, None, None], "b": [0, 1], "3": True}


def test_fractions_keep_the_digits_asked_for():
    assert strict_json([1 / 3, 12345678], "the test", digits=3) == "[0.333, 12345678]"


def test_what_has_no_json_form_is_named_with_its_place():
    with pytest.raises(TypeError, match=r"the test\.a\[1\] cannot be stored: a object"):
        strict_json({"a": [1, object()]}, "the test")

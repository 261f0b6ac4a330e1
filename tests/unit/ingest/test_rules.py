"""The `[documents]` table of a beamline's profile."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from pfitre_service.errors import SettingsError
from pfitre_service.ingest import DocumentRules


def test_a_table_is_read_with_its_lists_and_unknown_keys_are_refused():
    adapter = TypeAdapter(DocumentRules)
    rules = adapter.validate_python({"rotation": "zps", "projection_streams": ["tomo"], "hold_s": 5})
    assert rules == DocumentRules(rotation="zps", projection_streams=("tomo",), hold_s=5.0)
    with pytest.raises(ValidationError, match="rotaton"):
        adapter.validate_python({"rotaton": "zps"})
    with pytest.raises(ValidationError, match="angle_unit"):
        adapter.validate_python({"angle_unit": "turns"})


def test_every_setting_is_described():
    properties = TypeAdapter(DocumentRules).json_schema()["properties"]
    assert set(properties) == {field.name for field in dataclasses.fields(DocumentRules)}
    assert all(entry.get("description") for entry in properties.values())


@pytest.mark.parametrize(
    "wrong",
    [
        {"flat_streams": ("primary",)},
        {"projection_streams": ()},
        {"max_open_runs": 0},
        {"abandon_after_s": 0.0},
        {"hold_s": -1.0},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]):
    with pytest.raises(SettingsError, match="documents:"):
        DocumentRules(**wrong)

"""What is checked before any process starts."""

from __future__ import annotations

import importlib.util
import logging

import pytest

from pfitre_service.config import Settings, load_settings
from pfitre_service.errors import SettingsError
from pfitre_service.service.composition import PROCESSES, process_specs
from pfitre_service.service.serve import make_supervisor, run_alone


def with_epics(**epics):
    return load_settings(None, {"epics": {"prefix": "XF18:pfitre:", **epics}})


def test_process_variables_are_off_unless_a_prefix_is_given():
    assert [spec.name for spec in process_specs(Settings())] == ["receive", "tiled", "ingest", "worker"]
    specs = process_specs(with_epics())
    assert [spec.name for spec in specs] == ["receive", "tiled", "ingest", "worker", "epics"]
    assert specs[-1].depends_on == ("tiled",)
    assert specs[-1].main is PROCESSES["epics"]


def test_without_p4p_the_service_does_not_start_and_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for start in (
        lambda: make_supervisor(with_epics(), log_level=logging.INFO),
        lambda: run_alone("epics", with_epics(), log_level=logging.INFO),
    ):
        with pytest.raises(SettingsError, match=r"XF18:pfitre: .* need p4p: pip install 'pfitre-service\[pva\]'"):
            start()
    make_supervisor(Settings(), log_level=logging.INFO)


def test_without_a_prefix_there_is_no_process_for_variables():
    with pytest.raises(SettingsError, match=r"set epics\.prefix, for example"):
        run_alone("epics", Settings(), log_level=logging.INFO)


def test_an_interface_that_is_no_address_is_named():
    with pytest.raises(SettingsError, match=r"epics\.interfaces must be addresses of this machine.*got 'eth0'"):
        make_supervisor(with_epics(interfaces=["127.0.0.1", "eth0"]), log_level=logging.INFO)


@pytest.mark.parametrize("prefix", ["has blank:", ":first", "x" * 60, "ä:"])
def test_a_prefix_that_no_client_could_write_is_refused(prefix):
    with pytest.raises(SettingsError, match=r"epics\.prefix"):
        load_settings(None, {"epics": {"prefix": prefix}})

"""What counts as not well: `pfitre status` exits 1 for all of it and for nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from pfitre_service.service.status import troubles


def process(state: str = "idle", *, ready: bool = True, reason: str = "", **details: Any) -> dict[str, Any]:
    return {"name": "ingest", "state": state, "reason": reason, "ready": ready, "pid": 1, "details": details}


def child(health: dict[str, Any] | None, phase: str = "ready", failure: str = "") -> dict[str, Any]:
    return {"health": health, "phase": phase, "last_failure": failure, "restarts": 0}


def service(*children: dict[str, Any], ready: bool = True) -> dict[str, Any]:
    named = {f"process {number}": one for number, one in enumerate(children)}
    return {
        "name": "supervisor",
        "state": "ok" if ready else "degraded",
        "reason": "",
        "ready": ready,
        "details": {"processes": named},
    }


@pytest.mark.parametrize("state", ["idle", "receiving", "iterating", "final", "references"])
def test_at_work_or_at_rest_is_well(state):
    assert troubles(process(state)) == []
    assert troubles(service(child(process(state)), child(process()))) == []


@pytest.mark.parametrize(
    "report",
    [
        process("starting", ready=False),
        process("failed", ready=False),
        process("degraded", reason="the catalogue cannot be written: no space left; 12 frames are in memory alone"),
        process("idle", refused_by_store=3),
        process("idle", store={"given_up": 1, "given_up_last": "tomogram a: given up"}),
        service(child(process()), ready=False),
        service(child(process()), child(process("waiting"))),
        service(child(None, "starting")),
        service(child(process("failed", ready=False), "waiting", "ended with 1")),
        service(child(process("idle", refused_by_store=3))),
    ],
)
def test_whatever_keeps_a_process_from_its_work_or_loses_frames_is_not(report):
    assert troubles(report) != []


def test_each_trouble_says_who_and_why():
    report = service(child(process("waiting", reason="no proxy")), child(None, "waiting", "ended with 1"))
    assert troubles(report) == ["ingest is waiting: no proxy", "process 1 is waiting: ended with 1"]
    given_up = process("idle", store={"given_up": 2, "given_up_last": "tomogram a: given up after 300 s"})
    assert troubles(given_up) == ["ingest gave up 2 tomograms; tomogram a: given up after 300 s"]
    assert troubles(process("idle", store={"given_up": 0, "given_up_last": None})) == []

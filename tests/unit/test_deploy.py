"""What stands in docker-compose.yml and deploy/ is held against the settings, the commands and the files it names."""

from __future__ import annotations

import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from pfitre_service.addresses import parse_address
from pfitre_service.config import HealthSettings, Settings, environment_tree

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CONTAINERFILES = ["Containerfile", "Containerfile.conda"]
UNIT = DEPLOY / "systemd" / "pfitre.service"
INSTRUCTIONS = {"FROM", "ARG", "ENV", "RUN", "WORKDIR", "COPY", "USER", "VOLUME", "CMD"}
SERVICES = ["receive", "tiled", "ingest", "worker"]


def compose(path: Path = ROOT / "docker-compose.yml") -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tree


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = compose()["services"][name]
    return found


def settings_of(name: str) -> Settings:
    return Settings.model_validate(environment_tree(service(name)["environment"]))


def instructions(name: str) -> list[tuple[str, str]]:
    """The container file as (INSTRUCTION, rest), with continued lines joined and comments left out."""
    lines = [line for line in (DEPLOY / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def copied(name: str) -> list[str]:
    return [source for word, rest in instructions(name) if word == "COPY" for source in rest.split()[:-1]]


def help_of(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pfitre_service", *command, "--help"], capture_output=True, text=True, timeout=60
    )


def test_compose_runs_each_process_once() -> None:
    assert list(compose()["services"]) == SERVICES
    assert set(SERVICES) == set(HealthSettings.model_fields) - {
        "supervisor",
        "epics",
    }  # PV Access from a bridge is not found
    assert [service(name)["command"] for name in SERVICES] == [["pfitre", "process", name] for name in SERVICES]


@pytest.mark.parametrize("name", SERVICES)
def test_every_key_of_a_container_is_a_setting_with_a_usable_value(name: str) -> None:
    environment = service(name)["environment"]
    assert environment, "nothing to check"
    assert all(key.startswith("PFITRE_") for key in environment)
    settings_of(name)


def test_a_key_that_is_no_setting_would_be_noticed() -> None:
    with pytest.raises(Exception, match="PFITRE_TILED__PROT"):
        environment_tree({"PFITRE_TILED__PROT": "8010"})


def test_the_gpu_override_changes_only_the_worker_and_only_real_settings() -> None:
    override = compose(DEPLOY / "compose.gpu.yml")["services"]
    assert list(override) == ["worker"]
    merged = service("worker")["environment"] | override["worker"]["environment"]
    assert Settings.model_validate(environment_tree(merged)).worker.device.startswith("cuda")
    assert "ARG TORCH_INDEX=" in (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    assert set(override["worker"]["build"]["args"]) == {"TORCH_INDEX"}


def test_the_containers_find_each_other() -> None:
    receive, tiled, ingest, worker = map(settings_of, SERVICES)
    assert ingest.tiled.uri == worker.tiled.uri == f"http://tiled:{tiled.tiled.port}"
    assert tiled.tiled.uri is None, "the container that embeds the catalogue must not look for another"
    assert receive.data_dir == ingest.data_dir, "one keeps what it hears where the other reads it"
    listening = {
        "tiled": {tiled.tiled.port},
        "receive": {parse_address(receive.proxy.publish)[1], parse_address(receive.proxy.subscribe)[1]},
    }
    for name in SERVICES:
        inside = {int(port.rpartition(":")[2]) for port in service(name).get("ports", [])}
        assert inside == listening.get(name, set())


def test_nothing_is_published_beyond_loopback_and_reading_needs_the_key() -> None:
    published = [port for name in SERVICES for port in service(name).get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert not settings_of("tiled").tiled.allows_anonymous_read
    assert all(parse_address(getattr(settings_of(name).health, name))[0] == "127.0.0.1" for name in SERVICES)


@pytest.mark.parametrize("name", ["receive", "tiled", "ingest"])
def test_what_is_kept_outlives_its_container(name: str) -> None:
    volumes = [volume.split(":") for volume in service(name)["volumes"]]
    assert [(source in compose()["volumes"], target) for source, target in volumes] == [(True, "/data")]
    assert settings_of(name).data_dir == Path("/data")


@pytest.mark.parametrize("name", SERVICES)
def test_the_key_comes_as_a_secret_file_and_stands_nowhere_else(name: str) -> None:
    (secret,) = service(name)["secrets"]
    assert settings_of(name).api_key_file == Path("/run/secrets") / secret
    assert compose()["secrets"][secret] == {"file": "./deploy/secrets/api_key"}
    assert (DEPLOY / "secrets" / ".gitignore").read_text(encoding="utf-8").splitlines() == ["*", "!.gitignore"]


@pytest.mark.parametrize("name", SERVICES)
def test_each_container_is_checked_restarted_stopped_gently_and_kept_small(name: str) -> None:
    found = service(name)
    assert found["healthcheck"]["test"] == ["CMD", "pfitre", "status", "--process", name]
    assert found["restart"] == "unless-stopped"
    assert int(found["stop_grace_period"].removesuffix("s")) > 10
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]


def test_containers_start_after_what_they_need_is_healthy() -> None:
    needs = {name: service(name).get("depends_on", {}) for name in SERVICES}
    assert needs == {
        "tiled": {},
        "receive": {},
        "ingest": {"tiled": {"condition": "service_healthy"}, "receive": {"condition": "service_healthy"}},
        "worker": {"tiled": {"condition": "service_healthy"}},
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "mentions"), [("process", "worker"), ("status", "--process"), ("serve", "--profile")]
)
def test_every_command_that_is_named_exists(command: str, mentions: str) -> None:
    answer = help_of(command)
    assert answer.returncode == 0, answer.stderr
    assert mentions in answer.stdout


@pytest.mark.parametrize("name", CONTAINERFILES)
def test_a_container_file_reads_line_by_line(name: str) -> None:
    found = instructions(name)
    assert found[0][0] == "FROM"
    assert {word for word, _ in found} <= INSTRUCTIONS
    assert all(rest.strip() for _, rest in found)
    assert found[-1] == ("CMD", '["pfitre", "serve"]')


@pytest.mark.parametrize("name", CONTAINERFILES)
def test_an_image_does_not_run_as_root(name: str) -> None:
    users = [index for index, (word, _) in enumerate(instructions(name)) if word == "USER"]
    assert instructions(name)[users[-1]] == ("USER", "pfitre")
    assert not any(word == "RUN" for word, _ in instructions(name)[users[-1] :])


@pytest.mark.parametrize("name", CONTAINERFILES)
def test_what_an_image_copies_exists_and_reaches_the_build(name: str) -> None:
    rules = (DEPLOY / f"{name}.dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert "*" in rules, "everything is left out but what is named"
    assert copied(name)
    for source in copied(name):
        assert (ROOT / source).exists(), source
        assert source in allowed
    assert not any(fnmatch("deploy/secrets/api_key", pattern) for pattern in allowed)


def test_the_image_is_built_from_the_tested_versions() -> None:
    runs = [rest for word, rest in instructions("Containerfile") if word == "RUN"]
    assert any("--constraint tested.txt" in rest for rest in runs)
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert any(pin.startswith("torch==") for pin in pins), "the first step of the build installs torch by its pin"


def test_compose_builds_from_a_file_that_is_there_with_arguments_it_knows() -> None:
    build = service("worker")["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).is_file()
    known = {rest.partition("=")[0] for word, rest in instructions("Containerfile") if word == "ARG"}
    assert set(build["args"]) <= known


def test_the_systemd_unit_sets_real_settings_and_leaves_time_to_stop() -> None:
    lines = [line for line in UNIT.read_text(encoding="utf-8").splitlines() if line and line[0] not in "#["]
    pairs = [line.partition("=")[::2] for line in lines]
    environment = dict(value.partition("=")[::2] for key, value in pairs if key == "Environment")
    assert environment
    Settings.model_validate(environment_tree(environment))
    values = dict(pairs)
    assert re.fullmatch(r"/\S+/pfitre serve --profile \S+", values["ExecStart"])
    assert (values["KillMode"], int(values["TimeoutStopSec"]) > 10) == ("mixed", True)


def test_every_setting_that_the_readme_names_is_one() -> None:
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"PFITRE_[A-Z_]+[A-Z]", text))
    assert len(named) >= 4
    environment_tree(dict.fromkeys(named, "x"))

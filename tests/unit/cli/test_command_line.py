from __future__ import annotations

import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

import pfitre_service
from pfitre_service.cli import app


def commands(command, path=()):
    """Every command with its path, such as ("bench", "solver")."""
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(("pfitre", *path)))
def test_every_command_s_help_teaches_by_example(path):
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    example = " ".join(("pfitre", *path))
    lines = [line.strip() for line in result.stdout.splitlines()]
    said = [line for line in lines if example in line and not line.startswith("Usage:")]
    assert said, f"no example of `{example}` in its help"


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(("pfitre", *path)))
def test_every_option_is_explained(path):
    unexplained = [
        parameter.name
        for parameter in COMMANDS[path].params
        if not getattr(parameter, "hidden", False) and not getattr(parameter, "help", None)
    ]
    assert unexplained == []


def test_the_version_is_the_package_s():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout.strip()) == (0, pfitre_service.__version__)


def test_a_command_line_that_cannot_be_read_has_an_exit_code_of_its_own():
    assert CliRunner().invoke(app, ["serve", "--colour", "blue"]).exit_code == 2
    assert CliRunner().invoke(app, ["dance"]).exit_code == 2


@pytest.mark.parametrize("statement", ["import pfitre_service", "import pfitre_service.cli"])
def test_importing_does_not_load_what_takes_seconds(statement):
    code = f"{statement}; import sys; print(*({{'torch', 'tiled', 'bluesky', 'ophyd', 'h5py'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.split() == []

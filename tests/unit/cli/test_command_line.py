from __future__ import annotations

import re
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


def words_of_help(path):
    """The help of a command as one line, without the frames that rich draws."""
    result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "300", "TERM": "dumb"})
    return " ".join(re.sub("[│╭╮╰╯─]", " ", result.stdout).split())


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


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(("pfitre", *path)))
def test_every_option_with_a_default_shows_it(path):
    help_text = words_of_help(path)
    for parameter in COMMANDS[path].params:
        default, said = parameter.default, parameter.show_default
        if isinstance(said, str):
            assert f"[default: ({said})]" in help_text, parameter.name
        elif default is not None and not callable(default) and not isinstance(default, bool):
            assert f"[default: {default}]" in help_text, parameter.name


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(("pfitre", *path)))
def test_no_word_in_brackets_is_lost_from_a_help(path):
    """Rich takes [words] in brackets for styles and leaves them out."""
    command, help_text = COMMANDS[path], words_of_help(path)
    for text in filter(None, (command.help, command.epilog, *(getattr(one, "help", "") for one in command.params))):
        for brackets in re.findall(r"\[[^\]]*\]", text):
            is_style = brackets in ("[bold]", "[/bold]")
            assert (brackets in help_text) != is_style, f"{brackets} of {text!r}"


SCAN_FILE_OPTIONS = ("angles", "flats", "darks", "measurement", "order")


@pytest.mark.parametrize("name", SCAN_FILE_OPTIONS)
def test_scan_files_are_described_by_the_same_options_wherever_they_are_read(name):
    described = [
        (option.opts, option.metavar, option.help, option.show_default, option.default)
        for path in (("reconstruct",), ("replay",), ("doctor",))
        for option in COMMANDS[path].params
        if option.name == name
    ]
    assert len(described) == 3
    assert described[0] == described[1] == described[2]


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

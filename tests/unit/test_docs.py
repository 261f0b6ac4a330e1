"""What README and docs/ say is held against the code: settings, commands, names, examples, links."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import textwrap
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

from pfitre_service.cli import app
from pfitre_service.config import Settings, environment_tree, setting_paths

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "profiles/sim/README.md", *DOCS.rglob("*.md")])
DECISIONS = DOCS / "decisions"
COMMANDS = typer.main.get_command(app)


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def label(page: Path) -> str:
    return str(page.relative_to(ROOT))


def fenced(page: Path, language: str = "") -> list[str]:
    """The fenced blocks of one language (of every language where none is named)."""
    blocks = re.findall(r"^ {0,3}```(\w*)\n(.*?)^ {0,3}```", read(page), flags=re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(body) for name, body in blocks if not language or name == language]


def command_lines(page: Path) -> list[str]:
    """Every `pfitre ...` in a code block or in inline code."""
    text = read(page)
    prose = re.sub(r"^ {0,3}```.*?^ {0,3}```", "", text, flags=re.DOTALL | re.MULTILINE)
    indented = re.findall(r"^ {4,}(.+)$", prose, flags=re.MULTILINE)
    code = [line for block in fenced(page) for line in block.splitlines()] + indented
    code += re.findall(r"`([^`\n]+)`", prose)
    found = (re.match(r"\s*(?:\$ )?(?:[A-Z_]+=\S* )*(?:\.venv/bin/)?(pfitre(?: .*)?)$", line) for line in code)
    return [match[1] for match in found if match]


def problem_with(line: str) -> str | None:
    """Why this is no command of the program; None when it is one."""
    words = shlex.split(re.split(r" [>|&]", line)[0], comments=True)[1:]
    command: Any = COMMANDS
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return f"no command {words[0]!r}"
        command = command.commands[words.pop(0)]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help", "-h"}
    unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]
    return f"no option {', '.join(unknown)}" if unknown else None


def settings_page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_settings", DOCS / "reference/make_settings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_settings_page_names_every_setting_and_no_other() -> None:
    tables = read(DOCS / "reference/settings.md").partition("## At the top")[2]
    named = re.findall(r"^\| `([a-z0-9_.]+)` \|", tables, flags=re.MULTILINE)
    assert sorted(named) == sorted(setting_paths())


def test_the_settings_page_has_the_defaults_and_words_of_the_code() -> None:
    stale = "settings.md is stale: run `python docs/reference/make_settings.py`"
    assert read(DOCS / "reference/settings.md") == settings_page().page(), stale


def test_how_to_describe_a_beamline_explains_every_key_of_documents() -> None:
    text = read(DOCS / "how-to/describe-your-beamline.md")
    keys = {path.removeprefix("documents.") for path in setting_paths() if path.startswith("documents.")}
    assert keys
    assert {key for key in keys if f"`{key}`" not in text} == set()


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_every_command_exists_with_its_options(page: Path) -> None:
    problems = {line: problem for line in command_lines(page) if (problem := problem_with(line))}
    assert problems == {}


def test_commands_are_found_and_wrong_ones_noticed() -> None:
    assert any(line.startswith("pfitre serve") for line in command_lines(ROOT / "README.md"))
    assert problem_with("pfitre demo --scan chip --keep") is None
    assert problem_with("pfitre demo --scna chip") is not None
    assert problem_with("pfitre bench solver --json > out.json") is None
    assert problem_with("pfitre watch") is not None


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_every_setting_that_is_set_in_an_example_is_one(page: Path) -> None:
    text = read(page)
    assert set(re.findall(r"--set ([a-z_.]+)=", text)) - setting_paths() - {"section.name"} == set()
    in_environment = set(re.findall(r"PFITRE_[A-Z_]+[A-Z]", text)) - {"PFITRE_SECTION__NAME"}
    environment_tree(dict.fromkeys(in_environment, "x"))


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_every_profile_shown_can_be_loaded(page: Path) -> None:
    for block in fenced(page, "toml"):
        Settings.model_validate(tomllib.loads(block))


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_python_examples_compile_and_import_what_exists(page: Path) -> None:
    for block in fenced(page, "python"):
        compile(block, label(page), "exec")
        for module, names in re.findall(r"^from (pfitre_service[\w.]*) import ([\w, ]+)$", block, flags=re.MULTILINE):
            for name in names.split(","):
                assert hasattr(importlib.import_module(module), name.strip())


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", read(page))
    gone = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert gone == []


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", read(ROOT / "Makefile"), flags=re.MULTILINE))
    used = re.findall(r"`make ([a-z]+)", read(page)) + re.findall(r"^ {4}make ([a-z]+)", read(page), flags=re.MULTILINE)
    assert set(used) <= targets


def test_decisions_are_numbered_without_gaps_listed_and_short() -> None:
    files = sorted(DECISIONS.glob("[0-9]*.md"))
    numbers = [int(file.name[:4]) for file in files]
    assert numbers == list(range(1, len(files) + 1))
    index = read(DECISIONS / "README.md")
    assert [file.name for file in files if f"({file.name})" not in index] == []
    for file in files:
        text = read(file)
        assert text.startswith(f"# {int(file.name[:4])}. "), file.name
        assert [part for part in ("## Context", "## Decision", "## Consequence") if part not in text] == [], file.name
        assert len(text.splitlines()) <= 45, file.name

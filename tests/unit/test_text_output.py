"""Text from documents is data: it steers no terminal, forges no line of a log, and ends no command."""

from __future__ import annotations

import ast
import contextlib
import io
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

import pfitre_service
from pfitre_service.service.status import render
from pfitre_service.text_output import LineFormatter, make_console, printable

HOSTILE = [
    "motor [/x] tripped",
    "[/nosuch]",
    "[bold]",
    "[link=file:///etc/passwd]x",
    ":skull:",
    "\x1b[2J\x1b]52;c;cm0gLXJm\x07",
    "\x9b31m",
    "a\rb\x08\x08",
    "\u202egnp.exe",
    "\u200bx\ufeff",
    "\ud800",
    "\u2028x",
    "\0",
    "$\\frac{",
    "x" * 5000,
]
TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(alphabet=st.characters(exclude_categories=()), max_size=60))


def harmless(text: str) -> bool:
    """Nothing in it but what is seen, line ends, tabs, and colours that the console itself has set."""
    return all(sign.isprintable() or sign in "\n\t" for sign in text)


@given(TEXTS)
def test_what_is_not_to_be_seen_is_shown(text):
    shown = printable(text)
    assert shown.isprintable()
    assert "\n" not in shown
    if text.isprintable():
        assert shown == text


def test_plain_text_of_any_language_stays_and_long_text_is_cut_with_a_word():
    assert printable("Probe Nr. 5: α-Fe₂O₃, 試料 µm") == "Probe Nr. 5: α-Fe₂O₃, 試料 µm"
    assert printable("a\nb\x1b[0m", lines=False) == "a\\nb\\x1b[0m"
    assert printable("a\nb", lines=True) == "a\nb"
    assert printable("x" * 30, 10) == "x" * 10 + " ... (20 more characters)"


@given(TEXTS)
def test_a_console_prints_anything_as_it_is_in_lines_and_tables(text):
    console = make_console()
    console.file = io.StringIO()
    table = Table("a", "b")
    table.add_row(text, "x")
    console.print(text)
    console.print(table)
    assert harmless(console.file.getvalue())


@given(TEXTS)
def test_status_shows_whatever_a_run_was_called(text):
    report = {
        "name": "supervisor",
        "state": "degraded",
        "reason": text,
        "ready": False,
        "details": {
            "processes": {
                "worker": {
                    "phase": text,
                    "restarts": 0,
                    "last_failure": text,
                    "health": {
                        "state": text,
                        "pid": 1,
                        "reason": text,
                        "name": text,
                        "ready": False,
                        "details": {"tomograms": [{"id": text, "state": text, "stored": 1, "expected": None}]},
                    },
                }
            }
        },
    }
    with contextlib.redirect_stdout(io.StringIO()) as out:
        render(report)
        render(
            {"name": "ingest", "state": text, "reason": text, "ready": False, "details": {"notes": [text], text: text}}
        )
    assert harmless(out.getvalue())


@given(TEXTS)
def test_a_message_is_one_line_of_a_log_and_a_traceback_is_indented(text):
    def logged(**options: object) -> str:
        record = logging.LogRecord("a", logging.WARNING, __file__, 1, "scan %s ended", (text,), options.get("exc"))  # type: ignore[arg-type]
        return LineFormatter("%(asctime)s %(levelname)s %(message)s").format(record)

    assert len(logged().split("\n")) == 1
    try:
        raise ValueError(text + "\n2026-11-30 00:00:00 ERROR forged")
    except ValueError as error:
        lines = logged(exc=(ValueError, error, error.__traceback__)).split("\n")
    assert all(line.startswith("  ") for line in lines[1:])
    assert all(line.isprintable() for line in lines)


def test_nothing_else_makes_a_console():
    """Text that is printed elsewhere would be read as markup."""
    root = Path(pfitre_service.__file__).parent
    found = [
        f"{path.relative_to(root)}:{node.lineno}"
        for path in root.rglob("*.py")
        if path.name != "text_output.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Console", "from_markup")
    ]
    assert found == []


@pytest.mark.parametrize("name", HOSTILE)
def test_a_tomogram_may_be_called_anything(name):
    from types import SimpleNamespace

    from pfitre_service.export.tomogram import Tomogram

    tomogram = Tomogram("abcdef", {"volume": SimpleNamespace(shape=(1, 2, 2))}, {"sample": name}, 1)  # type: ignore[dict-item]
    assert tomogram.name.isprintable()
    assert len(tomogram.name) < 300

"""Text from documents is data: it steers no terminal, forges no line of a log, and ends no command."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

import pfitre_service
from pfitre_service.cli.options import print_json
from pfitre_service.epics.state import Known
from pfitre_service.ingest import DocumentRules, Note, TomogramAssembler
from pfitre_service.json_values import plain
from pfitre_service.logs import LineFormatter, LogOptions, about, set_up_logging
from pfitre_service.model import TomogramKey
from pfitre_service.offline.doctor import render as show_diagnosis
from pfitre_service.offline.run_diagnosis import RunDiagnosis
from pfitre_service.service.status import render
from pfitre_service.text_output import make_console, printable, say, storable

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
    """Nothing in it but what is seen, line ends, and tabs."""
    return all(sign.isprintable() or sign in "\n\t" for sign in text)


@given(TEXTS)
def test_what_is_not_to_be_seen_is_shown(text):
    shown = printable(text)
    assert shown.isprintable()
    assert "\n" not in shown
    if text.isprintable():
        assert shown == text
    assert printable("a\xa0b\u3000c") == "a b c"


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
def test_a_text_is_one_line_of_a_console(text):
    console = make_console()
    console.file = io.StringIO()
    console.print(text, soft_wrap=True)
    assert console.file.getvalue().count("\n") == 1


@given(TEXTS)
def test_lines_of_our_own_may_quote_anything(text):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        say(f"weights {text}:\ngood")
    assert harmless(out.getvalue())
    assert out.getvalue().endswith(":\ngood\n")


@given(TEXTS)
def test_json_of_a_command_holds_anything_and_is_read_back(text):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print_json({"name": text, text: [text, Path("a") / text.replace("\0", "")]})
    assert out.getvalue().isascii()
    assert harmless(out.getvalue())
    kept = text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()  # half a surrogate pair is no text
    assert json.loads(out.getvalue())["name"] == kept or text == "name"


@given(TEXTS)
def test_what_is_kept_in_a_catalogue_can_be_written_as_utf_8(text):
    kept = plain({"sample": text, text: [text]})
    assert json.loads(json.dumps(kept, ensure_ascii=False).encode("utf-8")) == kept
    assert "\0" not in str(kept)
    if not any(sign == "\0" or "\ud800" <= sign <= "\udfff" for sign in text):
        assert kept["sample"] == text
    assert storable("x" * 30, 10) == "x" * 10 + " ... (20 more characters)"


@given(TEXTS)
def test_process_variables_say_it_in_signs_that_are_seen(text):
    known = Known.from_metadata(
        TomogramKey("a"), {"status": text, "reason": text, "warnings": [text], "quality": {"sentence": text}}
    )
    assert all(one.isprintable() for one in (known.status, known.reason, known.sentence, *known.warnings))


@given(TEXTS)
def test_a_run_called_anything_is_understood_and_told_of(text):
    """As `pfitre doctor` does, whose lines are printed or written as JSON."""
    understanding = RunDiagnosis(DocumentRules(rotation="theta"))
    data_keys = {"theta": {"dtype": "number", "shape": []}, text: {"dtype": "array", "shape": [4, 4]}}
    lines = understanding.take(
        [
            ("start", {"uid": "a", "sample": text, "plan_name": text, "measurement": text, "pixel_size_nm": text}),
            ("descriptor", {"uid": "d", "run_start": "a", "name": "primary", "data_keys": data_keys}),
            ("descriptor", {"uid": text, "run_start": "a", "name": text, "data_keys": data_keys}),
            (text, {"uid": text}),
            ("stop", {"run_start": "a", "exit_status": text, "reason": text}),
        ]
    )
    diagnosis = {
        "source": text,
        "profile": text,
        "understood": False,
        "findings": [],
        "lines": [asdict(line) for line in lines],
    }
    with contextlib.redirect_stdout(io.StringIO()) as out:
        show_diagnosis(diagnosis)
    assert harmless(out.getvalue())


def test_what_is_told_of_a_document_is_short():
    assembler = TomogramAssembler(DocumentRules(rotation="theta"))
    assembler.handle("start", {"uid": "a", "sample": "x" * 10**6})
    data_keys = {"x" * 10**6: {"dtype": "array", "shape": [4, 4]}}
    descriptor = {"uid": "d", "run_start": "a", "name": "primary", "data_keys": data_keys}
    actions = assembler.handle("descriptor", descriptor)
    actions += assembler.handle("stop", {"run_start": "a", "exit_status": "fail", "reason": "y" * 10**6})
    assert actions
    assert all(len(action.message) < 1600 for action in actions if isinstance(action, Note))
    assert all(len(run.reason) < 1600 for run in assembler.counts.recent_runs)


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


@pytest.fixture
def root_logger():
    """As it was, after a test that sets up logging."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level


def test_a_record_says_its_process_and_what_it_is_about_in_words_and_as_json(capsys, root_logger):
    for form in ("text", "json"):
        set_up_logging(LogOptions(logging.INFO, form), "ingest", force=True)
        with about("5da75b34"):
            logging.getLogger("a.b").warning("frame %d\nis late", 3)
    text, line = capsys.readouterr().err.splitlines()
    assert f"WARNING ingest[{os.getpid()}] a.b: 5da75b34: frame 3" in text
    entry = json.loads(line)
    assert (entry["level"], entry["process"], entry["about"]) == ("warning", "ingest", "5da75b34")
    assert (entry["message"], entry["logger"]) == ("frame 3\nis late", "a.b")


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

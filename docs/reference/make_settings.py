"""Writes settings.md beside this file, from the settings tree: names, defaults and descriptions as the code has them.

.venv/bin/python docs/reference/make_settings.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pfitre_service.config import Settings

PAGE = Path(__file__).with_name("settings.md")

HEAD = """\
# Settings

One tree. From weakest to strongest: the defaults below, the profile's `profile.toml`, the environment, the command
line. A key that is not in the tree is refused at the start, wherever it stands.

| where | `tiled.port` reads |
| --- | --- |
| `profile.toml` | `port = 8020` below `[tiled]` |
| environment | `PFITRE_TILED__PORT=8020`: section and name in capitals, two underscores between; lists as JSON |
| command line | `--set tiled.port=8020` (`serve`, `process`, `status`, `reconstruct`, `demo`) |

This page is written by `docs/reference/make_settings.py`; a test holds it against the code.
"""


def page() -> str:
    """The whole page as text."""
    schema = Settings.model_json_schema()
    sections = list(_sections("", schema, schema["$defs"]))
    return HEAD + "".join(_table(name, words, rows) for name, words, rows in sections)


def _sections(
    path: str, node: Mapping[str, Any], definitions: Mapping[str, Any]
) -> Iterator[tuple[str, str, list[tuple[str, Any, str]]]]:
    """(section, its description, its leaves as (path, default, description)), the sections below it after it."""
    leaves, below = [], []
    for name, child in node["properties"].items():
        inner = f"{path}.{name}".lstrip(".")
        if "$ref" in child:
            below.append((inner, definitions[child["$ref"].rsplit("/", 1)[1]]))
        else:
            leaves.append((inner, child.get("default"), " ".join(child.get("description", "").split())))
    yield path, " ".join(node.get("description", "").split()), leaves
    for inner, definition in below:
        yield from _sections(inner, definition, definitions)


def _table(name: str, words: str, rows: list[tuple[str, Any, str]]) -> str:
    title = f"\n## `{name}`\n\n{words}\n" if name else "\n## At the top\n"
    lines = [f"| `{path}` | {_default(value)} | {_cell(text)} |" for path, value, text in rows]
    return "\n".join([title, "| setting | default | what |", "| --- | --- | --- |", *lines, ""])


def _default(value: Any) -> str:
    return "unset" if value is None else f"`{json.dumps(value)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

"""Rules of the tests themselves: they know of the package what everyone may know."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FOREIGN = {
    "_exit": "os: ends a process as a crash does",
    "_socket": "bluesky's Publisher: messages that it would never send",
    "_th": "bluesky's RunEngine: the thread of its loop, which has no other way to be waited for",
}
"""Private names of others that tests may use, whose they are, and what for."""
REACHING = {"setattr", "delattr", "getattr", "hasattr", "attrgetter", "patch", "object"}
"""Calls that take the name of an attribute as text: the built-in ones, those of monkeypatch and unittest.mock."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def reached_into(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of each private name that a test file uses and neither owns nor finds in `FOREIGN`.

    A class of the file may use what the file gives its own objects, through `self` and `cls` alone.
    """
    tree = ast.parse(source)
    own = set(_defined(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            ours = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls") and node.attr in own
            names = [] if ours else [node.attr]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            names = [part for alias in node.names for part in f"{module}.{alias.name}".split(".")]
        elif isinstance(node, ast.Call) and _called(node) in REACHING:
            texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            names = [part for text in texts for part in text.split(".")]
        else:
            continue
        yield from ((node.lineno, name) for name in names if is_private(name) and name not in FOREIGN)


def _defined(tree: ast.Module) -> Iterator[str]:
    """Names that the file's own classes give their members."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                yield node.attr
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def test_no_test_reaches_into_a_private_name():
    files = sorted(TESTS.rglob("*.py"))
    found = [
        f"{path.relative_to(TESTS)}:{line}: {name}" for path in files for line, name in reached_into(path.read_text())
    ]
    assert len(files) > 100
    assert found == [], "what a test must change is a parameter, and what it must see is behaviour"


@pytest.mark.parametrize(
    "planted",
    [
        "catalog._wire",
        "reader.counts()._before[0]",
        "del source._monitor",
        "layout._PARTITION_ROWS = 4",
        "from pfitre_service.prior.network_prior import _tiles",
        "from pfitre_service.store import _hidden as shown",
        "import pfitre_service._hidden.part",
        "monkeypatch.setattr(layout, '_PARTITION_ROWS', 4)",
        "monkeypatch.setattr('pfitre_service.store.layout._PARTITION_ROWS', 4)",
        "mock.patch.object(layout, '_PARTITION_ROWS', 4)",
        "getattr(catalog, '_wire')",
        "class Own:\n    def __init__(self):\n        self._wire = 1\n\ncatalog._wire",
        "class Own(Catalog):\n    def test(self):\n        return self._wire",
    ],
)
def test_reaching_in_is_found_however_it_is_done(planted):
    assert len(list(reached_into(planted))) == 1


@pytest.mark.parametrize(
    "allowed",
    [
        "class Own:\n    _count: int = 0\n    def use(self):\n        self._last = self._count",
        "class Own:\n    def _part(self): ...\n    def use(self):\n        return self._part()",
        "engine._th.join(5)",
        "Own.__name__, __import__('json')",
        "monkeypatch.setattr(nodes, 'write_block', counted)",
        "name.partition('_'), f'{name}_Fe', '_indices'",
        "_, second = first",
    ],
)
def test_what_a_file_owns_and_what_is_named_as_others_is_allowed(allowed):
    assert list(reached_into(allowed)) == []


def test_every_foreign_name_is_used():
    used = {
        node.attr
        for path in TESTS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
    }
    assert set(FOREIGN) <= used

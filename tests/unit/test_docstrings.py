"""Public functions and classes say what goes in, what comes out and what is raised, under the names of the code.

What is public, and what its docstring must hold, stands in docs/reference/api.md and CONTRIBUTING.md. Modules are read,
not imported.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pfitre_service"
CHECKED = (
    "client",
    "config",
    "engine",
    "errors",
    "export",
    "ingest/assembly/actions",
    "ingest/assembly/assembler",
    "ingest/decoding",
    "ingest/rules",
    "ingest/scan_files",
    "ingest/sources",
    "model",
    "preprocess",
    "prior",
    "recon",
    "service/live_tomography",
    "store/catalog",
    "store/layout",
    "store/parameters",
    "store/reader",
    "store/result_array",
    "training",
    "twin",
)
"""Modules, and packages with all that is below them."""

REFERENCE = PACKAGE.parent / "docs/reference"
NOT_AS_MODULES = (
    "pfitre_service.client",  # its names stand one by one on the first page
    "pfitre_service.service.live_tomography",
    "pfitre_service.twin.beamlines.epics_ioc",  # needs the extra `epics`, which the site is built without
)

TERSE = {
    "ingest/assembly/assembler.py": {"TomogramAssembler", "handle", "expire", "resume", "resume_joined"},
    "ingest/decoding/pickle_decoder.py": {"Decoded", "decode"},
    "store/catalog.py": {
        "acquisition_writer",
        "connect_to_read",
        "newest_entry",
        "reader",
        "result_writer",
        "summaries",
    },
    "twin/beamlines/hxn.py": {"alignment_run"},
    "twin/imperfections.py": {"shifts", "gains"},
}
"""Functions with a line or two instead of sections, of modules that would grow beyond 350 lines otherwise."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
ERRORS = {node.name for node in ast.parse((PACKAGE / "errors.py").read_text()).body if isinstance(node, ast.ClassDef)}


def modules() -> list[Path]:
    found = []
    for name in CHECKED:
        place = PACKAGE / name
        found += sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    return found


def sections(text: str) -> dict[str, list[str]]:
    """The lines of each section of a numpydoc docstring, by its title."""
    found: dict[str, list[str]] = {}
    lines = inspect.cleandoc(text).splitlines()
    current: list[str] = []
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if line and re.fullmatch(r"-{3,}", below) and len(line) == len(below):
            current = found.setdefault(line, [])
        elif not re.fullmatch(r"-{3,}", line):
            current.append(line)
    return found


def entries(lines: list[str]) -> list[str]:
    """The names that a section describes, `rows, columns` being two; each has a description below it."""
    heads = [line.split(" : ")[0] for line in lines if line and not line.startswith(" ")]
    return [name.strip() for head in heads for name in head.split(",")]


def is_public(name: str) -> bool:
    return not name.startswith("_") or name == "__call__"


def is_property(function: Function) -> bool:
    return any("property" in ast.unparse(decorator) for decorator in function.decorator_list)


def parameters(function: Function) -> list[str]:
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    names += [f"*{given.vararg.arg}"] if given.vararg else []
    names += [f"**{given.kwarg.arg}"] if given.kwarg else []
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


def raised(node: ast.AST, caught: frozenset[str] = frozenset()) -> Iterator[str]:
    """Errors of the project that leave this code by a `raise` of its own."""
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        name = ast.unparse(node.exc.func)
        if name in ERRORS and not caught & {name, "PfitreError"}:
            yield name
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        inside = caught
        if isinstance(node, ast.Try) and child in node.body:
            types = (handler.type for handler in node.handlers if handler.type)
            inside = caught | {name.id for kind in types for name in ast.walk(kind) if isinstance(name, ast.Name)}
        yield from raised(child, inside)


def problems_of_function(function: Function, name: str) -> Iterator[str]:
    text = ast.get_docstring(function)
    if not text:
        yield f"{name} has no docstring"
        return
    if re.search(r"^(Args|Returns|Yields|Raises):$", text, flags=re.MULTILINE):
        yield f"{name} has a section that is not numpydoc's"
    said, wanted = sections(text), parameters(function)
    documented = entries(said.get("Parameters", []))
    if documented != wanted:
        yield f"{name} describes the parameters {documented}; it has {wanted}"
    returns = ast.unparse(function.returns) if function.returns else "None"
    if wanted and returns not in ("None", "NoReturn") and not said.keys() & {"Returns", "Yields"}:
        yield f"{name} does not say what it returns"
    if returns == "None" and said.keys() & {"Returns", "Yields"}:
        yield f"{name} says that it returns something"
    unsaid = set(raised(function)) - set(entries(said.get("Raises", [])))
    if unsaid:
        yield f"{name} does not say that it raises {', '.join(sorted(unsaid))}"


def problems_of_class(node: ast.ClassDef) -> Iterator[str]:
    text = ast.get_docstring(node)
    if not text:
        yield f"{node.name} has no docstring"
        return
    said = sections(text)
    documented = entries(said.get("Parameters", [])) + entries(said.get("Attributes", []))
    initialiser = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
    wanted = parameters(initialiser) if initialiser else []
    if entries(said.get("Parameters", [])) != wanted:
        yield f"{node.name} describes the parameters {entries(said.get('Parameters', []))}; it has {wanted}"
    made = (one for one in node.body if isinstance(one, ast.FunctionDef) and one.name in ("__init__", "__post_init__"))
    errors = {name for one in made for name in raised(one)} - set(entries(said.get("Raises", [])))
    if errors and "__pydantic_config__" not in ast.unparse(node):  # settings: their text is that of a table
        yield f"{node.name} does not say that it raises {', '.join(sorted(errors))}"
    unsaid = [field for field, has_text in fields(node) if not has_text and field not in documented]
    if unsaid:
        yield f"{node.name} does not describe {', '.join(unsaid)}"


def fields(node: ast.ClassDef) -> Iterator[tuple[str, bool]]:
    """The annotated fields of a class, and whether a text stands beneath each."""
    for one, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and is_public(one.target.id):
            if "ClassVar" in ast.unparse(one.annotation):
                continue
            text = after.value if isinstance(after, ast.Expr) else None
            yield one.target.id, isinstance(text, ast.Constant) and isinstance(text.value, str)


def public_definitions(module: ast.Module) -> Iterator[Function | ast.ClassDef]:
    for node in module.body:
        if isinstance(node, Function | ast.ClassDef) and is_public(node.name):
            yield node


def problems(module: ast.Module) -> Iterator[str]:
    if module.body and not ast.get_docstring(module):
        yield "module has no docstring"
    for node in public_definitions(module):
        if isinstance(node, ast.ClassDef):
            yield from problems_of_class(node)
            methods = (one for one in node.body if isinstance(one, Function) and is_public(one.name))
            for method in methods:
                if not any(ast.unparse(one).endswith(".setter") for one in method.decorator_list):
                    yield from problems_of_function(method, f"{node.name}.{method.name}")
        else:
            yield from problems_of_function(node, node.name)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_names_are_described_as_they_are(path: Path) -> None:
    terse = TERSE.get(path.relative_to(PACKAGE).as_posix(), set())
    found = [problem.partition(" ") for problem in problems(ast.parse(path.read_text(encoding="utf-8")))]
    found_of_name = [(name.rpartition(".")[2], what) for name, _, what in found]
    assert [(name, what) for name, what in found_of_name if name not in terse or what == "has no docstring"] == []
    assert terse <= {name for name, _ in found_of_name}, "described in full by now"


def test_every_checked_module_stands_in_the_api_reference() -> None:
    pages = "".join(page.read_text() for page in [REFERENCE / "api.md", *sorted((REFERENCE / "api").glob("*.md"))])
    wanted = set()
    for path in modules():
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        defines = any(public_definitions(ast.parse(path.read_text(encoding="utf-8"))))
        if defines and not name.startswith(NOT_AS_MODULES):
            wanted.add(name)
    assert wanted - set(re.findall(r"automodule:: (\S+)", pages)) == set()


WRONG = '''
"""A module."""

def scaled(image: Image, factor: float) -> Image:
    """An image, brighter.

    Parameters
    ----------
    image
        (row, column) float32.
    times
        How much brighter.
    """
    if factor < 0:
        raise InputError("expected a positive factor")
    return image * factor

class Scale:
    """How bright."""

    factor: float

    def __init__(self, unit: str) -> None:
        self.unit = unit

    def __call__(self) -> float: ...
'''


def test_what_is_missing_or_named_wrongly_is_noticed() -> None:
    assert list(problems(ast.parse(WRONG))) == [
        "scaled describes the parameters ['image', 'times']; it has ['image', 'factor']",
        "scaled does not say what it returns",
        "scaled does not say that it raises InputError",
        "Scale describes the parameters []; it has ['unit']",
        "Scale does not describe factor",
        "Scale.__call__ has no docstring",
    ]


def test_an_error_that_is_caught_where_it_is_raised_is_none_of_the_function() -> None:
    tree = ast.parse("try:\n    raise InputError('x')\nexcept InputError:\n    raise StoreError('y')")
    assert list(raised(tree)) == ["StoreError"]

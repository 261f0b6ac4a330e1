"""How the documentation site is built: `make docs`, which fails on any warning and fetches nothing."""

from __future__ import annotations

import re
import warnings
from types import GenericAlias
from typing import Any

import pfitre_service

project = "pfitre"
author = "The pfitre developers"
project_copyright = author
release = version = pfitre_service.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "notebooks", "README.md"]
source_suffix = {".md": "markdown"}
root_doc = "index"

# Headings that other pages link to; maths in the text is set as code.
myst_heading_anchors = 4
# Pages link to files of the repository, too, which are no pages of the site; `tests/unit/test_docs.py` follows them.
# `bytes` is the name of fields, too, and a type in signatures: which one is meant is clear to a reader.
suppress_warnings = ["myst.xref_missing", "ref.python"]

# Names in docstrings stand in single backticks.
default_role = "code"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "ignore-module-all": True}
autodoc_member_order = "bysource"
autosummary_generate = False
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_title = "pfitre"
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
}
html_show_sourcelink = False


def mathematics_as_code(app: Any, what: str, name: str, docstring_of: Any, options: Any, lines: list[str]) -> None:
    """Docstrings hold formulas as people read them: indented ones are set as code, and in the text |x| and x_t lose
    what they would mean to Sphinx. Sections (Parameters and so on) are indented already."""
    if what == "module":
        lines[:] = [line for line in lines if not re.fullmatch(r"-{3,}", line)]
    titles = [at - 1 for at, line in enumerate(lines) if at and re.fullmatch(r"-{3,}", line)]
    end = titles[0] if titles else len(lines)
    text: list[str] = []
    in_block = False
    for at, line in enumerate(lines):
        indented = line.startswith(" ") and at < end
        if indented and not in_block and text and not text[-1].strip():
            text += [".. code-block:: text", ""]
            in_block = True
        elif line.strip() and not indented:
            in_block = False
        text.append(line if in_block else re.sub(r"\||(?<=\w)_(?=\W|$)", r"\\\g<0>", line))
    lines[:] = text


def is_left_out(app: Any, what: str, name: str, found: Any, skip: bool, options: Any) -> bool | None:
    """Aliases such as tuple[str, ...] and what modules import: numpydoc takes them for functions of this module."""
    imported = isinstance(found, type) and not found.__module__.startswith("pfitre_service")
    return True if imported or isinstance(found, GenericAlias) else None


# Of a docstring of ophyd's, which devices inherit.
warnings.filterwarnings("ignore", message="Unknown section Subscriptions")


def setup(app: Any) -> None:
    app.connect("autodoc-skip-member", is_left_out)
    app.connect("autodoc-process-docstring", mathematics_as_code, priority=100)

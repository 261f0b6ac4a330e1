"""How the documentation site is built: `make docs`, which fails on any warning and fetches nothing."""

from __future__ import annotations

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
suppress_warnings = ["myst.xref_missing"]

autodoc_typehints = "signature"
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

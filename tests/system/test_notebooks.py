"""The notebooks of docs/ run from top to bottom, in a kernel of their own, and come to what they promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

# On after an error: the last cell ends what the first ones started.
_RUN = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=300, allow_errors=True).execute()
nbformat.write(notebook, sys.argv[2])
"""
NOTEBOOKS = Path(__file__).parents[2] / "docs/notebooks"


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """`executed(name)`: the notebook with the outputs of a run in an empty folder."""
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.delenv("PFITRE_URI", raising=False)

    def run(name):
        outcome = tmp_path / f"{name}.ipynb"
        # A process of its own: the kernel's client leaves event loop and sockets to the end of its process.
        subprocess.run([sys.executable, "-c", _RUN, NOTEBOOKS / f"{name}.ipynb", outcome], check=True, cwd=tmp_path)
        notebook = nbformat.read(outcome, as_version=4)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        assert [output["evalue"] for output in outputs if output.output_type == "error"] == []
        return notebook

    return run


def printed(cell):
    """What a cell wrote to standard output, by line."""
    return "".join(output["text"] for output in cell.outputs if output.get("name") == "stdout").splitlines()


def cell_with(notebook, text):
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and text in cell.source]
    return cell


def test_the_first_tomogram_is_watched_and_shown(executed):
    notebook = executed("first-tomogram")
    *revisions, end = printed(cell_with(notebook, "client.watch("))
    assert len(revisions) >= 3
    assert end.startswith("final - 51 of 51 projections used")
    errors = [float(word.strip(",")) for word in revisions[-1].split() if word.startswith("0.")]
    heldout, physics = errors
    assert 0.05 < heldout < 1.02 * physics < 0.2
    for text in ("plot.imshow", "ax.legend"):
        assert [output for output in cell_with(notebook, text).outputs if "image/png" in output.get("data", {})]
    sentence, counted = printed(cell_with(notebook, "open_projections"))
    assert "96 degrees are inferred, not measured (" in sentence
    assert "Simulated samples measured like this were wrong by" in sentence
    assert counted == "51 angles were measured"


def test_notebooks_are_kept_without_outputs():
    for path in NOTEBOOKS.glob("*.ipynb"):
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        assert cells
        assert not any(cell.outputs or cell.execution_count for cell in cells), path

"""The notebook of the documentation runs, and shows what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebook.ipynb"


@pytest.fixture(scope="module")
def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_kept_without_outputs(notebook: Any) -> None:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 5
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_it_runs(notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, which finds the package as this one does."""
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parent.parent))
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources=resources).execute()
    shown = [
        output.data
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "execute_result"
    ]
    unlearned, gold, table, frame, _ = shown
    assert "LoTUS" in unlearned["text/plain"]
    assert "Gold Std" in gold["text/plain"]
    assert table["text/html"].count("<tr class=") == 5
    assert "failed" not in table["text/html"]
    assert "finetune" not in frame["text/html"]
    assert (tmp_path / "runs" / "notebook" / "lotus-ray-store.json").exists()

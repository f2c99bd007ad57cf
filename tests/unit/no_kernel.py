"""Run the chain inside this process: the real notebooks, without starting a kernel for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest


def execute_notebook(source: Path, target: Path, parameters: dict[str, Any], **_: object) -> None:
    """Stand for `papermill.execute_notebook`: run the code cells here, in order.

    Raises:
        PapermillExecutionError: what papermill makes of an error in a cell.
    """
    notebook = nbformat.read(source, as_version=4)
    nbformat.write(notebook, target)
    names: dict[str, Any] = {"__name__": "__main__", "display": lambda *shown: None}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    cells = [cell for cell in code if "skip-execution" not in cell.metadata.get("tags", [])]
    for number, cell in enumerate(cells, start=1):
        try:
            code = compile(cell.source, f"{source.name}[{number}]", "exec", dont_inherit=True)
            exec(code, names)
        except Exception as error:
            place = {"cell_index": number, "exec_count": number, "source": cell.source}
            raise papermill.PapermillExecutionError(
                **place, ename=type(error).__name__, evalue=str(error), traceback=[]
            ) from error
        if "parameters" in cell.metadata.get("tags", []):
            names.update(parameters)
    nbformat.write(notebook, target)


@pytest.fixture
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `dallrec run` execute notebooks in this process."""
    monkeypatch.setattr(papermill, "execute_notebook", execute_notebook)

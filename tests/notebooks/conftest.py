"""nbval runs the notebooks of the smoke run a second time, into a run folder of its own.

`make test` has executed them once with Papermill. nbval executes the results again and compares
every output; afterwards test_double_run.py compares the artefacts of the two runs. Of the
recommenders, a tenth is trained again; which tenth changes with their code. The other trainings are
found under their keys, if the second run asks for the same ones.
"""

from __future__ import annotations

import shutil
from typing import Any

import nbval.plugin
import pytest
from second_run import FIRST, SECOND

from dallrec_core.chain.progress import LINE

# A cell that shows times says so by a tag.
nbval.plugin.metadata_tags["volatile"] = ("check", False)

# HTML repeats the plain text with random identifiers, and SVG holds identifiers and a date; the
# numbers behind both are compared as text and as artefacts.
NOT_COMPARED = ("text/html", "image/svg+xml")

_coalesce = nbval.plugin.coalesce_streams


def _without_progress(outputs: list[Any]) -> list[Any]:
    """Join streams as nbval does, less the lines of progress, which come and go with the load."""
    kept = []
    for output in _coalesce(outputs):
        if output.output_type == "stream" and output.name == "stdout":
            output.text = LINE.sub("", output.text)
            if not output.text.strip():
                continue
        kept.append(output)
    return kept


nbval.plugin.coalesce_streams = _without_progress

_setup = nbval.plugin.IPyNbFile.setup


def _copy_trainings() -> None:
    for folder in FIRST.glob("smoke/*/trainings"):
        files = [file for file in folder.iterdir() if int(file.name[:8], 16) % 10]
        copies = SECOND / folder.relative_to(FIRST)
        copies.mkdir(parents=True)
        for file in files:
            shutil.copyfile(file, copies / file.name)


def _setup_for_second_run(self: nbval.plugin.IPyNbFile) -> None:
    if self.path.name.startswith("01_"):
        shutil.rmtree(SECOND, ignore_errors=True)
        _copy_trainings()
    self.skip_compare += NOT_COMPARED
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DALLREC_RUNS_DIR", str(SECOND))
        _setup(self)


nbval.plugin.IPyNbFile.setup = _setup_for_second_run

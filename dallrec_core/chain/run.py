"""The chain of notebooks: plan what is stale, execute it with Papermill, resume after anything.

A page whose content key (see `freshness`) is on disk is skipped; the others are executed in order,
and finished ones are kept.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dallrec_core.chain import artefacts, freshness
from dallrec_core.chain.freshness import MANIFEST, STARTED
from dallrec_core.chain.pages import PAGES, Page, missing, notebooks_dir, require, run_dir, runs_dir
from dallrec_core.chain.parameters import Overrides, page_parameters, resolve
from dallrec_core.chain.progress import LINE
from dallrec_core.errors import PageFailed, UserError

CHAIN = "DALLREC_CHAIN"
"""Environment variable by which a kernel knows that the chain started it: `<run>/<page>`."""
SKIPPED = "skip-execution"
"""Tag of the cells that nbclient, and so Papermill, leaves alone."""


@dataclass(frozen=True)
class Step:
    """What the chain is going to do about one page."""

    page: Page
    "The page."
    parts: freshness.Parts
    "What its result depends on."
    reasons: list[str]
    "Why it has to run; empty when it is fresh."

    @property
    def key(self) -> str:
        """Content key of the result."""
        return freshness.key(self.parts)

    @property
    def state(self) -> str:
        """What is going to happen, in a few words."""
        return "; ".join(self.reasons) or "fresh"


def plan(
    run: str,
    overrides: Iterable[Overrides] = (),
    only: Sequence[str] | None = None,
    force: bool = False,
) -> list[Step]:
    """Decide for each page whether it has to run, and why.

    Args:
        run: name of the run.
        overrides: parameter values by page, later ones over earlier ones.
        only: names of the pages to consider; the others are taken as they are on disk.
        force: run the considered pages even when they are fresh.
    """
    layers, steps = list(overrides), []
    keys: dict[str, str] = {}
    for page in PAGES:
        if only is not None and page.name not in only:
            keys[page.name] = freshness.actual_key(page, run)
            continue
        inputs = {name: keys[name] for name in page.needs}
        content = freshness.parts(page, resolve(page, *layers), inputs)
        reasons = freshness.staleness(page, run, content) or (["forced"] if force else [])
        steps.append(Step(page, content, reasons))
        keys[page.name] = steps[-1].key
    return steps


def run_chain(
    run: str,
    overrides: Iterable[Overrides] = (),
    only: Sequence[str] | None = None,
    force: bool = False,
    say: Callable[[str], None] = print,
) -> list[Step]:
    """Execute the pages of a run that are not fresh; return the plan that was carried out.

    Raises:
        UserError: for what the user can mend, also when a notebook raised it.
        PageFailed: when a notebook failed otherwise.
    """
    with locked(run):
        steps = plan(run, overrides, only, force)
        for step in steps:
            if step.reasons:
                require(step.page, run, [considered.page.name for considered in steps])
        for step in steps:
            name = f"{step.page.name:<18}"
            if not step.reasons:
                say(f"{name} {step.state}")
                continue
            say(f"{name} running  ({step.state})")
            seconds = _run_step(step, run, force)
            say(f"{name} done in {seconds:.0f} s")
    return steps


@contextmanager
def locked(run: str) -> Iterator[None]:
    """Keep other processes from working in the folder of a run.

    Raises:
        UserError: when another one does.
    """
    folder = run_dir(run)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise UserError(
            f"another dallrec is working in {folder}; wait for it, or use --run NAME"
        ) from error


def _run_step(step: Step, run: str, force: bool) -> float:
    """Run one notebook and write its manifest; return the seconds it took."""
    page, folder = step.page, run_dir(run) / step.page.name
    _clear(step, folder, force)
    start = time.monotonic()
    # only what differs is injected, so that the page of a default run stays clean
    values, known = {**step.parts["parameters"], "run": run}, page_parameters(page)
    execute(page, run, {n: value for n, value in values.items() if value != known[n].default})
    seconds = time.monotonic() - start
    if gone := missing(page, run):
        raise PageFailed(f"{page.name} finished without making {', '.join(gone)}")
    manifest = {
        "key": step.key,
        "parts": step.parts,
        "artefacts": freshness.digests(page, run, artefacts.sha256),
        "seconds": round(seconds, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": freshness.commit(),
        "python": platform.python_version(),
    }
    artefacts.write_json(manifest, folder / MANIFEST)
    (folder / STARTED).unlink(missing_ok=True)
    return seconds


def _clear(step: Step, folder: Path, force: bool) -> None:
    """Clear what other parameters left; keep what an interrupted run of the same key can resume."""
    resumes = freshness.read_json_or_none(folder / STARTED) == {"key": step.key}
    if folder.is_dir() and (force or not resumes):
        for path in folder.iterdir():
            if force or path.name not in step.page.keeps:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    artefacts.write_json({"key": step.key}, folder / STARTED)


# ---------------------------------------------------------------- Papermill


def execute(page: Page, run: str, parameters: Mapping[str, Any]) -> None:
    """Execute the notebook of a page.

    Until the copy is complete, it is called `<page>.unfinished.ipynb`, and stays so where it fails.

    Args:
        page: the page.
        run: name of the run.
        parameters: what to inject: the values that differ from the notebook's own.

    Raises:
        UserError: the notebook raised one.
        PageFailed: any other error in the notebook, or a dead kernel.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    executed = run_dir(run) / "notebooks" / page.notebook
    unfinished = executed.with_suffix(".unfinished.ipynb")
    executed.parent.mkdir(parents=True, exist_ok=True)
    executed.unlink(missing_ok=True)
    # What it logs about a dead kernel would stand beside our own message.
    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    try:
        with _kernel_environment(f"{run}/{page.name}"):
            papermill.execute_notebook(
                _source(page, parameters, unfinished),
                unfinished,
                parameters=dict(parameters),
                kernel_name="python3",
                cwd=notebooks_dir(),
                progress_bar=False,
                stdout_file=_ProgressLines(),
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            )
    except papermill.PapermillExecutionError as error:
        said = " ".join(str(error.evalue).split())  # one line, whatever the library wrote
        if error.ename == "UserError":
            raise UserError(f"{page.name}: {said}") from error
        raise PageFailed(
            f"{page.notebook}, code cell {error.exec_count}: {error.ename}: {said} "
            f"(the notebook as far as it got: {unfinished})"
        ) from error
    except DeadKernelError as error:
        said = "most often because memory ran out; what was finished is kept"
        raise PageFailed(f"{page.name}: the kernel died, {said}") from error
    unfinished.replace(executed)


def _source(page: Page, parameters: Mapping[str, Any], marked: Path) -> Path:
    """Return the notebook to execute: where its dataset is absent, the cells that need it skipped.

    Those cells are tagged `needs-data`; a note stands before the first. It is written to `marked`.
    """
    source = notebooks_dir() / page.notebook
    if page.has_data() or parameters.get("download"):
        return source
    import nbformat

    notebook, name = nbformat.read(source, as_version=4), page.data.partition("/")[0]
    needing = [c for c in notebook.cells if "needs-data" in c.metadata.get("tags", [])]
    note = (
        f"**Not computed here, because the files of `{name}` are not on this machine. "
        f"`dallrec data {name}` fetches and verifies them; then run `dallrec run --only "
        f"{page.name[:2]}` again. `DALLREC_DATA_DIR` names a folder that has them already, and the "
        "parameter `download` fetches them from within this page.**"
    )
    for cell in needing:
        cell.metadata.tags += [SKIPPED, "nbval-skip"]
    notebook.cells.insert(notebook.cells.index(needing[0]), nbformat.v4.new_markdown_cell(note))
    nbformat.write(notebook, marked)
    return marked


class _ProgressLines:
    """Shows the lines of `progress.progress` on the terminal while a notebook runs."""

    def write(self, text: str) -> None:
        for line in text.splitlines():
            if LINE.match(line):
                print(f"{'':<18} {line}", flush=True)

    def flush(self) -> None:
        """Nothing is held back."""


@contextmanager
def _kernel_environment(mark: str) -> Iterator[None]:
    """Set the variables for a kernel of the chain inside the block."""
    before = dict(os.environ)
    os.environ |= {CHAIN: mark, "DALLREC_RUNS_DIR": str(runs_dir()), "JUPYTER_PREFER_ENV_PATH": "1"}
    # Threads that wait actively for each other slow a busy machine down fiftyfold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.pop("JPY_SESSION_NAME", None)  # nobody watches this kernel
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)

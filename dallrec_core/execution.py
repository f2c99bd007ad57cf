"""Run one notebook with Papermill: into a partial file, in a kernel of this very Python."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dallrec_core.errors import UserError
from dallrec_core.layout import Stage, book_root, run_dir, runs_dir
from dallrec_core.progress import LINE

CHAIN = "DALLREC_CHAIN"
"""Environment variable by which a kernel knows that the chain started it, and for which stage."""


class StageFailed(Exception):
    """A notebook stopped with an error that is not the user's; the message says where."""


def in_chain(stage: Stage, run: str) -> bool:
    """Tell whether this process is the kernel that the chain started for `stage` in `run`."""
    return os.environ.get(CHAIN) == f"{run}/{stage.name}"


def execute(stage: Stage, run: str, parameters: Mapping[str, Any]) -> Path:
    """Execute the notebook of a stage and return the path of the executed copy.

    It is written under another name first, and a failed one is kept as `<stage>.failed.ipynb`.

    Args:
        stage: the stage.
        run: name of the run.
        parameters: what to inject besides `run`: the values that differ from the notebook's own.

    Raises:
        UserError: the notebook raised one, or the disk refused.
        StageFailed: any other error in the notebook, or a dead kernel.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    executed = run_dir(run) / "notebooks" / stage.notebook
    partial, failed = (executed.with_suffix(f".{word}.ipynb") for word in ("partial", "failed"))
    executed.parent.mkdir(parents=True, exist_ok=True)
    for stale in (partial, failed, executed):
        stale.unlink(missing_ok=True)
    folder = book_root() / "notebooks"
    # What it logs about a dead kernel would stand beside our own message.
    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    try:
        with _environment(_kernel_environment(f"{run}/{stage.name}")):
            papermill.execute_notebook(
                folder / stage.notebook,
                partial,
                parameters=dict(parameters),
                kernel_name="python3",
                cwd=folder,
                progress_bar=False,
                stdout_file=_ProgressLines(),
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            )
        partial.replace(executed)
    except papermill.PapermillExecutionError as error:
        partial.replace(failed)
        raise _explain(stage, error, failed) from error
    except DeadKernelError as error:
        raise StageFailed(
            f"{stage.name}: the kernel died, most often because memory ran out; "
            f"what was finished is kept, `dallrec doctor` shows the memory"
        ) from error
    except OSError as error:
        raise UserError(f"cannot write {executed}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return executed


def _explain(stage: Stage, error: Any, failed: Path) -> Exception:
    said = " ".join(str(error.evalue).split())  # one line, whatever the library wrote
    if error.ename == "UserError":
        return UserError(f"{stage.name}: {said}")
    return StageFailed(
        f"{stage.notebook}, code cell {error.exec_count}: {error.ename}: {said} "
        f"(the notebook as far as it got: {failed})"
    )


class _ProgressLines:
    """Shows the lines of `progress.progress` on the terminal while a notebook runs."""

    def write(self, text: str) -> None:
        for line in text.splitlines():
            if LINE.match(line):
                print(f"{'':<18} {line}", flush=True)

    def flush(self) -> None:
        """Nothing is held back."""


def _kernel_environment(mark: str) -> dict[str, str | None]:
    """Variables for a kernel of the chain; None takes one away."""
    return {
        CHAIN: mark,
        "DALLREC_RUNS_DIR": str(runs_dir()),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JPY_SESSION_NAME": None,
        # Threads that wait actively for each other slow a busy machine down fiftyfold.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
    }


@contextmanager
def _environment(values: dict[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    try:
        _set_environment(values)
        yield
    finally:
        _set_environment(before)


def _set_environment(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value

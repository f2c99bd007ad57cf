"""The chain of notebooks: plan what is stale, execute it with Papermill, resume after anything.

Notebooks call `begin`; the command line calls `run_chain`. A stage whose content key (see `keys`)
is on disk is skipped; the others are executed (see `execution`), and finished ones are kept.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dallrec_core import artifacts, keys
from dallrec_core.errors import UserError
from dallrec_core.execution import StageFailed, execute, in_chain
from dallrec_core.here import Here
from dallrec_core.here import table as table
from dallrec_core.layout import (
    DEFAULT_RUN,
    STAGES,
    Stage,
    find_stage,
    missing,
    remedy,
    run_dir,
    upstream,
)
from dallrec_core.parameters import Overrides, read_texts, resolve, stage_parameters


@dataclass(frozen=True)
class Step:
    """What the chain is going to do about one stage."""

    stage: Stage
    "The stage."
    parameters: dict[str, Any]
    "Its resolved parameters, without `run`."
    parts: keys.Parts
    "What its result depends on."
    reasons: list[str]
    "Why it has to run; empty when it is fresh."

    @property
    def key(self) -> str:
        """Content key of the result."""
        return keys.key(self.parts)


# --- inside a notebook ---


def begin(stage: str, run: str = DEFAULT_RUN) -> Here:
    """Start a notebook: make sure that its inputs are there and that its folder can be written.

    In the default run, missing inputs are made by a quick version of the notebooks before this
    one. Parameters that Papermill handed over as text become what their annotations say.

    Args:
        stage: name of this notebook, e.g. "03_interactions".
        run: name of the run.

    Raises:
        UserError: when inputs of another run are missing, the run is being worked on, or a
            parameter is not of its type.
    """
    here = Here(find_stage(stage), run)
    read_texts(here.stage, sys._getframe(1).f_globals)
    by_hand = not in_chain(here.stage, run)
    lacking = [s for s in upstream(here.stage) if missing(s, run)]
    if lacking and (run != DEFAULT_RUN or not by_hand):
        names = ", ".join(s.name for s in lacking)
        raise UserError(
            f"{here.stage.name} needs {names} of run '{run}'; {remedy(run, lacking[-1].name[:2])}"
        )
    if lacking:
        _run_missing(lacking, run)
    if by_hand:
        with locked(run):
            (here.folder / keys.MANIFEST).unlink(missing_ok=True)
            artifacts.write_json({"key": "by hand"}, here.path("started.json"))
    return here


def _run_missing(lacking: Sequence[Stage], run: str) -> None:
    for stage in lacking:
        known = stage_parameters(stage)
        quick = {name: value for name, value in stage.quick.items() if name in known}
        shown = ", ".join(f"{name}={value}" for name, value in quick.items())
        print(f"{stage.name} has not run yet: running it now{shown and f', quickly: {shown}'}")
        run_chain(run, [{stage.name: quick}], only=[stage.name], say=lambda _: None)
    print("`dallrec run` makes all of them in full")


# --- planning ---


def plan(
    run: str,
    overrides: Iterable[Overrides] = (),
    only: Sequence[str] | None = None,
    force: bool = False,
) -> list[Step]:
    """Decide for each stage whether it has to run, and why.

    Args:
        run: name of the run.
        overrides: parameter values by stage, later ones over earlier ones.
        only: names of the stages to consider; the others are taken as they are on disk.
        force: run the considered stages even when they are fresh.
    """
    layers, steps, expected = list(overrides), [], {}
    for stage in STAGES:
        if only is not None and stage.name not in only:
            expected[stage.name] = keys.actual_key(stage, run)
            continue
        parameters = resolve(stage, *layers)
        content = keys.parts(stage, parameters, {name: expected[name] for name in stage.needs})
        reasons = keys.staleness(stage, run, content) or (["forced"] if force else [])
        steps.append(Step(stage, parameters, content, reasons))
        expected[stage.name] = steps[-1].key
    return steps


# --- running ---


def run_chain(
    run: str,
    overrides: Iterable[Overrides] = (),
    only: Sequence[str] | None = None,
    force: bool = False,
    say: Callable[[str], None] = print,
) -> list[Step]:
    """Execute the stages of a run that are not fresh; return the plan that was carried out.

    Raises:
        UserError: for what the user can mend, also when a notebook raised it.
        StageFailed: when a notebook failed otherwise.
    """
    with locked(run):
        steps = plan(run, overrides, only, force)
        _require_inputs(steps, run)
        for step in steps:
            if not step.reasons:
                say(f"{step.stage.name:<18} fresh")
                continue
            say(f"{step.stage.name:<18} running  ({'; '.join(step.reasons)})")
            seconds = _execute(step, run, force)
            say(f"{step.stage.name:<18} done in {seconds:.0f} s")
    return steps


@contextmanager
def locked(run: str) -> Iterator[None]:
    """Keep other processes from working in the folder of a run.

    Raises:
        UserError: when another one does, or the folder cannot be written.
    """
    folder = run_dir(run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise UserError(
            f"another dallrec is working in {folder}; wait for it, or use --run NAME"
        ) from error
    except OSError as error:
        place = error.filename or folder
        raise UserError(f"cannot write to {place}: {error.strerror or error}") from error


def _require_inputs(steps: Sequence[Step], run: str) -> None:
    planned = {step.stage.name for step in steps}
    for step in steps:
        for name in step.stage.needs:
            gone = missing(find_stage(name), run)
            if step.reasons and name not in planned and gone:
                raise UserError(
                    f"{step.stage.name} needs {name} of run '{run}', which lacks "
                    f"{', '.join(gone)}; run it first, without --from or --only"
                )


def _execute(step: Step, run: str, force: bool) -> float:
    """Run one notebook and write its manifest; return the seconds it took."""
    stage, folder = step.stage, run_dir(run) / step.stage.name
    _prepare(step, folder, force)
    start = time.monotonic()
    execute(stage, run, _injected(step, run))
    seconds = time.monotonic() - start
    gone = missing(stage, run)
    if gone:
        raise StageFailed(f"{stage.name} finished without making {', '.join(gone)}")
    artifacts.write_json(_manifest(step, run, seconds), folder / keys.MANIFEST)
    (folder / "started.json").unlink(missing_ok=True)
    return seconds


def _injected(step: Step, run: str) -> dict[str, Any]:
    """Return only what differs from the defaults, so that a default run stays clean."""
    defaults = stage_parameters(step.stage)
    values = {**step.parameters, "run": run}
    return {name: value for name, value in values.items() if value != defaults[name].default}


def _prepare(step: Step, folder: Path, force: bool) -> None:
    """Clear what other parameters left; keep what an interrupted run of the same key can resume."""
    started = folder / "started.json"
    resumes = started.is_file() and keys.read_json_or_none(started) == {"key": step.key}
    if folder.is_dir() and (force or not resumes):
        for path in folder.iterdir():
            if force or path.name not in step.stage.keeps:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    artifacts.write_json({"key": step.key}, started)


def _manifest(step: Step, run: str, seconds: float) -> dict[str, Any]:
    folder, content = run_dir(run) / step.stage.name, keys.digests(step.stage, run)
    made = {
        name: {"sha256": artifacts.sha256(folder / name), "digest": digest}
        | {"bytes": (folder / name).stat().st_size}
        for name, digest in content.items()
    }
    return {
        "stage": step.stage.name,
        "run": run,
        "key": step.key,
        "parameters": step.parameters,
        "parts": step.parts,
        "artefacts": made,
        "seconds": round(seconds, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": keys.commit(),
        "python": sys.version.split()[0],
    }

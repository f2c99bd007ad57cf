"""Backbones x arms x seeds, in parallel, resumable.

A *cell* is one training: a backbone on the edges of one arm with one seed. What it leaves behind is
the ranked list of every test user, stored under a key of everything that could change it (data,
edges, features, settings, seed, code; see `cells`). So a killed run continues, a changed setting
retrains only what it touches, arms that a backbone cannot tell apart are trained once, and metrics
can be added without training anything again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from joblib.externals.loky.process_executor import TerminatedWorkerError

from dallrec_core import evaluation, recommenders
from dallrec_core.artifacts import read_json
from dallrec_core.cells import Cell, cells, key, reduced
from dallrec_core.dealing import deal, listed
from dallrec_core.errors import UserError
from dallrec_core.evaluation import Ranking
from dallrec_core.progress import progress
from dallrec_core.study import Arm, Study, direct_hits, score_arm
from dallrec_core.worker import GUESSES, finished, load_lists, run_cell

__all__ = ["Arm", "Cell", "Study", "cells", "run_cells", "stored"]

Work = tuple[Cell, Arm, Path, bool]
"""A cell to train, what its arm adds, the file for its ranking, and whether guesses are needed."""


def run_cells(
    study: Study,
    arms: Mapping[str, Arm | pd.DataFrame | None],
    grid: Sequence[Cell],
    folder: Path,
    *,
    jobs: int = 0,
    scheduler: str = "",
    ks: Sequence[int] = (10, 20, 50),
    variants_at: int = 20,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Train what is not stored yet, then score everything.

    Args:
        study: the shared data.
        arms: what each arm adds; a frame stands for its edges, None for nothing.
        grid: the cells, from `cells`.
        folder: finished cells are kept in `folder/cells`.
        jobs: processes, each with one thread; 0 means one per core.
        scheduler: address of a Dask cluster that trains instead, such as tcp://host:8786; its
            workers must see `folder` under the same path.
        ks: lengths K of the list.
        variants_at: the K at which the conventions of `study.score_arm` are given too.

    Returns:
        (scores, runs, curves): the first two with the schemas of those names. `runs` has more
        columns: added (edges the arm added), shared (whether an earlier row is the same training)
        and coverage (share of the catalogue in the lists at `variants_at`). `curves` has a row per
        look at validation: backbone, arm, seed, epoch, value (nDCG@20).

    Raises:
        UserError: naming the cell that failed; the finished ones stay stored.
    """
    full = {name: arm if isinstance(arm, Arm) else Arm(arm) for name, arm in arms.items()}
    named = [full[cell.arm].guesses_of or cell.arm for cell in grid if cell.arm in full]
    missing = [name for name in [*(cell.arm for cell in grid), *named] if name not in full]
    if missing:
        raise UserError(f"arm '{missing[0]}' is not defined; there are {', '.join(full)}")
    folder = folder / "cells"
    # whose guesses are other arms' edges has to be trained first
    asked = [replace(c, arm=full[c.arm].guesses_of) for c in grid if full[c.arm].guesses_of]
    plain = [cell for cell in grid if not full[cell.arm].guesses_of]
    guessing = _paths(study, [(cell, full[cell.arm]) for cell in asked], folder)
    first = [(cell, full[cell.arm]) for cell in (*asked, *plain)]
    _train(study, first, folder, jobs, scheduler, guessing)
    guesses = iter(guessing)
    needed = [
        (c, _own(full[c.arm], next(guesses)) if full[c.arm].guesses_of else full[c.arm])
        for c in grid
    ]
    _train(study, needed, folder, jobs, scheduler)
    return _collect(study, needed, _paths(study, needed, folder), ks, variants_at)


def _own(arm: Arm, path: Path) -> Arm:
    """Put a training's own guesses in the place of an arm's items."""
    lists = load_lists(path.with_suffix(GUESSES))
    edges = None if arm.edges is None else deal(arm.edges, listed(lists.users, lists.items))
    return replace(arm, edges=edges, guesses_of="")


def stored(study: Study, cell: Cell, arm: Arm, folder: Path) -> Ranking:
    """Return the ranked lists that `run_cells` kept in `folder` for a cell and its arm."""
    [path] = _paths(study, [reduced(cell, arm)], folder / "cells")
    return load_lists(path)


def _paths(study: Study, needed: Sequence[tuple[Cell, Arm]], folder: Path) -> list[Path]:
    """Return the file of each cell; cells of the same content share one."""
    base, prints, paths = study.digest(), {}, []
    for whole in needed:
        cell, arm = reduced(*whole)
        # an arm is the same one whenever the same parts of it are left
        parts = (id(arm.edges), id(arm.features), id(arm.negatives), arm.insertion)
        if parts not in prints:
            prints[parts] = arm.digest()
        paths.append(folder / f"{key(cell, base, prints[parts])}.parquet")
    return paths


def _train(
    study: Study,
    needed: Sequence[tuple[Cell, Arm]],
    folder: Path,
    jobs: int,
    scheduler: str,
    guessing: Sequence[Path] = (),
) -> None:
    """Train the cells that are not finished, the dearest first."""
    todo: dict[Path, Work] = {}
    for whole, path in zip(needed, _paths(study, needed, folder), strict=True):
        if not finished(path, path in guessing):
            todo.setdefault(path, (*reduced(*whole), path, path in guessing))
    works = sorted(todo.values(), key=lambda w: -recommenders.model_class(w[0].backbone).cost)
    count = min(jobs or joblib.cpu_count(), len(works))
    if not works:
        return
    if count < 2 and not scheduler:
        for work in progress(works, desc="training", unit="cells"):
            run_cell(study, *work)
        return
    with _processes(count, scheduler):
        done = joblib.Parallel(return_as="generator_unordered")(
            joblib.delayed(run_cell)(study, *work) for work in works
        )
        try:
            for _ in progress(done, total=len(works), desc="training", unit="cells"):
                pass
        except TerminatedWorkerError as error:
            raise UserError(
                f"a training process was killed, most likely for lack of memory; use fewer jobs "
                f"than {count}. Finished cells are kept."
            ) from error


@contextmanager
def _processes(count: int, scheduler: str) -> Iterator[None]:
    """Let joblib use processes of this machine, or those of a Dask cluster."""
    if not scheduler:
        with joblib.parallel_config("loky", n_jobs=count, inner_max_num_threads=1):
            yield
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise UserError("a scheduler needs Dask: python -m pip install distributed") from error
    try:
        client = Client(scheduler, timeout="10s")
    except (OSError, ValueError) as error:
        raise UserError(f"no Dask scheduler answers at {scheduler}: {error}") from error
    with client, joblib.parallel_config("dask", n_jobs=-1):
        yield


def _collect(
    study: Study,
    needed: Sequence[tuple[Cell, Arm]],
    paths: Sequence[Path],
    ks: Sequence[int],
    variants_at: int,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    direct = direct_hits([arm for _, arm in needed], study.test, study.n_items)
    scores, runs, curves, seen = [], [], [], set[Path]()
    for (cell, arm), path in zip(needed, paths, strict=True):
        ranking, record, added = load_lists(path), read_json(path.with_suffix(".json")), arm.edges
        names = {"run": cell.run, "backbone": cell.backbone, "arm": cell.arm, "seed": cell.seed}
        table = score_arm(study, ranking, added, direct, ks, variants_at)
        long = evaluation.to_long(table)
        scores.append(long.assign(**names).astype({"seed": np.int32}))
        keep = ("epochs", "best_epoch", "validation", "edges", "seconds", "peak_mib")
        share = evaluation.coverage(ranking, variants_at, study.n_items)
        counts = {"added": 0 if added is None else len(added), "coverage": share}
        counts |= {"shared": path in seen}
        seen.add(path)
        runs.append(names | {name: record[name] for name in keep} | counts)
        curves.append(_curve(record).assign(**names))
    columns = ["run", "backbone", "arm", "seed", "user", "metric", "value"]
    all_scores = pd.concat(scores, ignore_index=True)[columns]
    kinds = dict.fromkeys(("seed", "epochs", "best_epoch", "edges", "added"), np.int32)
    floats = dict.fromkeys(("validation", "seconds", "peak_mib", "coverage"), np.float32)
    looks = pd.concat(curves, ignore_index=True)[["backbone", "arm", "seed", "epoch", "value"]]
    return all_scores, pd.DataFrame(runs).astype(kinds | floats), looks


def _curve(record: Mapping[str, Any]) -> pd.DataFrame:
    """Return the looks at validation of one training; models in closed form have none."""
    history = pd.DataFrame(record["history"]).rename(columns={"validation": "value"})
    return history.loc[history["epoch"] > 0, ["epoch", "value"]].dropna()

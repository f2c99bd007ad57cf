"""Backbones x arms x seeds, in parallel, resumable.

A *cell* is one training: a backbone on the edges of one arm with one seed. What it leaves behind is
the ranked list of every test user, stored under a key of everything that could change it (data,
edges, features, settings, seed, code; see `cells`). So a killed run continues, a changed setting
retrains only what it touches, arms that a backbone cannot tell apart are trained once, and metrics
can be added without training anything again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from dallrec_core import evaluation, recommenders, training
from dallrec_core.artifacts import atomic, read_json, write_json
from dallrec_core.cells import DEPTH, Cell, cells, key, reduced
from dallrec_core.errors import UserError
from dallrec_core.evaluation import Ranking
from dallrec_core.memory import peak_mib
from dallrec_core.progress import progress
from dallrec_core.study import Arm, Study, direct_hits, score_arm

__all__ = ["Arm", "Cell", "Study", "cells", "run_cells", "stored"]

Todo = Sequence[tuple[Cell, Arm, Path]]
"""Cells to train, each with what its arm adds and the file for its ranking."""


def run_cells(
    study: Study,
    arms: Mapping[str, Arm | pd.DataFrame | None],
    grid: Sequence[Cell],
    folder: Path,
    *,
    jobs: int = 0,
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
    missing = [cell.arm for cell in grid if cell.arm not in full]
    if missing:
        raise UserError(f"arm '{missing[0]}' is not defined; there are {', '.join(full)}")
    needed = [reduced(cell, full[cell.arm]) for cell in grid]
    paths = _paths(study, needed, folder / "cells")
    todo: dict[Path, tuple[Cell, Arm, Path]] = {}
    for (cell, arm), path in zip(needed, paths, strict=True):
        if not _finished(path):
            todo.setdefault(path, (cell, arm, path))
    dearest = sorted(todo.values(), key=lambda t: -recommenders.model_class(t[0].backbone).cost)
    _train(study, dearest, jobs)
    return _collect(study, full, grid, paths, ks, variants_at)


def stored(study: Study, cell: Cell, arm: Arm, folder: Path) -> Ranking:
    """Return the ranked lists that `run_cells` kept in `folder` for a cell and its arm."""
    [path] = _paths(study, [reduced(cell, arm)], folder / "cells")
    return _load(path)[0]


def _paths(study: Study, needed: Sequence[tuple[Cell, Arm]], folder: Path) -> list[Path]:
    """Return the file of each cell; cells of the same content share one."""
    base, prints, paths = study.digest(), {}, []
    for cell, arm in needed:
        # an arm is the same one whenever the same parts of it are left
        parts = (cell.arm, arm.features is None, arm.negatives is None)
        if parts not in prints:
            prints[parts] = arm.digest()
        paths.append(folder / f"{key(cell, base, prints[parts])}.parquet")
    return paths


def _train(study: Study, todo: Todo, jobs: int) -> None:
    count = min(jobs or joblib.cpu_count(), len(todo))
    if count < 2:
        for work in progress(todo, desc="training", unit="cells"):
            _run_cell(study, *work)
        return
    with joblib.parallel_config("loky", n_jobs=count, inner_max_num_threads=1):
        finished = joblib.Parallel(return_as="generator_unordered")(
            joblib.delayed(_run_cell)(study, *work) for work in todo
        )
        try:
            for _ in progress(finished, total=len(todo), desc="training", unit="cells"):
                pass
        except TerminatedWorkerError as error:
            raise UserError(
                f"a training process was killed, most likely for lack of memory; use fewer jobs "
                f"than {count}. Finished cells are kept."
            ) from error


def _run_cell(study: Study, cell: Cell, arm: Arm, path: Path) -> None:
    """Train one cell and store its ranking and its record."""
    try:
        ranking, record = _train_cell(study, cell, arm, path)
    except UserError as error:
        raise UserError(f"{cell.run}: {error}") from error
    except Exception as error:
        raise RuntimeError(f"{cell.run}: {type(error).__name__}: {error}") from error
    lists = pa.FixedSizeListArray.from_arrays(ranking.items.ravel(), ranking.items.shape[1])
    with atomic(path) as partial:
        pq.write_table(pa.table({"user": ranking.users, "items": lists}), partial)
    write_json(record, path.with_suffix(".json"))  # last: its presence says the cell is finished


def _train_cell(study: Study, cell: Cell, arm: Arm, path: Path) -> tuple[Ranking, dict[str, Any]]:
    graph = recommenders.Graph.from_frame(
        study.train,
        study.n_users,
        study.n_items,
        extra=arm.edges,
        insertion=arm.insertion,
        negatives=arm.negatives,
    )
    with training.threads(cell.settings.threads):
        # copies: what other processes are handed is a read-only map of one file
        features = {k: torch.tensor(v) for k, v in (arm.features or {}).items()}
        model = recommenders.build(
            cell.backbone, graph, features or None, cell.settings.model, seed=cell.seed
        )
        checkpoint = path.with_suffix(".checkpoint")
        result = training.fit(
            model,
            graph,
            study.validation,
            cell.settings,
            cell.seed,
            known=study.train,
            checkpoint=checkpoint,
        )
        model.eval()
        ranking = evaluation.rank(model, study.seen, study.test_users, DEPTH)
    record = {
        "run": cell.run,
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "validation": result.validation,
        "edges": len(graph.users),
        "seconds": result.seconds,
        "peak_mib": peak_mib(),
        "settings": asdict(cell.settings),
        "history": result.history.to_dict("list"),
    }
    return ranking, record


def _finished(path: Path) -> bool:
    return path.is_file() and path.with_suffix(".json").is_file()


def _collect(
    study: Study,
    arms: Mapping[str, Arm],
    grid: Sequence[Cell],
    paths: Sequence[Path],
    ks: Sequence[int],
    variants_at: int,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    direct = direct_hits(arms, study.test, study.n_items)
    scores, runs, curves, seen = [], [], [], set[Path]()
    for cell, path in zip(grid, paths, strict=True):
        ranking, record = _load(path)
        added = arms[cell.arm].edges
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


def _load(path: Path) -> tuple[Ranking, dict[str, Any]]:
    table = pq.read_table(path)
    items = table["items"].combine_chunks()
    flat = items.flatten().to_numpy(zero_copy_only=False)
    ranking = Ranking(table["user"].to_numpy(), flat.reshape(len(table), -1).astype(np.int32))
    return ranking, read_json(path.with_suffix(".json"))

"""Backbones x arms x seeds, in parallel, resumable.

A *cell* is one training: a backbone on the edges of one arm with one seed. What it leaves behind is
the ranked list of every test user, stored under a key of everything that could change it (data,
edges, features, settings, seed, code). So a killed run continues, a changed setting retrains only
what it touches, and metrics can be added without training anything again.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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
from dallrec_core.errors import UserError
from dallrec_core.evaluation import Ranking
from dallrec_core.progress import progress
from dallrec_core.study import Arm, Study, direct_hits, score_arm
from dallrec_core.training import SETTINGS, TrainSettings

__all__ = ["Arm", "Cell", "Study", "cells", "run_cells"]

DEPTH = 100
"""Length of the stored lists."""


@dataclass(frozen=True)
class Cell:
    """One training."""

    backbone: str
    "A name `recommenders.build` knows."
    arm: str
    "Name of the arm."
    seed: int
    "Of initial values and sampling."
    settings: TrainSettings = field(default_factory=TrainSettings)
    "How to train."

    @property
    def run(self) -> str:
        """Return the cell's name in tables and messages."""
        return f"{self.backbone}/{self.arm}/{self.seed}"


def cells(
    backbones: Sequence[str],
    arms: Iterable[str],
    seeds: Sequence[int],
    settings: Mapping[str, TrainSettings] | None = None,
    *,
    epochs: int = 0,
) -> list[Cell]:
    """List the cells of a full grid; models in closed form get the first seed only.

    Args:
        backbones: names that `recommenders.build` knows.
        arms: names of the arms.
        seeds: of initial values and sampling.
        settings: how to train, by backbone, instead of `training.SETTINGS`.
        epochs: most epochs, instead of the settings' own; 0 keeps those.

    Raises:
        UserError: for an unknown backbone or no seed.
    """
    if not seeds:
        raise UserError("no seed was given; at least one is needed")
    known = SETTINGS | dict(settings or {})
    return [
        Cell(backbone, arm, seed, _limited(known.get(backbone, TrainSettings()), epochs))
        for backbone in backbones
        for arm in arms
        for seed in (seeds[:1] if recommenders.model_class(backbone).closed_form else seeds)
    ]


def _limited(settings: TrainSettings, epochs: int) -> TrainSettings:
    if not epochs:
        return settings
    return replace(settings, epochs=epochs, eval_every=min(settings.eval_every, epochs))


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
        (scores, runs, curves): the first two with the schemas of those names. `runs` has two more
        columns: added (edges the arm added) and coverage (share of the catalogue in the lists at
        `variants_at`). `curves` has a row per look at validation: backbone, arm, seed, epoch,
        value (nDCG@20).

    Raises:
        UserError: naming the cell that failed; the finished ones stay stored.
    """
    full = {name: arm if isinstance(arm, Arm) else Arm(arm) for name, arm in arms.items()}
    missing = [cell.arm for cell in grid if cell.arm not in full]
    if missing:
        raise UserError(f"arm '{missing[0]}' is not defined; there are {', '.join(full)}")
    base = study.digest()
    prints = {name: arm.digest() for name, arm in full.items()}
    paths = [folder / "cells" / f"{_key(cell, base, prints[cell.arm])}.parquet" for cell in grid]
    todo = [(c, p) for c, p in zip(grid, paths, strict=True) if not _finished(p)]
    todo.sort(key=lambda pair: -recommenders.model_class(pair[0].backbone).cost)
    _train(study, full, todo, jobs)
    return _collect(study, full, grid, paths, ks, variants_at)


def _train(
    study: Study, arms: Mapping[str, Arm], todo: Sequence[tuple[Cell, Path]], jobs: int
) -> None:
    count = min(jobs or joblib.cpu_count(), len(todo))
    if count < 2:
        for cell, path in progress(todo, desc="training", unit="cells"):
            _run_cell(study, arms[cell.arm], cell, path)
        return
    with joblib.parallel_config("loky", n_jobs=count, inner_max_num_threads=1):
        finished = joblib.Parallel(return_as="generator_unordered")(
            joblib.delayed(_run_cell)(study, arms[cell.arm], cell, path) for cell, path in todo
        )
        try:
            for _ in progress(finished, total=len(todo), desc="training", unit="cells"):
                pass
        except TerminatedWorkerError as error:
            raise UserError(
                f"a training process was killed, most likely for lack of memory; use fewer jobs "
                f"than {count}. Finished cells are kept."
            ) from error


def _run_cell(study: Study, arm: Arm, cell: Cell, path: Path) -> None:
    """Train one cell and store its ranking and its record."""
    try:
        ranking, record = _train_cell(study, arm, cell, path)
    except UserError as error:
        raise UserError(f"{cell.run}: {error}") from error
    except Exception as error:
        raise RuntimeError(f"{cell.run}: {type(error).__name__}: {error}") from error
    lists = pa.FixedSizeListArray.from_arrays(ranking.items.ravel(), ranking.items.shape[1])
    with atomic(path) as partial:
        pq.write_table(pa.table({"user": ranking.users, "items": lists}), partial)
    write_json(record, path.with_suffix(".json"))  # last: its presence says the cell is finished


def _train_cell(study: Study, arm: Arm, cell: Cell, path: Path) -> tuple[Ranking, dict[str, Any]]:
    graph = recommenders.Graph.from_frame(
        study.train, study.n_users, study.n_items, extra=arm.edges, insertion=arm.insertion
    )
    with training.threads(cell.settings.threads):
        features = {k: torch.as_tensor(v) for k, v in (arm.features or {}).items()}
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
        "peak_mib": _peak_mib(),
        "settings": asdict(cell.settings),
        "history": result.history.to_dict("list"),
    }
    return ranking, record


def _peak_mib() -> float:
    """Return this process's largest resident memory so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


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
    scores, runs, curves = [], [], []
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


def _key(cell: Cell, study: str, arm: str) -> str:
    """Return the content key of a cell: what could change its result, and nothing else."""
    parts = [cell.backbone, cell.seed, asdict(cell.settings), study, arm, _code(), DEPTH]
    text = json.dumps([*parts, torch.__version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _code() -> str:
    """Return a digest of the code that trains and ranks, so that changed code trains again."""
    digest = hashlib.sha256()
    root = Path(recommenders.__file__).parent
    for file in (*sorted(root.glob("*.py")), Path(training.__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()

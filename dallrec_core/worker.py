"""One cell at work, in whatever process: train, rank, store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from dallrec_core import evaluation, recommenders, training
from dallrec_core.artifacts import atomic, write_json
from dallrec_core.cells import DEPTH, Cell
from dallrec_core.errors import UserError
from dallrec_core.evaluation import Ranking
from dallrec_core.memory import peak_mib
from dallrec_core.study import Arm, Study

GUESSES = ".guesses"
"""Suffix of the file with the best items outside training, for every user."""


def run_cell(study: Study, cell: Cell, arm: Arm, path: Path, guessing: bool) -> None:
    """Train one cell and store its ranking and its record.

    Args:
        study: the shared data.
        cell: what to train.
        arm: what it adds.
        path: file of the ranking; the others lie beside it.
        guessing: also store the best items outside training of every user.

    Raises:
        UserError: naming the cell.
    """
    try:
        ranking, guesses, record = _train_cell(study, cell, arm, path, guessing)
    except UserError as error:
        raise UserError(f"{cell.run}: {error}") from error
    except Exception as error:
        raise RuntimeError(f"{cell.run}: {type(error).__name__}: {error}") from error
    save_lists(ranking, path)
    if guesses is not None:
        save_lists(guesses, path.with_suffix(GUESSES))
    write_json(record, path.with_suffix(".json"))  # last: its presence says the cell is finished


def _train_cell(
    study: Study, cell: Cell, arm: Arm, path: Path, guessing: bool
) -> tuple[Ranking, Ranking | None, dict[str, Any]]:
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
        everybody = np.arange(study.n_users)
        guesses = evaluation.rank(model, study.train, everybody, DEPTH) if guessing else None
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
    return ranking, guesses, record


def finished(path: Path, guessing: bool) -> bool:
    """Tell whether all files of a cell are there."""
    files = [path, path.with_suffix(".json"), *([path.with_suffix(GUESSES)] if guessing else [])]
    return all(file.is_file() for file in files)


def save_lists(ranking: Ranking, path: Path) -> None:
    """Write ranked lists as parquet."""
    lists = pa.FixedSizeListArray.from_arrays(ranking.items.ravel(), ranking.items.shape[1])
    with atomic(path) as partial:
        pq.write_table(pa.table({"user": ranking.users, "items": lists}), partial)


def load_lists(path: Path) -> Ranking:
    """Read what `save_lists` wrote."""
    table = pq.read_table(path)
    flat = table["items"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return Ranking(table["user"].to_numpy(), flat.reshape(len(table), -1).astype(np.int32))

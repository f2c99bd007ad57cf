"""Take in what other tools made: edges, attributes, summaries, and adapters.

A table goes through the schema of the artefact that it replaces. The stage that would have made it
then counts as done by hand, and the stages after it see that their input has changed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from dallrec_core import keys
from dallrec_core.artifacts import atomic, read_json, read_table, write_json, write_table
from dallrec_core.augmentation import attributes as written_attributes
from dallrec_core.augmentation.data import Data, load_data
from dallrec_core.datasets.files import normal_attributes
from dallrec_core.datasets.tables import PARQUET, read_table_file
from dallrec_core.errors import UserError
from dallrec_core.layout import find_stage, run_dir
from dallrec_core.stages import locked

TASKS = ("interactions", "attributes", "summaries")
"""What can be taken in, and the tasks of adapters."""


def table(task: str, file: Path, run: str) -> str:
    """Take in a table (CSV with a header line, or parquet) in place of a stage's own.

    - interactions: user_id, item_id, and optionally p_yes in (0, 1]; every pair is added;
    - attributes: item_id, value (several separated by "|" or ","), and optionally field;
    - summaries: item_id, summary.

    Args:
        task: one of `TASKS`.
        file: the table, with the dataset's own ids.
        run: name of the run, whose stage 01_data is finished.

    Returns:
        one line for the user.

    Raises:
        UserError: naming file, row and column of what does not fit.
    """
    readers: dict[str, Callable[[pd.DataFrame, _Source, Data], tuple[pd.DataFrame, str]]] = {
        "interactions": _interactions,
        "attributes": _attributes,
        "summaries": _summaries,
    }
    stage, folder = find_stage(task), run_dir(run) / find_stage(task).name
    data = load_data(run_dir(run) / "01_data")
    source = _Source(Path(file), run)
    frame, said = readers[task](source.frame, source, data)
    schema = "added" if task == "interactions" else task
    with locked(run):
        # everything else there was made from other answers, the executed page included
        shutil.rmtree(folder, ignore_errors=True)
        (run_dir(run) / "notebooks" / stage.notebook).unlink(missing_ok=True)
        write_table(frame, folder / f"{task}.parquet", schema)
        write_json({"seconds": 0.0, "peak_mib": 0, "device": ""}, folder / "costs.json")
        write_json({"key": "by hand"}, folder / "started.json")
    return f"{said}; next: dallrec run --run {run} --from 06 (and its --profile)"


class _Source:
    """A foreign table and the words to complain about it."""

    def __init__(self, file: Path, run: str) -> None:
        if not file.is_file():
            raise UserError(f"there is no file {file}")
        self.file, self.run = file, run
        self.frame = read_table_file(file)
        self.row = "row" if file.suffix.lower() in PARQUET else "line"

    def refuse(self, bad: np.ndarray, column: str, problem: str) -> None:
        """Raise for the first row where `bad` is true; `{}` in `problem` is its cell."""
        if bad.any():
            place = int(np.flatnonzero(bad)[0])
            cell = self.frame[column].iloc[place]
            where = f"{self.file}, {self.row} {self.frame.index[place]}, column '{column}'"
            raise UserError(f"{where}: {problem.format(repr(cell))}")

    def need(self, *columns: str) -> None:
        """Raise when one of the columns is missing."""
        for column in columns:
            if column not in self.frame:
                names = ", ".join(f"'{name}'" for name in self.frame) or "none"
                raise UserError(f"{self.file}: column '{column}' is missing; it has {names}")

    def codes(self, what: str) -> np.ndarray:
        """Return the codes of the ids in a column, int32 [n]."""
        known = read_table(run_dir(self.run) / "01_data" / f"{what}s.parquet", f"{what}s")
        column = f"{what}_id"
        place = pd.Index(known[column]).get_indexer(self.text(column))
        self.refuse(place < 0, column, f"{{}} is no {what} of run '{self.run}'")
        return known[what].to_numpy(np.int32)[place]

    def text(self, column: str) -> pd.Series:
        """Return a column as stripped text, empty where there is none."""
        return self.frame[column].astype("string").fillna("").str.strip()


def _interactions(frame: pd.DataFrame, source: _Source, data: Data) -> tuple[pd.DataFrame, str]:
    source.need("user_id", "item_id")
    p = np.ones(len(frame))
    if "p_yes" in frame:
        p = pd.to_numeric(frame["p_yes"], errors="coerce").to_numpy(float)
        source.refuse(~((p > 0) & (p <= 1)), "p_yes", "{} is not a number above 0 and up to 1")
    made = pd.DataFrame({"user": source.codes("user"), "item": source.codes("item")})
    source.refuse(made.duplicated().to_numpy(), "item_id", "{} stands there twice for its user")
    made = made.assign(
        answer="yes", p_yes=p.astype(np.float32), added=True, strategy="imported", prompt_key=""
    )
    known = data.seen(made["user"].to_numpy(), made["item"].to_numpy())
    left = f" ({known.sum():,} are training interactions already and were left out)"
    said = f"{(~known).sum():,} pairs are added{left if known.any() else ''}"
    return made[~known].reset_index(drop=True), said


def _attributes(frame: pd.DataFrame, source: _Source, data: Data) -> tuple[pd.DataFrame, str]:
    source.need("item_id", "value")
    items, texts = source.codes("item"), [normal_attributes(v) for v in source.text("value")]
    source.refuse(np.array([not text for text in texts], bool), "value", "it is empty ({})")
    fields = source.text("field") if "field" in frame else pd.Series([data.attribute] * len(frame))
    valid = (data.attribute, *data.fact_fields)
    if "field" in frame:
        problem = f"{{}} is no field of this dataset ({', '.join(valid)})"
        source.refuse(~fields.isin(valid).to_numpy(), "field", problem)
    rows = written_attributes.given(data)
    known = {(row[0], row[1], row[2]) for row in rows}
    before = len(rows)
    for item, field, text in zip(items, fields, texts, strict=True):
        for value in (v for v in text.split("|") if (item, field, v) not in known):
            known.add((item, field, value))
            rows.append((item, field, value, "written", text, True, "imported"))
    made = pd.DataFrame(rows, columns=list(written_attributes.COLUMNS))
    made = made.astype({"item": "int32", "parsed": bool})
    said = f"{len(rows) - before:,} values are added to {before:,} given ones"
    return made.sort_values(["item", "field"], kind="stable", ignore_index=True), said


def _summaries(frame: pd.DataFrame, source: _Source, data: Data) -> tuple[pd.DataFrame, str]:
    source.need("item_id", "summary")
    items, texts = source.codes("item"), source.text("summary")
    source.refuse(pd.Series(items).duplicated().to_numpy(), "item_id", "{} stands there twice")
    source.refuse((texts == "").to_numpy(bool), "summary", "it is empty ({})")
    made = pd.DataFrame({"item": items, "summary": texts.to_numpy(object), "tokens": np.int32(0)})
    made = made.assign(truncated=False, parsed=True, reason="imported").sort_values("item")
    return made.reset_index(drop=True), f"{len(made):,} of {data.n_items:,} items have a summary"


def adapter(task: str, folder: Path, run: str) -> str:
    """Take in a LoRA adapter in PEFT's form, as LLaMA-Factory saves it, for one task of a run.

    Args:
        task: one of `TASKS`.
        folder: holds adapter_config.json and adapter_model.safetensors; the rest is left behind.
        run: name of the run, whose stage 02_finetune is finished.

    Returns:
        one line for the user.

    Raises:
        UserError: when it is no such adapter, or was made for another model than the run's.
    """
    from dallrec_core.llm.checkpoints import check_adapter, resolve

    stage = run_dir(run) / "02_finetune"
    model = read_json(stage / "model.json")
    base = resolve(model["language_model"], model["revision"] or None)
    check_adapter(Path(folder), base)
    with locked(run), atomic(stage / "adapters" / task) as partial:
        partial.mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copyfile(Path(folder) / name, partial / name)
        (stage / keys.MANIFEST).unlink(missing_ok=True)
        write_json({"key": "by hand"}, stage / "started.json")
    return (
        f"adapter '{task}' is in place; next: dallrec run --run {run} --from 03 (and its --profile)"
    )

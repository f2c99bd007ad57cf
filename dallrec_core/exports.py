"""Write a run's data for other tools: LLaMA-Factory's instructions, RecBole's atomic files."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dallrec_core.artifacts import atomic, read_json, read_table, write_json
from dallrec_core.augmentation.attributes import merged
from dallrec_core.augmentation.data import load_data
from dallrec_core.augmentation.instructions import read_instructions
from dallrec_core.errors import UserError
from dallrec_core.layout import remedy, run_dir

COLUMNS = {"prompt": "instruction", "query": "input", "response": "output"}
"""LLaMA-Factory's words for the three fields of an Alpaca record."""


def alpaca(run: str, folder: Path) -> list[Path]:
    """Write the instructions of a run as data of LLaMA-Factory.

    One json file per task, and `dataset_info.json`, which keeps the entries it already has: the
    folder may be LLaMA-Factory's own `data`. The datasets are called `dallrec_<task>`.

    Returns:
        the files written.

    Raises:
        UserError: when the run has no instructions, or a file cannot be read or written.
    """
    made = sorted((run_dir(run) / "02_finetune" / "instructions").glob("*.jsonl"))
    if not made:
        raise UserError(f"run '{run}' has no instructions; {remedy(run, '02')}")
    index = folder / "dataset_info.json"
    entries = read_json(index) if index.is_file() else {}
    if not isinstance(entries, dict):
        raise UserError(f"{index} is not a json object of datasets")
    written = []
    for file in made:
        name = f"dallrec_{file.stem}"
        written.append(write_json(read_instructions(file), folder / f"{name}.json"))
        entries[name] = {"file_name": f"{name}.json", "formatting": "alpaca", "columns": COLUMNS}
    return [*written, write_json(entries, index)]


def recbole(run: str, folder: Path, *, augmented: bool = False) -> list[Path]:
    """Write the split of a run as atomic files of RecBole, with a configuration that reads them.

    They are `<folder>/<run>/<run>.{train,valid,test}.inter`, `.item`, and `<folder>/<run>.yaml`.
    Ratings and times are written where every row has them.

    Args:
        run: name of the run.
        folder: RecBole's data folder.
        augmented: add what the language model wrote: pairs to train, attributes and summaries to
            the items.

    Returns:
        the files written.

    Raises:
        UserError: when the run lacks what is needed, or an id holds a tab or a line break.
    """
    source, made = run_dir(run), folder / run
    data = load_data(source / "01_data")
    users = read_table(source / "01_data" / "users.parquet", "users")
    parts = {
        short: read_table(source / "01_data" / f"{name}.parquet", "split")
        for name, short in (("train", "train"), ("validation", "valid"), ("test", "test"))
    }
    items = data.items
    if augmented:
        answers = read_table(source / "03_interactions" / "interactions.parquet", "added")
        pairs = answers.loc[answers["added"], ["user", "item"]]
        parts["train"] = pd.concat([parts["train"], pairs], ignore_index=True)
        items = merged(
            data, read_table(source / "04_attributes" / "attributes.parquet", "attributes")
        )
        texts = read_table(source / "05_summaries" / "summaries.parquet", "summaries")
        items["summary"] = items["item"].map(texts.set_index("item")["summary"])
    optional = [
        c for c in ("rating", "timestamp") if all(p[c].notna().all() for p in parts.values())
    ]
    ids = _tokens(users, "user"), _tokens(items, "item")
    written = [
        _write(_inter(part, ids, optional), made / f"{run}.{name}.inter")
        for name, part in parts.items()
    ]
    written.append(_write(_items(items, ids[1], data.attribute), made / f"{run}.item"))
    load = {"inter": ["user_id", "item_id", *optional]}
    lines = {"data_path": "./", "benchmark_filename": list(parts), "load_col": load}
    return [*written, _write_text(_yaml(lines), folder / f"{run}.yaml")]


def _tokens(frame: pd.DataFrame, what: str) -> list[str]:
    ids = frame[f"{what}_id"].astype(str)
    bad = ids[ids.str.contains(r"[\t\r\n]") | (ids == "")]
    if len(bad):
        raise UserError(
            f"{what} id {bad.iloc[0]!r} (row {bad.index[0]}) is empty or holds a tab or a line "
            "break, which RecBole's files cannot"
        )
    return ids.tolist()


def _inter(part: pd.DataFrame, ids: tuple[list[str], list[str]], optional: Sequence[str]) -> Any:
    columns = {
        f"{name}_id:token": [known[code] for code in part[name]]
        for name, known in zip(("user", "item"), ids, strict=True)
    }
    return pd.DataFrame(columns | {f"{name}:float": part[name].tolist() for name in optional})


def _items(items: pd.DataFrame, ids: list[str], attribute: str) -> pd.DataFrame:
    columns: dict[str, list[Any]] = {"item_id:token": ids}
    columns["title:token_seq"] = [_words(text) for text in items["title"]]
    columns["year:float"] = items["year"].tolist()
    lists = {attribute: "attributes"} | {c: c for c in ("director", "country", "language")}
    for name, column in lists.items():
        if column in items and items[column].notna().any():
            # a value of several words is one token of the list
            values = [_words(text).replace(" ", "_").split("|") for text in items[column]]
            columns[f"{name}:token_seq"] = [" ".join(filter(None, v)) for v in values]
    for column in ("author", "text", "summary"):
        if column in items and items[column].notna().any():
            columns[f"{column}:token_seq"] = [_words(text) for text in items[column]]
    return pd.DataFrame(columns)


def _words(text: object) -> str:
    return " ".join(text.split()) if isinstance(text, str) else ""


def _write(frame: pd.DataFrame, path: Path) -> Path:
    text = frame.to_csv(sep="\t", index=False, quoting=csv.QUOTE_NONE, lineterminator="\n")
    return _write_text(text, path)


def _write_text(text: str, path: Path) -> Path:
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def _yaml(values: dict[str, Any]) -> str:
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in values.items())

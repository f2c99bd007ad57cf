"""What other tools can read: instructions in Alpaca form, and RecBole's atomic files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from pydantic import ValidationError

from dallrec_core.augmentation.attributes import merged
from dallrec_core.augmentation.prompts import one_line, split_values
from dallrec_core.augmentation.view import load_data
from dallrec_core.chain.artefacts import atomic, read_json, read_table, write_json
from dallrec_core.chain.pages import remedy, run_dir
from dallrec_core.errors import UserError

# ---------------------------------------------------------------- instructions (Alpaca form)


COLUMNS = {"prompt": "instruction", "query": "input", "response": "output"}
"""LLaMA-Factory's words for the fields of a record."""


def write_instructions(records: Iterable[Mapping[str, str]], path: Path) -> Path:
    """Write Alpaca records as JSON lines, whole or not at all."""
    return _write_text("".join(f"{json.dumps(r, ensure_ascii=False)}\n" for r in records), path)


def read_instructions(path: Path) -> list[dict[str, str]]:
    """Read JSON lines.

    Raises:
        UserError: naming the line and the field that is missing, empty or not text.
    """
    from dallrec_core.llm.examples import Record, fault  # loads torch

    records = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a text may hold U+2028
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        try:
            records += [Record.model_validate_json(line).model_dump()] if line.strip() else []
        except ValidationError as error:
            raise UserError(f"{path}, line {number}{fault(error)}") from error
    return records


def export_alpaca(run: str, folder: Path) -> list[Path]:
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
    index, written = folder / "dataset_info.json", []
    entries = read_json(index) if index.is_file() else {}
    for file in made:
        name = f"dallrec_{file.stem}"
        written.append(write_json(read_instructions(file), folder / f"{name}.json"))
        entries[name] = {"file_name": f"{name}.json", "formatting": "alpaca", "columns": COLUMNS}
    return [*written, write_json(entries, index)]


# ---------------------------------------------------------------- RecBole's atomic files


def export_recbole(run: str, folder: Path, *, augmented: bool = False) -> list[Path]:
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
    place = run_dir(run)
    data = load_data(place / "01_data")
    splits, items = {"train": data.train}, data.items
    for short, name in (("valid", "validation"), ("test", "test")):
        splits[short] = read_table(place / "01_data" / f"{name}.parquet", "split")
    users = read_table(place / "01_data" / "users.parquet", "users")
    if augmented:
        answers = read_table(place / "03_interactions" / "interactions.parquet", "added")
        pairs = answers.loc[answers["added"], ["user", "item"]]
        splits["train"] = pd.concat([splits["train"], pairs], ignore_index=True)
        new = read_table(place / "04_attributes" / "attributes.parquet", "attributes")
        summaries = read_table(place / "05_summaries" / "summaries.parquet", "summaries")
        items = merged(data, new)
        items["summary"] = items["item"].map(summaries.set_index("item")["summary"])
    whole = pd.concat(splits.values()).notna().all()
    numbers = [name for name in ("rating", "timestamp") if whole[name]]
    ids = {"user": _tokens(users["user_id"]), "item": _tokens(items["item_id"])}
    tables = {f"{run}.item": _item_columns(items, data.attribute)}
    for name, part in splits.items():
        columns = {f"{what}_id:token": known[part[what]] for what, known in ids.items()}
        columns |= {f"{number}:float": part[number].to_numpy() for number in numbers}
        tables[f"{run}.{name}.inter"] = pd.DataFrame(columns)
    written = []
    for name, table in tables.items():
        text = table.to_csv(sep="\t", index=False, quoting=csv.QUOTE_NONE, lineterminator="\n")
        written.append(_write_text(text, folder / run / name))
    load = {"inter": ["user_id", "item_id", *numbers]}
    about = {"data_path": "./", "benchmark_filename": list(splits), "load_col": load}
    return [*written, _write_text(yaml.safe_dump(about, sort_keys=False), folder / f"{run}.yaml")]


def _tokens(ids: pd.Series) -> np.ndarray:
    """Ids as RecBole's files can hold them, object [n]."""
    for row in np.flatnonzero(ids.str.contains(r"[\t\r\n]"))[:1]:
        raise UserError(
            f"{ids.name} {ids[row]!r} (row {row}) holds a tab or a line break, which RecBole's "
            "files cannot"
        )
    return ids.to_numpy(object)


def _item_columns(items: pd.DataFrame, attribute: str) -> pd.DataFrame:
    columns = {"item_id:token": items["item_id"], "title:token_seq": items["title"].map(one_line)}
    columns["year:float"] = items["year"]
    kinds = dict.fromkeys(("attributes", "director", "country", "language"), _value_list)
    kinds |= dict.fromkeys(("author", "text", "summary"), one_line)
    for column, text_of in kinds.items():
        if column in items and items[column].notna().any():
            name = attribute if column == "attributes" else column
            columns[f"{name}:token_seq"] = items[column].map(text_of)
    return pd.DataFrame(columns)


def _value_list(text: object) -> str:
    """Values as RecBole's list: a value of several words is one token of it."""
    return " ".join("_".join(value.split()) for value in split_values(text))


def _write_text(text: str, path: Path) -> Path:
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path

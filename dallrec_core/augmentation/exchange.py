"""Doors for other tools: what they can read of a run, and what they have made for it.

A run's instructions go out in Alpaca form, its data as RecBole's atomic files. Tables of written
data and LoRA adapters come in: a table goes through the schema of the artefact that it replaces.
The page that would have made it then counts as done by hand, and the pages after it see that their
input has changed.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from dallrec_core.augmentation import attributes as written_attributes
from dallrec_core.augmentation.prompts import one_line, read_instructions, split_values
from dallrec_core.augmentation.view import TrainingView, load_data
from dallrec_core.chain.artefacts import atomic, read_json, read_table, write_json, write_table
from dallrec_core.chain.freshness import MANIFEST, STARTED
from dallrec_core.chain.pages import find_page, remedy, run_dir
from dallrec_core.chain.run import locked
from dallrec_core.data.checks import Table, codes_in
from dallrec_core.data.columns import attribute_text, understand
from dallrec_core.data.files import USUAL
from dallrec_core.data.tables import open_table
from dallrec_core.errors import UserError

BY_HAND = {"key": "by hand"}
"""What `started.json` says of a page whose result was taken in."""
NEXT = "next: dallrec run --run {run} --from {page} (and its --profile)"
"""What to do after something was taken in."""

# ---------------------------------------------------------------- given to LLaMA-Factory


def export_alpaca(run: str, folder: Path) -> list[Path]:
    """Write the instructions of a run as data of LLaMA-Factory, and return the files.

    One json file per task, and `dataset_info.json`, which keeps the entries it already has: the
    folder may be LLaMA-Factory's own `data`. The datasets are called `dallrec_<task>`, and have
    the form and the fields that LLaMA-Factory expects where an entry says nothing else.

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
        entries[name] = {"file_name": f"{name}.json"}
    return [*written, write_json(entries, index)]


# ---------------------------------------------------------------- given to RecBole


def export_recbole(run: str, folder: Path, *, augmented: bool = False) -> list[Path]:
    """Write the split of a run as RecBole's files and a configuration, and return their paths.

    They are `<folder>/<run>/<run>.{train,valid,test}.inter`, `.item`, and `<folder>/<run>.yaml`.
    Ratings and times are written where every row has them.

    Args:
        run: name of the run.
        folder: RecBole's data folder.
        augmented: add what the language model wrote: pairs to train, attributes and summaries to
            the items.

    Raises:
        UserError: when the run lacks what is needed.
        csv.Error: when an id holds a tab or a line break.
    """
    place = run_dir(run)
    data, users = load_data(place / "01_data"), read_table(place / "01_data/users.parquet", "users")
    splits, items = {"train": data.train}, data.items
    for short, name in (("valid", "validation"), ("test", "test")):
        splits[short] = read_table(place / "01_data" / f"{name}.parquet", "split")
    if augmented:
        answers = read_table(place / "03_interactions" / "interactions.parquet", "added")
        pairs = answers.loc[answers["added"], ["user", "item"]]
        splits["train"] = pd.concat([splits["train"], pairs], ignore_index=True)
        new = read_table(place / "04_attributes" / "attributes.parquet", "attributes")
        summaries = read_table(place / "05_summaries" / "summaries.parquet", "summaries")
        items = written_attributes.merged(data, new)
        items["summary"] = items["item"].map(summaries.set_index("item")["summary"])
    whole = pd.concat(splits.values()).notna().all()
    numbers = [name for name in ("rating", "timestamp") if whole[name]]
    ids = {"user": users["user_id"].to_numpy(object), "item": items["item_id"].to_numpy(object)}
    tables = {f"{run}.item": _item_columns(items, data.attribute)}
    for name, part in splits.items():
        columns = {f"{what}_id:token": known[part[what]] for what, known in ids.items()}
        columns |= {f"{number}:float": part[number].to_numpy() for number in numbers}
        tables[f"{run}.{name}.inter"] = pd.DataFrame(columns)
    form = {"sep": "\t", "index": False, "quoting": csv.QUOTE_NONE, "lineterminator": "\n"}
    files = {folder / run / name: table.to_csv(**form) for name, table in tables.items()}
    load = {"inter": ["user_id", "item_id", *numbers]}
    about = {"data_path": "./", "benchmark_filename": list(splits), "load_col": load}
    files[folder / f"{run}.yaml"] = yaml.safe_dump(about, sort_keys=False)
    for path, text in files.items():
        with atomic(path) as partial:
            partial.write_text(text, encoding="utf-8")
    return list(files)


def _item_columns(items: pd.DataFrame, attribute: str) -> pd.DataFrame:
    columns = {"item_id:token": items["item_id"], "title:token_seq": items["title"].map(one_line)}
    columns["year:float"] = items["year"]
    lists = ("attributes", "director", "country", "language")
    for column in (*lists, "author", "text", "summary"):
        if column in items and items[column].notna().any():
            name = attribute if column == "attributes" else column
            text_of = _value_list if column in lists else one_line
            columns[f"{name}:token_seq"] = items[column].map(text_of)
    return pd.DataFrame(columns)


def _value_list(text: object) -> str:
    """Values as RecBole's list: a value of several words is one token of it."""
    return " ".join("_".join(value.split()) for value in split_values(text))


# ---------------------------------------------------------------- taking in tables


def import_table(task: str, file: Path, run: str) -> str:
    """Take in a table, in any form that `data.files` reads, in place of a page's own; say so.

    - interactions: user_id, item_id, and optionally p_yes in (0, 1]; every new pair of a user and
      an item of the run is added, rows of others are counted;
    - attributes: item_id, value (several separated by "|" or ","), and optionally field;
    - summaries: item_id, summary.

    Args:
        task: what it holds, one of these three.
        file: the table, with the ids of the dataset's own files.
        run: name of the run, whose page 01_data is finished.

    Raises:
        UserError: naming file, row and column of what does not fit.
    """
    kind, reader, schema = TABLES[task]
    page, data = find_page(task), load_data(run_dir(run) / "01_data")
    source = open_table(file, names=USUAL["interactions"])
    words = {"noun": data.noun, "person": data.person, "attribute": data.attribute}
    frame, said = reader(source.read(understand({kind: source}, {}, words)[kind]), data, run)
    folder = run_dir(run) / page.name
    with locked(run):
        # everything else there was made from other answers, the executed page included
        shutil.rmtree(folder, ignore_errors=True)
        (run_dir(run) / "notebooks" / page.notebook).unlink(missing_ok=True)
        write_table(frame, folder / f"{task}.parquet", schema)
        write_json({"seconds": 0.0, "peak_mib": 0, "device": ""}, folder / "costs.json")
        write_json(BY_HAND, folder / STARTED)
    return f"{said}; {NEXT.format(run=run, page='06')}"


def _interactions(source: Table, data: TrainingView, run: str) -> tuple[pd.DataFrame, str]:
    p = np.ones(len(source.frame))
    if "p_yes" in source.frame:
        p = pd.to_numeric(source.frame["p_yes"], errors="coerce").to_numpy(float)
        _refuse(source, ~((p > 0) & (p <= 1)), "p_yes", "is not a number above 0 and up to 1")
    codes, counts = {}, {}
    for what in ("user", "item"):
        codes[what] = _codes(source, what, run)
        lost = codes[what] < 0  # one unknown id is counted; only unknown ones are a mistake
        _refuse(source, lost & lost.all(), f"{what}_id", f"is no {what} of run '{run}'")
        counts[f"have an unknown {what}"] = lost.sum()
    frame = pd.DataFrame(codes).assign(answer="yes", p_yes=p.astype(np.float32), added=True)
    frame = frame.assign(strategy="imported", prompt_key="")
    known = frame[(frame["user"] >= 0) & (frame["item"] >= 0)]
    pairs = known.drop_duplicates(["user", "item"])
    seen = data.seen(pairs["user"].to_numpy(), pairs["item"].to_numpy())
    counts |= {"repeat a pair": len(known) - len(pairs), "are training interactions": seen.sum()}
    others = "".join(f"; {count:,} {what}" for what, count in counts.items() if count)
    said = f"{len(known):,} of {len(p):,} rows match the run, {(~seen).sum():,} pairs are added"
    return pairs[~seen], said + others


def _attributes(source: Table, data: TrainingView, run: str) -> tuple[pd.DataFrame, str]:
    items, valid = _known_items(source, run), (data.attribute, *data.fact_fields)
    texts = source.frame["value"].map(attribute_text)
    _refuse(source, texts == "", "value", "is empty")
    named = "field" in source.frame
    fields = source.texts("field") if named else pd.Series(data.attribute, texts.index)
    problem = f"is no field of this dataset ({', '.join(valid)})"
    _refuse(source, ~fields.isin(valid), "field", problem)
    rows = written_attributes.given(data)
    for item, field, text in zip(items, fields, texts, strict=True):
        for value in text.split("|"):
            rows.append((item, field, value, "written", text, True, "imported"))
    # a value that is given already stands first
    frame = written_attributes.table(rows).drop_duplicates(["item", "field", "value"])
    new = int((frame["origin"] == "written").sum())
    return frame, f"{new:,} values are added to {len(frame) - new:,} given ones"


def _summaries(source: Table, data: TrainingView, run: str) -> tuple[pd.DataFrame, str]:
    texts = source.texts("summary")
    frame = pd.DataFrame({"item": _known_items(source, run), "summary": texts})
    _refuse(source, frame["item"].duplicated(), "item_id", "stands there twice")
    _refuse(source, texts.isna(), "summary", "is empty")
    frame = frame.assign(tokens=np.int32(0), truncated=False, parsed=True, reason="imported")
    frame = frame.sort_values("item", ignore_index=True)
    return frame, f"{len(frame):,} of {data.n_items:,} items have a summary"


TABLES = {
    "interactions": ("edges", _interactions, "added"),
    "attributes": ("values", _attributes, "attributes"),
    "summaries": ("summaries", _summaries, "summaries"),
}
"""By task: the name of the foreign table's columns in `columns.yml`, what makes the page's table of
it, and the schema of that.

:meta hide-value:
"""


def _codes(source: Table, what: str, run: str) -> np.ndarray:
    """Codes of the ids in a column, int32 [n], -1 where the run does not have them."""
    known = read_table(run_dir(run) / "01_data" / f"{what}s.parquet", f"{what}s")
    codes, names = source.ids(f"{what}_id")
    return codes_in(names, known[f"{what}_id"])[codes]


def _known_items(source: Table, run: str) -> np.ndarray:
    """Codes of items that the run must have, int32 [n]."""
    codes = _codes(source, "item", run)
    _refuse(source, codes < 0, "item_id", f"is no item of run '{run}'")
    return codes


def _refuse(source: Table, bad: np.ndarray | pd.Series, column: str, problem: str) -> None:
    """Raise for the first row where `bad` is true."""
    remedy = "Correct the cell, or remove the row."
    source.refuse(np.asarray(bad), column, f"{{value}} {problem}", remedy)


# ---------------------------------------------------------------- taking in an adapter


def import_adapter(task: str, folder: Path, run: str) -> str:
    """Take in a LoRA adapter in PEFT's form, as LLaMA-Factory saves it, for a task; say so.

    Args:
        task: interactions, attributes or summaries.
        folder: holds adapter_config.json and adapter_model.safetensors; the rest is left behind.
        run: name of the run, whose page 02_finetune is finished.

    Raises:
        UserError: when it is no such adapter, or was made for another model than the run's.
    """
    from dallrec_core.llm.checkpoints import adapter_identity, find_checkpoint

    page = run_dir(run) / "02_finetune"
    model = read_json(page / "model.json")
    adapter_identity(folder, find_checkpoint(model["language_model"], model["revision"] or None))
    with locked(run), atomic(page / "adapters" / task) as partial:
        partial.mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copyfile(folder / name, partial / name)
        (page / MANIFEST).unlink(missing_ok=True)
        write_json(BY_HAND, page / STARTED)
    return f"adapter '{task}' is in place; {NEXT.format(run=run, page='03')}"

"""Other tools' files: exports read back the same, imports are checked cell by cell."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from llm_support import tiny_checkpoint
from tiny_data import movies, write_page_1

from dallrec_core import data as datasets
from dallrec_core.augmentation import (
    TrainingView,
    attributes,
    load_data,
    read_instructions,
    write_instructions,
)
from dallrec_core.augmentation.prompts import record
from dallrec_core.chain.artefacts import read_json, read_table, write_json, write_table
from dallrec_core.chain.freshness import actual_key
from dallrec_core.chain.pages import find_page
from dallrec_core.cli import main
from dallrec_core.data.splits import split
from dallrec_core.errors import UserError
from dallrec_core.llm.load import load
from dallrec_core.llm.score import p_yes

RECORDS = [record("Ask\u2028this?", "yes"), record("Été", "no", "paper")]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with data, instructions and a few answers; every item and user id is a word."""
    monkeypatch.setenv("DALLREC_RUNS_DIR", str(tmp_path / "runs"))
    folder = tmp_path / "runs" / "tiny"
    data = movies(n_users=12, n_items=20)
    items = data.items.assign(item_id=[f"m{i}" for i in range(20)])
    items.loc[1, "title"] = "A  tab\tin a title"
    items.loc[2, "attributes"] = "Film noir|Drama"
    write_page_1(folder / "01_data", dataclasses.replace(data, items=items), data.train[:3])
    users = pd.DataFrame({"user": range(12), "user_id": [f"u {i}" for i in range(12)]})
    write_table(users, folder / "01_data" / "users.parquet", "users")
    write_instructions(RECORDS, folder / "02_finetune" / "instructions" / "interactions.jsonl")
    return folder


def dallrec(*arguments: object, run: str = "tiny", fails: bool = False) -> str:
    """Return what a command about a run prints."""
    result = CliRunner().invoke(main, [*map(str, arguments), "--run", run])
    assert result.exit_code == (2 if fails else 0), result.output
    return result.output


def named(pairs: pd.DataFrame) -> pd.DataFrame:
    """Codes as the ids of the run."""
    users, items = (pairs[name].astype(str) for name in ("user", "item"))
    return pd.DataFrame({"user_id": "u " + users, "item_id": "m" + items})


def unseen(data: TrainingView, n: int) -> pd.DataFrame:
    """Ids of pairs that are not in training."""
    users, items = np.divmod(np.arange(data.n_users * data.n_items), data.n_items)
    free = pd.DataFrame({"user": users, "item": items})[~data.seen(users, items)]
    return named(free.iloc[:: len(free) // (2 * n)][:n].reset_index(drop=True))


# ---------------------------------------------------------------- LLaMA-Factory


def test_alpaca_reads_back_and_keeps_other_datasets(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    write_json({"identity": {"file_name": "identity.json"}}, out / "dataset_info.json")
    assert len(dallrec("export", "alpaca", out).splitlines()) == 2
    index = read_json(out / "dataset_info.json")
    assert set(index) == {"identity", "dallrec_interactions"}
    rows = json.loads((out / index["dallrec_interactions"]["file_name"]).read_text("utf-8"))
    assert rows == RECORDS


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "line 2: Invalid JSON"),
        ('{"instruction": "a", "input": ""}', "line 2, field 'output': Field required"),
        ('{"instruction": 3, "output": "b"}', "line 2, field 'instruction': .* valid string"),
        ('{"instruction": " ", "output": "b"}', "line 2, field 'instruction': .*it is empty"),
    ],
)
def test_bad_instruction_files_name_line_and_field(tmp_path: Path, line: str, message: str) -> None:
    path = write_instructions(RECORDS, tmp_path / "x.jsonl")
    assert read_instructions(path) == RECORDS and path.read_text("utf-8").count("\n") == 2
    path.write_text('{"instruction": "a", "input": null, "output": "b"}\n')
    assert read_instructions(path) == [{"instruction": "a", "input": "", "output": "b"}]
    path.write_text('{"instruction": "a", "output": "b"}\n' + line + "\n")
    with pytest.raises(UserError, match=message):
        read_instructions(path)


def test_an_adapter_of_another_trainer_answers_in_a_run(run: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    theirs, base = tmp_path / "saves", str(tiny_checkpoint())
    config = LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(theirs)
    for name in ("training_args.bin", "trainer_state.json"):  # LLaMA-Factory leaves them beside it
        (theirs / name).write_text("{}")
    write_json({"language_model": base, "revision": ""}, run / "02_finetune" / "model.json")
    write_json({}, run / "02_finetune" / "manifest.json")
    assert "--from 03" in dallrec("import", "adapter", theirs, "--task", "attributes")
    mine = run / "02_finetune" / "adapters" / "attributes"
    assert {p.name for p in mine.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert not (run / "02_finetune" / "manifest.json").exists()
    models = (load(base, device="cpu", adapter=adapter) for adapter in (mine, theirs, None))
    here, there, none = (p_yes(model, ["Will it?"], ["yes"], ["no"])[0] for model in models)
    assert here == there != none


@pytest.mark.parametrize(
    ("arguments", "run_name", "message"),
    [
        (("export", "alpaca", "x"), "other", "dallrec run --run other --until 02"),
        (("import", "adapter", "empty"), "tiny", "lacks adapter_config.json"),
        (("import", "adapter", "empty", "--task", "x"), "tiny", "'x' is not one of"),
        (("import", "summaries", "none.csv"), "tiny", "No such file"),
        (("import", "summaries", "none.csv"), "nowhere", "dataset.json does not exist"),
    ],
)
def test_what_is_not_there_is_said(
    run: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str], run_name: str, message: str
) -> None:
    model = {"language_model": str(tiny_checkpoint()), "revision": ""}
    write_json(model, run / "02_finetune" / "model.json")
    monkeypatch.chdir(run)
    Path("empty").mkdir()
    assert message in dallrec(*arguments, run=run_name, fails=True)


# ---------------------------------------------------------------- RecBole


def atomic_file(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=3)


def test_recbole_files_read_back(run: Path, tmp_path: Path) -> None:
    dallrec("export", "recbole", tmp_path / "out")
    folder = tmp_path / "out" / "tiny"
    for name, short in (("train", "train"), ("validation", "valid"), ("test", "test")):
        made = atomic_file(folder / f"tiny.{short}.inter")
        assert list(made) == ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
        assert made["user_id:token"].str.startswith("u ").all()
        codes = made.replace("^(u |m)", "", regex=True).to_numpy(float)
        part = read_table(run / "01_data" / f"{name}.parquet", "split")
        assert (codes == part[["user", "item", "rating", "timestamp"]].to_numpy(float)).all()
    items = atomic_file(folder / "tiny.item")
    assert items["title:token_seq"][1] == "A tab in a title" and len(items) == 20
    assert items["genres:token_seq"][2] == "Film_noir Drama"


def test_recbole_files_give_the_same_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DALLREC_RUNS_DIR", str(tmp_path / "runs"))
    loaded = datasets.load("matinee")
    parts = split(loaded)
    datasets.save(loaded, parts, tmp_path / "runs/whole/01_data", split="random", seed=0)
    dallrec("export", "recbole", tmp_path / "out", run="whole")
    back = datasets.load("files", interactions_path=tmp_path / "out" / "whole")
    for name in ("interactions", "users", "items"):
        there, here = getattr(back, name), getattr(loaded, name)
        pd.testing.assert_frame_equal(there[list(here)], here)


def test_recbole_takes_what_was_written(run: Path, tmp_path: Path) -> None:
    pairs = unseen(load_data(run / "01_data"), 3)
    pairs.to_csv(tmp_path / "interactions.csv", index=False)
    (tmp_path / "attributes.csv").write_text("item_id,value\nm5,Weird West\n")
    (tmp_path / "summaries.csv").write_text("item_id,summary\nm3,It is. It was.\n")
    for what in ("interactions", "attributes", "summaries"):
        dallrec("import", what, tmp_path / f"{what}.csv")
    path = run / "03_interactions" / "interactions.parquet"
    made = read_table(path, "added")
    assert made["p_yes"].tolist() == [1.0] * 3  # edges without p_yes are certain
    # an answer that was neither yes nor no has none either, and is no edge
    unclear = {"user": 11, "item": 19, "answer": "unparsed", "p_yes": np.nan, "added": False}
    made.loc[3] = made.loc[0].to_dict() | unclear
    write_table(made, path, "added")
    dallrec("export", "recbole", tmp_path / "out", "--augmented")
    train = atomic_file(tmp_path / "out/tiny/tiny.train.inter")
    # added pairs have neither a rating nor a time, so no row has one
    assert list(train) == ["user_id:token", "item_id:token"]
    assert train.tail(3).to_numpy().tolist() == pairs.to_numpy().tolist()
    assert len(train) == 3 + len(read_table(run / "01_data" / "train.parquet", "split"))
    items = atomic_file(tmp_path / "out/tiny/tiny.item")
    assert items["genres:token_seq"][5].endswith(" Weird_West")
    assert items["summary:token_seq"][3] == "It is. It was." and items["summary:token_seq"][4] == ""


# ---------------------------------------------------------------- foreign augmentations


FORMS = {  # by ending: the separator, and the names of user_id, item_id and p_yes
    "csv.gz": (";", ["userId", "movieId", "p_yes"]),
    "inter": ("\t", ["user_id:token", "item_id:token", "p_yes:float"]),
}


@pytest.mark.parametrize("kind", FORMS)
def test_foreign_edges_take_the_place_of_the_stage(run: Path, tmp_path: Path, kind: str) -> None:
    data = load_data(run / "01_data")
    pairs = unseen(data, 5).assign(p_yes=[0.5, 0.6, 0.7, 0.8, 1.0])
    frame = pd.concat([pairs, named(data.train[:2]).assign(p_yes=0.9)], ignore_index=True)
    file = tmp_path / f"edges.{kind}"
    separator, names = FORMS[kind]
    frame.set_axis(names, axis=1).to_csv(file, index=False, sep=separator)
    stage = run / "03_interactions"
    stage.mkdir()
    (stage / "calibration.json").write_text("{}")
    page = run / "notebooks" / "03_interactions.ipynb"
    page.parent.mkdir()
    page.write_text("{}")
    before = actual_key(find_page("03"), "tiny")
    said = dallrec("import", "edges", file)
    assert "7 of 7 rows match the run, 5 pairs are added; 2 are training interactions;" in said
    made = read_table(stage / "interactions.parquet", "added")
    assert made["added"].all() and (made["strategy"] == "imported").all()
    assert named(made).equals(pairs[["user_id", "item_id"]])
    np.testing.assert_allclose(made["p_yes"], pairs["p_yes"], rtol=1e-6)
    assert actual_key(find_page("03"), "tiny") != before
    assert not page.exists() and not (stage / "calibration.json").exists()
    assert read_json(stage / "costs.json")["seconds"] == 0


def test_released_edges_without_a_header_are_matched_and_counted(run: Path, tmp_path: Path) -> None:
    data, users = load_data(run / "01_data"), [f"A{i}" for i in range(12)]
    write_table(
        pd.DataFrame({"user": range(12), "user_id": users}), run / "01_data/users.parquet", "users"
    )
    pairs = unseen(data, 3).assign(user_id=lambda frame: "A" + frame["user_id"].str[2:])
    rows = [*pairs.itertuples(index=False), ("A99", "m1"), ("A1", "x"), tuple(pairs.iloc[0])]
    file = tmp_path / "train_augmented.txt"
    file.write_text("".join(f"{user} {item} 4.0\n" for user, item in rows))
    said = dallrec("import", "edges", file)
    assert "4 of 6 rows match the run, 3 pairs are added; 1 have an unknown user; 1 ha" in said
    assert "1 repeat a pair" in said
    made = read_table(run / "03_interactions" / "interactions.parquet", "added")
    assert len(made) == 3 and made["p_yes"].tolist() == [1.0] * 3


def test_foreign_attributes_join_the_given_ones(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("item_id,value,field\nm5,Horror|War,genres\nm1,USA,country\nm4,Horror,genres\n")
    said = dallrec("import", "attributes", file)
    data = load_data(run / "01_data")
    given = attributes.given(data)
    assert f"2 values are added to {len(given)} given ones" in said
    made = read_table(run / "04_attributes" / "attributes.parquet", "attributes")
    new = made.loc[made["origin"] == "written", ["item", "field", "value"]].to_numpy().tolist()
    assert new == [[1, "country", "USA"], [5, "genres", "War"]] and len(made) == len(given) + 2
    joined = attributes.merged(data, made)
    assert joined["country"][1] == "USA" and joined["attributes"][5].endswith("|War")


def test_foreign_summaries(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "s.parquet"
    pd.DataFrame({"item_id": ["m7", "m0"], "summary": ["One. Two.", " Three. "]}).to_parquet(file)
    assert "2 of 20 items have a summary" in dallrec("import", "summaries", file)
    made = read_table(run / "05_summaries" / "summaries.parquet", "summaries")
    assert made["item"].tolist() == [0, 7] and made["summary"].tolist() == ["Three.", "One. Two."]


BAD_TABLES = {
    "interactions": [
        ("user_id,thing\nu 0,m1\n", "column 'item_id' is missing; the file has 'user_id', 'thing'"),
        ("user_id,item_id\n\nu 99,m1\nu 98,m1\n", "line 3, column 'user_id': 'u 99' is no user"),
        ("user_id,item_id\nu 0,x\n", "line 2, column 'item_id': 'x' is no item of run"),
        ("user_id,item_id,p_yes\nu 0,m1,1.5\n", "line 2, column 'p_yes': '1.5' is not"),
        ("user_id,item_id\nu 0\n", "line 2"),
    ],
    "attributes": [
        ("item_id,value\nm1,Drama\nm2, \n", "line 3, column 'value': ' ' is empty"),
        ("item_id,value,field\nm1,x,mood\n", "column 'field': 'mood' is no field"),
    ],
    "summaries": [
        ("item_id,summary\nm1,A.\nm1,B.\n", "line 3, column 'item_id': 'm1' stands there"),
        ("item_id,summary\nm1,\n", "line 2, column 'summary': '' is empty"),
    ],
}


@pytest.mark.parametrize(
    ("what", "text", "message"), [(task, *row) for task in BAD_TABLES for row in BAD_TABLES[task]]
)
def test_bad_tables_name_file_row_and_column(
    run: Path, tmp_path: Path, what: str, text: str, message: str
) -> None:
    file = tmp_path / "theirs.csv"
    file.write_text(text)
    said = dallrec("import", what, file, fails=True)
    assert message in said and "theirs.csv" in said
    assert not list(run.glob("0[345]*"))

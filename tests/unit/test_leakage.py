"""Leakage checks: clean data passes, and each planted leak is caught."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny_data import FakeAsker, movies

from dallrec_core.augmentation import TrainingView, interactions, write_instructions
from dallrec_core.chain.artefacts import write_json, write_table
from dallrec_core.errors import UserError
from dallrec_core.experiment import Arm, Study, leakage
from dallrec_core.experiment.arms import Prepared
from dallrec_core.experiment.scores import inside

RANDOM = np.random.default_rng(3)
WHOLE = movies(60, 50)


def dealt(order: np.ndarray) -> tuple[TrainingView, pd.DataFrame, pd.DataFrame]:
    """Train, validation and test of each user by `order` within the rows of the user."""
    place = pd.Series(order).groupby(WHOLE.train["user"].to_numpy()).rank(pct=True).to_numpy()
    part = np.digitize(place, [0.6, 0.8], right=True)
    train, validation, test = (WHOLE.train[part == k].reset_index(drop=True) for k in range(3))
    return replace(WHOLE, train=train), validation, test


DATA, VALIDATION, TEST = dealt(RANDOM.random(len(WHOLE.train)))
HELD_OUT = pd.concat([VALIDATION, TEST])
EXAMPLES = interactions.parts(DATA, 20, 10, 0).examples
RECORDS = interactions.instructions(DATA, EXAMPLES)


def asked(data: TrainingView) -> pd.DataFrame:
    """Questions about two unseen items of each user, with the keys of their prompts."""
    users, items = np.divmod(np.arange(data.n_users * data.n_items), data.n_items)
    free = pd.DataFrame({"user": users, "item": items})[~data.seen(users, items)]
    pairs = free.groupby("user").tail(2)
    return interactions.ask(FakeAsker(), data, pairs, seed=3)


def check(
    folder: Path,
    data: TrainingView = DATA,
    validation: pd.DataFrame = VALIDATION,
    test: pd.DataFrame = TEST,
    *,
    split: str = "random",
    records: list[dict[str, str]] | None = None,
    answers: pd.DataFrame | None = None,
    edges: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Write what pages 1 to 3 leave, and check it."""
    write_json({"split": split}, folder / "01_data" / "dataset.json")
    model = {"n_examples": 20, "held_out": 10, "seed": 0, "per_user": 1, "wording": "default"}
    write_json(model, folder / "02_finetune" / "model.json")
    records = records or interactions.instructions(data, interactions.parts(data, 20, 10).examples)
    write_instructions(records, folder / "02_finetune" / "instructions" / "interactions.jsonl")
    write_json({"seed": 3}, folder / "03_interactions" / "rule.json")
    write_table(data.items, folder / "03_interactions" / "items.parquet", "items")
    study = Study(data.train, validation, test, data.n_users, data.n_items)
    answers = asked(data) if answers is None else answers
    arms = {"base": Arm(), "dallrec": Arm(answers if edges is None else edges)}
    return leakage.check(folder.joinpath, Prepared(data, study, answers, {}, {}, arms=arms))


def found(table: pd.DataFrame, words: str) -> Any:
    [row] = table[table["check"].str.contains(words)].to_dict("records")
    return row


def test_clean_data_passes(tmp_path: Path) -> None:
    table = check(tmp_path)
    assert set(table["verdict"]) == {"ok", "counted"}
    counted = table.loc[table["verdict"] == "counted", "check"]
    assert counted.str.match("edges of dallrec|no answers of instructions, drawn blindly").all()


def test_a_test_pair_in_a_prompt(tmp_path: Path) -> None:
    """The history was read from data with one test pair in it."""
    user = int(TEST["user"].iloc[0])
    few = DATA.train[DATA.train["user"] != user]
    leaky = replace(DATA, train=pd.concat([few, TEST.iloc[:1]], ignore_index=True))
    with pytest.raises(UserError, match="prompts not made from training data: 2"):
        check(tmp_path, answers=asked(leaky))
    table = leakage.in_prompts(asked(leaky), leaky, TEST, "default", 3)
    assert table["shows"].sum() == 2, "two questions about this user"
    assert table["rebuilt"].all()


def test_a_test_pair_in_an_instruction(tmp_path: Path) -> None:
    user = int(EXAMPLES["user"].iloc[0])
    [item, *_] = TEST.loc[TEST["user"] == user, "item"]
    name = DATA.texts("default")[item]
    text = RECORDS[0]["instruction"].replace("liked: ", f"liked: {name}; ", 1)
    with pytest.raises(UserError, match="held-out pairs named by instructions: 1"):
        check(tmp_path, records=[RECORDS[0] | {"instruction": text}, *RECORDS[1:]])
    # the same words about somebody else's test item are no leak
    others = sorted(set(TEST["item"]) - set(HELD_OUT.loc[HELD_OUT["user"] == user, "item"]))
    text = text.replace(name, DATA.texts("default")[others[0]])
    check(tmp_path, records=[RECORDS[0] | {"instruction": text}, *RECORDS[1:]])
    with pytest.raises(UserError, match="19 interaction instructions but 20 cases"):
        check(tmp_path, records=RECORDS[1:])


def test_a_blind_no_that_hits_the_test_is_told_apart() -> None:
    user = int(EXAMPLES["user"].iloc[0])
    [item, *_] = TEST.loc[TEST["user"] == user, "item"]
    row = pd.DataFrame({"user": [user], "item": [item], "liked": [False]})
    records = interactions.instructions(DATA, row)
    for origin in ("drawn", "rated"):
        case = row.assign(origin=origin)
        named = leakage.in_instructions(records, case, DATA, HELD_OUT)
        assert named.to_numpy().tolist() == [[user, item, origin == "drawn"]]


def test_names_inside_longer_names_do_not_count() -> None:
    items = DATA.items.copy()
    items.loc[1, "title"] = "The " + items.loc[0, "title"]
    items.loc[1, ["year", "attributes"]] = items.loc[0, ["year", "attributes"]]
    train = pd.DataFrame({"user": [0, 0], "item": [1, 2], "rating": [5.0, 5.0]})
    data = replace(DATA, items=items, train=train)
    case = pd.DataFrame({"user": [0], "item": [2], "liked": [True], "origin": ["rated"]})
    test = pd.DataFrame({"user": [0], "item": [0]})
    records = interactions.instructions(data, case)
    assert data.texts("default")[0] in records[0]["instruction"]
    assert leakage.in_instructions(records, case, data, test).empty


def test_a_test_pair_in_an_edge_is_a_direct_hit_and_parts_share_no_pair(tmp_path: Path) -> None:
    innocent = asked(DATA)[~inside(asked(DATA), TEST, DATA.n_items)]
    planted = pd.concat([innocent, TEST.iloc[[4]]])[["user", "item"]]
    row = found(check(tmp_path, edges=planted), "dallrec that are test")
    assert (row["found"], row["verdict"]) == (1, "counted")
    with pytest.raises(UserError, match=f"test pairs that are validation pairs: {len(TEST)}"):
        check(tmp_path, validation=TEST)
    doubled = pd.concat([TEST, DATA.train.iloc[:3]])
    with pytest.raises(UserError, match="test pairs that are training pairs: 3"):
        check(tmp_path, test=doubled)
    released = check(tmp_path, test=doubled, split="published")
    assert found(released, "test pairs that are training")["verdict"] == "counted"
    assert found(released, "place")["verdict"] == "no verdict"


def test_file_order_left_in(tmp_path: Path) -> None:
    """Each user's rows are sorted by item; the first go to train and the last to test."""
    with pytest.raises(UserError, match=r"place for being in the test: .*; popularity correl"):
        check(tmp_path, *dealt(WHOLE.train["item"].to_numpy()))

    flags = np.array([0, 0, 1, 1, 0, 1, 0, 1], bool)
    place = np.tile(np.arange(4), 2)
    pairs = [(a, b) for a in place[flags] for b in place[~flags]]
    expected = np.mean([(a > b) + (a == b) / 2 for a, b in pairs])
    assert leakage.position_auc(np.repeat([0, 1], 4), flags) == pytest.approx(expected)

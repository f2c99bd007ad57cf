"""Examples, candidates and questions about interactions: balance, bounds, order, and no leak."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from tiny_data import books, fake_llm, movies  # noqa: F401  (fake_llm is a fixture)

from dallrec_core.artifacts import write_json, write_table
from dallrec_core.augmentation import interactions
from dallrec_core.augmentation.candidates import candidates, random_users, shares
from dallrec_core.augmentation.data import Data, load_data, load_truth
from dallrec_core.augmentation.instructions import read_instructions, record, write_instructions
from dallrec_core.errors import UserError


def train_pairs(data: Data) -> set[tuple[int, int]]:
    return set(zip(data.train["user"], data.train["item"], strict=True))


def popularity(data: Data):
    return lambda users: np.tile(data.item_degree.astype(float), (len(users), 1))


# ---------------------------------------------------------------- the training view


def test_histories_split_by_threshold_and_leave_the_target_out():
    data = movies()
    likes, dislikes = data.tastes(3)
    rated = data.train[data.train["user"] == 3].set_index("item")["rating"]
    assert (rated[likes] >= 3).all() and (rated[dislikes] < 3).all()
    target = int(likes[0])
    for wording in ("default", "paper"):
        shown = np.concatenate(data.history(3, wording, 0, without=target))
        assert target not in shown
        prompt = data.prompt(3, target, wording)
        assert f"Film {target:02d}" not in prompt.prefix and f"Film {target:02d}" in prompt.suffix


def test_history_lengths_and_order():
    data = movies(n_items=200)
    likes, dislikes = data.history(0, "default", seed=1)
    assert len(likes) == len(dislikes) == 8
    paper_likes, paper_dislikes = data.history(0, "paper", seed=1)
    assert list(paper_likes) == list(data.tastes(0)[0][:5])
    assert list(paper_dislikes) == sorted(paper_dislikes) and len(paper_dislikes) == 5
    assert not np.array_equal(likes, data.history(0, "default", seed=2)[0])
    assert np.array_equal(likes, data.history(0, "default", seed=1)[0])


def test_file_order_does_not_matter():
    data = movies()
    shuffled = dataclasses.replace(data, train=data.train.sample(frac=1, random_state=1))
    for wording in ("default", "paper"):
        one, two = (
            interactions.instructions(each, interactions.parts(each, 16, 0, 0).examples, wording)
            for each in (data, shuffled)
        )
        assert one == two


def test_seen_tells_training_pairs():
    data = movies()
    users, items = np.divmod(np.arange(data.n_users * data.n_items), data.n_items)
    pairs = train_pairs(data)
    expected = [(u, i) in pairs for u, i in zip(users, items, strict=True)]
    assert data.seen(users, items).tolist() == expected


# ---------------------------------------------------------------- examples


@pytest.mark.parametrize("wording", ["default", "paper"])
def test_examples_are_balanced_training_pairs(wording):
    data = movies(n_users=120)
    parts = interactions.parts(data, 64, 40, seed=5)
    for frame, n in ((parts.examples, 64), (parts.held_out, 40)):
        assert len(frame) == n and frame["liked"].sum() == n // 2
        rating = data.train.set_index(["user", "item"])["rating"]
        values = rating.loc[pd.MultiIndex.from_frame(frame[["user", "item"]])]
        assert ((values.to_numpy() >= 3) == frame["liked"].to_numpy()).all()
    assert not set(parts.examples["user"]) & set(parts.held_out["user"])
    assert parts.notes == []
    records = interactions.instructions(data, parts.examples, wording)
    answers = [r["output"] for r in records]
    assert sorted(set(answers)) == ["no", "yes"]
    assert records[0]["input"] == (" " if wording == "paper" else "")


def test_few_users_share_examples_and_held_out_but_no_pair():
    data = movies(n_users=10)
    parts = interactions.parts(data, 16, 30)
    pairs = [set(zip(f["user"], f["item"], strict=True)) for f in parts[:2]]
    assert len(pairs[0]) == 16 and len(pairs[1]) == 30 and not pairs[0] & pairs[1]
    assert any("both an example and a held-out pair" in note for note in parts.notes)


def test_books_without_ratings_draw_their_no_answers():
    data = books()
    parts = interactions.parts(data, 10, 4)
    no = parts.examples[~parts.examples["liked"]]
    assert len(no) == 5 and (no["origin"] == "drawn").all()
    assert not data.seen(no["user"], no["item"]).any()
    assert any("5 of the no answers are unseen items" in note for note in parts.notes)
    text = interactions.instructions(data, parts.examples, "paper")
    assert all("user dislikes: None." in r["instruction"] for r in text)
    assert {r["output"] for r in text} == {"Yes.", "No."}


def test_shortage_is_said_and_nobody_to_learn_from_is_an_error():
    data = movies(n_users=3)
    assert any("could be drawn" in note for note in interactions.parts(data, 64, 500).notes)
    hated = dataclasses.replace(data, train=data.train.assign(rating=np.float32(1)))
    with pytest.raises(UserError, match="liked items"):
        interactions.parts(hated, 8, 0)


# ---------------------------------------------------------------- candidates


def test_shares_fall_with_degree_and_sum_to_the_budget():
    degree = np.array([0, 3, 8, 8, 99])
    for budget in (1, 7, 100):
        share = shares(degree, budget)
        assert share.sum() == budget and (np.diff(share) <= 0).all()


def test_shares_by_hand():
    assert shares(np.array([99, 0, 24]), 130).tolist() == [10, 100, 20]  # 1/10, 1, 1/5


def test_candidates_are_unseen_unique_within_budget_and_repeatable():
    data = movies(n_users=60)
    frame = candidates(data, popularity(data), budget=200)
    assert 150 <= len(frame) <= 200
    assert not data.seen(frame["user"], frame["item"]).any()
    assert not frame.duplicated().any()
    assert frame.equals(candidates(data, popularity(data), budget=200))
    assert frame["user"].nunique() > 30 and frame["item"].nunique() > 20


def test_low_degrees_get_more_questions():
    data = movies(n_users=60)
    few = data.train[(data.train["user"] >= 30) | (data.train["item"] < 8)]
    data = dataclasses.replace(data, train=few)
    frame = candidates(data, popularity(data), budget=300)
    per_user = np.bincount(frame["user"], minlength=60)
    active = data.user_degree > 0
    assert per_user[:30][active[:30]].mean() > 1.3 * per_user[30:].mean()


def test_cold_items_are_asked_about_and_cold_users_are_not():
    data = movies()
    train = data.train[(data.train["item"] != 7) & (data.train["user"] != 4)]
    data = dataclasses.replace(data, train=train)
    frame = candidates(data, popularity(data), budget=150)
    assert (frame["item"] == 7).any() and not (frame["user"] == 4).any()


def test_users_get_what_the_base_recommender_ranks_high():
    data = movies(n_users=40)
    scores = np.random.default_rng(1).random((40, 40))
    frame = candidates(data, lambda users: scores[users], budget=120)
    assert scores[frame["user"], frame["item"]].mean() > 0.75


def test_recommenders_and_callables_propose_the_same():
    torch = pytest.importorskip("torch")
    data = movies()
    table = torch.as_tensor(np.random.default_rng(1).random((30, 40)))

    class Fitted:
        def scores(self, users):
            return table[users]

    one = candidates(data, Fitted(), budget=50)
    assert one.equals(candidates(data, lambda users: table.numpy()[users], budget=50))


def test_bad_budget_and_empty_training():
    data = movies()
    with pytest.raises(UserError, match="budget"):
        candidates(data, popularity(data), budget=0)
    with pytest.raises(UserError, match="nobody"):
        candidates(dataclasses.replace(data, train=data.train[:0]), popularity(data), budget=5)


def test_random_users_are_unseen_and_without_replacement():
    data = movies()
    table = random_users(data, 30)
    for item, users in enumerate(table):
        users = users[users >= 0]
        assert len(set(users)) == len(users) == data.n_users - data.item_degree[item]
        assert not data.seen(users, item).any()


# ---------------------------------------------------------------- asking and selecting


def test_ask_fills_the_schema(fake_llm, tmp_path):  # noqa: F811
    data = movies()
    lm = fake_llm(lambda text: {"Film 01": 0.9, "Film 02": 0.2}.get(text.split(": ")[-1][:7], 0.5))
    pairs = pd.DataFrame({"user": [2, 0, 1], "item": [1, 2, 3]})
    frame = interactions.ask(lm, data, pairs, strategy="candidates")
    assert frame["answer"].tolist() == ["yes", "no", "yes"]
    assert frame["p_yes"].tolist() == pytest.approx([0.9, 0.2, 0.5])
    assert frame["prompt_key"].str.fullmatch("[0-9a-f]{16}").all()
    assert frame["prompt_key"].is_unique and not frame["added"].any()
    write_table(frame, tmp_path / "interactions.parquet", "added")


def test_an_answer_without_probability_is_unparsed_and_never_added(fake_llm):  # noqa: F811
    data = movies()
    pairs = pd.DataFrame({"user": [0, 1], "item": [1, 2]})
    frame = interactions.ask(fake_llm(lambda text: float("nan")), data, pairs)
    assert interactions.report(interactions.select(frame, 0.0)) == {
        "asked": 2,
        "yes": 0,
        "no": 0,
        "unparsed": 2,
        "added": 0,
        "users_with_added": 0,
        "items_with_added": 0,
    }


def test_candidate_strategy_asks_what_was_proposed(fake_llm):  # noqa: F811
    data = movies()
    lm = fake_llm()
    frame = interactions.augment(lm, data, budget=60, base=popularity(data))
    proposed = candidates(data, popularity(data), budget=60)
    assert frame[["user", "item"]].equals(proposed) and len(lm.asked) == len(proposed)
    with pytest.raises(UserError, match="base recommender"):
        interactions.augment(lm, data, budget=60)
    with pytest.raises(UserError, match="candidates, cold_items, paper"):
        interactions.augment(lm, data, strategy="paperr")


def test_paper_strategy_asks_until_a_yes_and_a_no(fake_llm):  # noqa: F811
    data = movies()
    lm = fake_llm(lambda text: (len(text) * 7919 % 100) / 100)
    frame = interactions.augment(lm, data, strategy="paper", budget=10_000)
    assert not data.seen(frame["user"], frame["item"]).any()
    assert not frame.duplicated(["user", "item"]).any()
    for item, asked in frame.groupby("item"):
        words = asked["answer"].tolist()
        exhausted = len(words) == data.n_users - data.item_degree[item]
        assert exhausted or len(set(words[:-1])) == 1 and words[-1] != words[0]
    assert lm.calls == frame["round"].nunique()  # one batch per round
    chosen = interactions.select(frame, 0.5, max_per_user=0)
    added = chosen[chosen["added"]]
    assert added["item"].is_unique
    first_yes = frame[frame["answer"] == "yes"].groupby("item")["user"].first()
    assert added.set_index("item")["user"].sort_index().equals(first_yes)


def test_paper_strategy_respects_budget_and_rounds(fake_llm):  # noqa: F811
    data = movies()
    always = fake_llm(lambda text: 0.9)
    assert len(interactions.augment(always, data, strategy="paper", budget=50)) == 50
    frame = interactions.augment(always, data, strategy="paper", budget=10_000, max_rounds=3)
    assert len(frame) == 3 * data.n_items


def test_select_takes_the_most_probable_per_user():
    frame = pd.DataFrame(
        {
            "user": [0, 0, 0, 1, 1],
            "item": [1, 2, 3, 1, 2],
            "p_yes": [0.6, 0.9, 0.7, 0.4, 0.55],
            "strategy": "candidates",
        }
    )
    chosen = interactions.select(frame, 0.5, max_per_user=2)
    assert chosen["added"].tolist() == [False, True, True, False, True]
    assert interactions.select(frame, 0.5, max_per_user=0)["added"].sum() == 4
    assert interactions.select(frame, 0.56)["added"].sum() == 3
    assert chosen["weight"].to_numpy() == pytest.approx(frame["p_yes"])


def test_no_user_and_no_item_gets_more_pairs_than_its_limit():
    rng = np.random.default_rng(0)
    pairs = pd.MultiIndex.from_product([range(6), range(5)], names=["user", "item"])
    frame = pairs.to_frame(index=False).assign(p_yes=rng.random(30), strategy="candidates")
    limits = np.array([1, 2, 3, 1, 2, 3]), np.array([1, 4, 2, 1, 4])
    chosen = interactions.select(frame, 0.1, max_per_user=2, limits=limits)
    added = chosen[chosen["added"]]
    # the same by hand: each user's best, then each item's best of what is left
    kept = []
    for user, group in frame[frame["p_yes"] >= 0.1].groupby("user"):
        kept.append(group.nlargest(min(2, limits[0][user]), "p_yes"))
    expected = pd.concat(kept)
    expected = pd.concat(
        group.nlargest(limits[1][item], "p_yes") for item, group in expected.groupby("item")
    )
    assert set(added.index) == set(expected.index) and 3 < len(added) < 11


def test_an_edge_of_the_paper_strategy_has_full_weight():
    frame = pd.DataFrame({"user": [0, 1], "item": [0, 0], "p_yes": [0.6, 0.9], "strategy": "paper"})
    chosen = interactions.select(frame, 0.5)
    assert chosen["added"].tolist() == [True, False] and (chosen["weight"] == 1).all()


def test_threshold_reaches_the_wanted_precision():
    p = np.linspace(0, 1, 101)
    judged = pd.DataFrame({"p_yes": p, "liked": p > 0.4})
    threshold = interactions.choose_threshold(judged, precision=1.0)
    assert threshold == pytest.approx(0.41)
    assert interactions.choose_threshold(judged, precision=0.6) < 0.41
    hopeless = pd.DataFrame({"p_yes": p, "liked": False})
    assert interactions.choose_threshold(hopeless, precision=0.9) == pytest.approx(0.91)
    with pytest.raises(UserError, match="threshold"):
        interactions.choose_threshold(judged[:0])


def test_evaluation_knows_good_from_bad_answers(fake_llm):  # noqa: F811
    data = movies(n_users=80)
    pairs = interactions.parts(data, 20, 60).held_out
    right = {interactions.prompt_key(data.prompt(u, i)): liked for u, i, liked, _ in pairs.values}
    taste = np.zeros((data.n_users, data.n_items))
    taste[pairs["user"], pairs["item"]] = pairs["liked"]

    def oracle(text: str) -> float:
        from hashlib import sha256

        return 0.9 if right[sha256(text.encode()).hexdigest()[:16]] else 0.1

    scores, judged = interactions.evaluate(fake_llm(oracle), data, pairs, taste=taste)
    assert scores["auc"] == scores["accuracy"] == scores["oracle_auc"] == 1.0
    assert scores["n"] == 60 and 0.2 < scores["counting_auc"] < 0.8
    assert interactions.choose_threshold(judged, 1.0) == pytest.approx(0.9)
    guessing, _ = interactions.evaluate(fake_llm(), data, pairs)
    assert guessing["auc"] == 0.5 and "oracle_auc" not in guessing


def test_counting_rule_by_hand():
    data = movies()
    items = data.items.assign(attributes=["A|B", "A", "C"] + [None] * 37)
    train = pd.DataFrame({"user": [0, 0], "item": [1, 2], "rating": [5.0, 1.0]})
    data = dataclasses.replace(data, items=items, train=train)
    pairs = pd.DataFrame({"user": [0, 0, 0], "item": [0, 1, 2]})
    # item 0 shares A with the liked item; items 1 and 2 are left out of their own history
    assert interactions.counting_scores(data, pairs).tolist() == [1.0, 0.0, 0.0]


# ---------------------------------------------------------------- no leak from test or validation


def write_stage(folder, data: Data, hidden: pd.DataFrame) -> None:
    about = {f.name: getattr(data, f.name) for f in dataclasses.fields(data)}
    write_json(
        {k: v for k, v in about.items() if k not in ("train", "items")}, folder / "dataset.json"
    )
    write_table(data.items, folder / "items.parquet", "items")
    hidden = hidden.assign(timestamp=pd.array([None] * len(hidden), "Int64"))
    train = data.train.assign(timestamp=pd.array([None] * len(data.train), "Int64"))
    write_table(train, folder / "train.parquet", "split")
    for name in ("validation", "test"):
        write_table(hidden, folder / f"{name}.parquet", "split")


@pytest.mark.parametrize("wording", ["default", "paper"])
def test_held_back_pairs_reach_no_prompt_example_or_candidate(tmp_path, fake_llm, wording):  # noqa: F811
    """Items seen in validation and test only carry a sentinel title that no history may show."""
    data = movies(n_users=60)
    items = data.items.copy()
    items.loc[30:, "title"] = [f"SENTINEL {i}" for i in range(30, 40)]
    secret = data.train[data.train["item"] >= 30]
    data = dataclasses.replace(data, items=items, train=data.train[data.train["item"] < 30])
    write_stage(tmp_path / "a", data, secret)
    write_stage(tmp_path / "b", data, secret.assign(item=39 - secret["item"] + 30).iloc[:5])
    results = []
    for name in ("a", "b"):
        view = load_data(tmp_path / name)
        parts = interactions.parts(view, 32, 20)
        lm = fake_llm(lambda text: len(text) % 10 / 10)
        asked = interactions.augment(lm, view, budget=200, base=popularity(view), wording=wording)
        interactions.augment(lm, view, strategy="paper", budget=200, wording=wording)
        records = [interactions.instructions(view, p, wording) for p in parts[:2]]
        results.append((records, lm.asked, asked.drop(columns="prompt_key").values.tolist()))
        assert "SENTINEL" not in json.dumps(records)
        for text in lm.asked:  # the question itself may be about any item, the history may not
            marker = "like this movie:" if wording == "default" else "like the target movie:"
            assert "SENTINEL" not in text.split(marker)[0]
    assert results[0] == results[1]  # what is held back makes no difference at all


def test_load_data_names_what_is_wrong(tmp_path):
    data = movies()
    write_stage(tmp_path, data, data.train[:3])
    assert load_data(tmp_path).train["item"].equals(data.train["item"])
    assert load_truth(tmp_path) is None
    write_stage(tmp_path, dataclasses.replace(data, n_users=5), data.train[:3])
    with pytest.raises(UserError, match=r"train.parquet: row \d+, column 'user' is 5"):
        load_data(tmp_path)
    (tmp_path / "dataset.json").write_text('{"name": "x"}')
    with pytest.raises(UserError, match="key 'noun' is missing"):
        load_data(tmp_path)


# ---------------------------------------------------------------- instruction files


def test_instructions_round_trip(tmp_path):
    records = [record("Ask\u2028this?", "yes"), record("Été", "no", "paper")]
    path = write_instructions(records, tmp_path / "x.jsonl")
    assert read_instructions(path) == records
    assert path.read_text(encoding="utf-8").count("\n") == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "line 2: not a JSON object"),
        ("[1]", "line 2: expected an object"),
        ('{"instruction": "a", "input": ""}', "line 2: field 'output' is missing"),
        ('{"instruction": 3, "output": "b"}', "line 2: field 'instruction' is missing or not text"),
        ('{"instruction": " ", "output": "b"}', "line 2: field 'instruction' is empty"),
    ],
)
def test_bad_instruction_files_name_line_and_field(tmp_path, line, message):
    path = tmp_path / "x.jsonl"
    path.write_text('{"instruction": "a", "output": "b"}\n' + line + "\n")
    with pytest.raises(UserError, match=message):
        read_instructions(path)


def test_missing_instruction_file(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        read_instructions(tmp_path / "none.jsonl")

"""The training view, questions about interactions, what they are worth, and no leak."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata
from tiny_data import FakeAsker, Fixed, books, movies, popularity, write_page_1

from dallrec_core.augmentation import interactions, load_data, selection
from dallrec_core.augmentation.candidates import candidates, cold_items, disagreement
from dallrec_core.chain.artefacts import write_table
from dallrec_core.errors import UserError

# ---------------------------------------------------------------- the training view


def test_histories_split_by_threshold_and_leave_the_target_out():
    data = movies()
    likes, dislikes = data.tastes(3)
    rated = data.train[data.train["user"] == 3].set_index("item")["rating"]
    assert (rated[likes] >= 3).all() and (rated[dislikes] < 3).all()
    target = int(likes[0])
    for wording in ("default", "paper"):
        assert target not in np.concatenate(data.history(3, wording, 0, without=target))
        prompt = data.prompt(3, target, wording)
        assert f"Film {target:02d}" not in prompt.prefix and f"Film {target:02d}" in prompt.suffix
    data = movies(n_items=200)
    likes, dislikes = data.history(0, "default", seed=1)
    assert len(likes) == len(dislikes) == 8
    paper_likes, paper_dislikes = data.history(0, "paper", seed=1)
    assert list(paper_likes) == list(data.tastes(0)[0][:5])
    assert list(paper_dislikes) == sorted(paper_dislikes) and len(paper_dislikes) == 5
    assert not np.array_equal(likes, data.history(0, "default", seed=2)[0])
    assert np.array_equal(likes, data.history(0, "default", seed=1)[0])


# ---------------------------------------------------------------- examples


def test_examples_are_balanced_training_pairs():
    data = movies(n_users=120)
    parts = interactions.parts(data, 64, 40, seed=5)
    rating = data.train.set_index(["user", "item"])["rating"]
    for frame, n in ((parts.examples, 64), (parts.held_out, 40)):
        assert len(frame) == n and frame["liked"].sum() == n // 2
        values = rating.loc[pd.MultiIndex.from_frame(frame[["user", "item"]])]
        assert ((values.to_numpy() >= 3) == frame["liked"].to_numpy()).all()
    assert not set(parts.examples["user"]) & set(parts.held_out["user"]) and parts.notes == []


def test_several_pairs_of_one_user_are_drawn_together_and_read_behind_one_history():
    data = movies(n_users=60)
    parts = interactions.parts(data, 64, 40, seed=5, per_user=4)
    for frame in parts[:2]:
        counts = frame["user"].value_counts()
        assert counts.max() == 4 and counts.mean() > 3 and frame["liked"].mean() == 0.5
        assert (frame["user"].diff() != 0).sum() == len(counts)  # side by side
        for (user, liked), asked in frame.groupby(["user", "liked"]):
            rated = len(data.tastes(user)[0 if liked else 1])
            assert len(asked) <= (rated + 1 - liked) // 2  # the others can be shown
        prompts = data.prompts(frame, seed=5)
        assert len({prompt.prefix for prompt in prompts}) == len(counts)
        texts = [record["instruction"] for record in interactions.instructions(data, frame, seed=5)]
        assert texts == [prompt.text for prompt in prompts]
        asked = frame.groupby("user")["item"].agg(set)
        for user, prompt in zip(frame["user"], prompts, strict=True):
            assert not any(f"Film {item:02d}" in prompt.prefix for item in asked[user])
    assert not set(parts.examples["user"]) & set(parts.held_out["user"])
    few = interactions.parts(data, 16, 40, seed=5, per_user=4).examples
    pd.testing.assert_frame_equal(few, parts.examples[:16])  # more examples are others beside them
    alone = parts.held_out.groupby("user").head(1)
    assert data.prompts(alone) == [data.prompt(*pair) for pair in alone[["user", "item"]].values]


def test_few_users_share_examples_and_held_out_but_no_pair():
    parts = interactions.parts(movies(n_users=10), 16, 30)
    assert (len(parts.examples), len(parts.held_out)) == (16, 30)
    assert parts.examples.merge(parts.held_out, on=["user", "item"]).empty
    assert any("both an example and a held-out pair" in note for note in parts.notes)
    data = movies(n_users=3)
    assert any("could be drawn" in note for note in interactions.parts(data, 64, 500).notes)
    hated = dataclasses.replace(data, train=data.train.assign(rating=np.float32(1)))
    with pytest.raises(UserError, match="liked items"):
        interactions.parts(hated, 8, 0)


def test_books_without_ratings_draw_their_no_answers():
    data = books()
    parts = interactions.parts(data, 10, 4)
    no = parts.examples[~parts.examples["liked"]]
    assert len(no) == 5 and (no["origin"] == "drawn").all()
    assert not data.seen(no["user"], no["item"]).any()
    assert any("5 of the no answers are unseen items" in note for note in parts.notes)
    records = interactions.instructions(data, parts.examples, "paper")
    assert all("user dislikes: None." in record["instruction"] for record in records)
    assert {record["output"] for record in records} == {"Yes.", "No."}


def test_instructions_do_not_depend_on_file_order():
    data = movies()
    shuffled = dataclasses.replace(data, train=data.train.sample(frac=1, random_state=1))
    one, two = (
        interactions.instructions(each, interactions.parts(each, 16, 0, 0).examples, "paper")
        for each in (data, shuffled)
    )
    assert one == two and {record["output"] for record in one} == {"no", "yes"}
    assert one[0]["input"] == " "


# ---------------------------------------------------------------- asking


def test_ask_fills_the_schema_and_what_is_neither_word_is_never_added(tmp_path):
    chances = iter([0.9, 0.2, 0.5, float("nan")])
    pairs = pd.DataFrame({"user": [2, 0, 1, 3], "item": [1, 2, 3, 4]})
    frame = interactions.ask(FakeAsker(lambda text: next(chances)), movies(), pairs)
    assert frame["answer"].tolist() == ["yes", "no", "yes", "unparsed"]
    assert frame["p_yes"].tolist() == pytest.approx([0.9, 0.2, 0.5, np.nan], nan_ok=True)
    assert frame["prompt_key"].str.fullmatch("[0-9a-f]{16}").all()
    assert frame["prompt_key"].is_unique and not frame["added"].any()
    write_table(frame, tmp_path / "interactions.parquet", "added")
    report = selection.report(selection.select(frame, 0.0))
    counts = {"asked": 4, "yes": 2, "no": 1, "unparsed": 1, "added": 3}
    assert report == counts | {"users_with_added": 3, "items_with_added": 3}


def test_each_strategy_asks_what_it_proposes():
    data = movies()
    cold = dataclasses.replace(data, train=data.train[data.train["item"] > 3])
    base = popularity(data)
    for view, options, proposed in (
        (data, {"base": base}, candidates(data, base, budget=60)),
        (cold, {"strategy": "cold_items"}, cold_items(cold, budget=60)),
    ):
        asker = FakeAsker()
        frame = interactions.augment(asker, view, budget=60, **options)
        assert frame[["user", "item"]].equals(proposed) and len(asker.asked) == len(proposed)
        assert set(frame["strategy"]) == {options.get("strategy", "candidates")}
    with pytest.raises(UserError, match="no strategy 'paperr' .* Valid: candidates, cold_items, p"):
        interactions.augment(FakeAsker(), data, strategy="paperr")


def test_paper_strategy_asks_until_a_yes_and_a_no():
    data = movies()
    asker = FakeAsker(lambda text: (len(text) * 7919 % 100) / 100)
    frame = interactions.augment(asker, data, strategy="paper", budget=10_000)
    assert not data.seen(frame["user"], frame["item"]).any()
    assert not frame.duplicated(["user", "item"]).any()
    for item, asked in frame.groupby("item"):
        words = asked["answer"].tolist()
        exhausted = len(words) == data.n_users - data.item_degree[item]
        assert exhausted or len(set(words[:-1])) == 1 and words[-1] != words[0]
    assert asker.calls == frame["round"].nunique()  # one batch per round
    chosen = selection.select(frame, 0.5, max_per_user=0)
    added = chosen[chosen["added"]].set_index("item")["user"].sort_index()
    first_yes = frame[frame["answer"] == "yes"].groupby("item")["user"].first()
    assert added.equals(first_yes)
    # budget and rounds are kept
    data, always = movies(n_users=150), FakeAsker(lambda text: 0.9)
    assert len(interactions.augment(always, data, strategy="paper", budget=50)) == 50
    frame = interactions.augment(always, data, strategy="paper", budget=10_000)
    assert len(frame) == interactions.ROUNDS * data.n_items


# ---------------------------------------------------------------- measuring


def test_evaluation_knows_good_from_bad_answers():
    data = movies(n_users=80)
    pairs = interactions.parts(data, 20, 60).held_out
    liked = {data.prompt(u, i).text: liked for u, i, liked, _ in pairs.values}
    taste = np.zeros((data.n_users, data.n_items))
    taste[pairs["user"], pairs["item"]] = pairs["liked"]
    oracle = FakeAsker(lambda text: 0.9 if liked[text] else 0.1)
    scores, judged = interactions.evaluate(oracle, data, pairs, taste=taste)
    assert scores["auc"] == scores["accuracy"] == scores["oracle_auc"] == 1.0
    assert scores["n"] == 60 and 0.2 < scores["counting_auc"] < 0.8
    assert selection.choose_threshold(judged, 1.0) == pytest.approx(0.9)
    guessing, _ = interactions.evaluate(FakeAsker(), data, pairs)
    assert guessing["auc"] == 0.5 and "oracle_auc" not in guessing


def judged(p: np.ndarray, pairs: pd.DataFrame) -> pd.DataFrame:
    frame = pairs.assign(p_yes=p, answer=np.where(p >= 0.5, "yes", "no"), strategy="candidates")
    return selection.select(frame, 0.5, max_per_user=2)


def test_disagreement_with_the_base() -> None:
    data = movies()
    scores = np.random.default_rng(3).random((data.n_users, data.n_items))
    z = (scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)
    pairs = candidates(data, Fixed(scores), budget=150)
    base = rankdata(z[pairs["user"], pairs["item"]]) / len(pairs)
    same = disagreement(judged(base, pairs), Fixed(scores), data)
    assert same["rank_correlation"] == pytest.approx(1) and same["chosen_by_both"] == 1
    assert same["pairs"] == len(pairs) and same["refused"] == pytest.approx(0.5, abs=0.01)
    other = disagreement(judged(1 - base, pairs), Fixed(scores), data)
    assert other["rank_correlation"] == pytest.approx(-1) and other["chosen_by_both"] < 0.6
    # cold items are left out, and then nothing is left
    data = dataclasses.replace(data, train=data.train[data.train["item"] > 3])
    frame = judged(np.full(20, 0.9), cold_items(data, budget=20))
    said = disagreement(frame, popularity(data), data)
    assert said.pop("pairs") == 0 and all(np.isnan(value) for value in said.values())


# ---------------------------------------------------------------- no leak from test or validation


@pytest.mark.parametrize("wording", ["default", "paper"])
def test_held_back_pairs_reach_no_prompt_example_or_candidate(tmp_path, wording):
    """Items seen in validation and test only carry a sentinel title that no history may show."""
    data = movies(n_users=60)
    items = data.items.copy()
    items.loc[30:, "title"] = [f"SENTINEL {i}" for i in range(30, 40)]
    secret = data.train[data.train["item"] >= 30]
    data = dataclasses.replace(data, items=items, train=data.train[data.train["item"] < 30])
    write_page_1(tmp_path / "a", data, secret)
    write_page_1(tmp_path / "b", data, secret.assign(item=39 - secret["item"] + 30).iloc[:5])
    results = []
    for name in ("a", "b"):
        view = load_data(tmp_path / name)
        parts = interactions.parts(view, 32, 20)
        asker = FakeAsker(lambda text: len(text) % 10 / 10, wording=wording)
        asked = interactions.augment(asker, view, budget=200, base=popularity(view))
        interactions.augment(asker, view, strategy="paper", budget=200)
        records = [interactions.instructions(view, p, wording) for p in parts[:2]]
        results.append((records, asker.asked, asked.drop(columns="prompt_key").values.tolist()))
        assert "SENTINEL" not in json.dumps(records)
        for text in asker.asked:  # the question itself may be about any item, the history may not
            marker = "like this movie:" if wording == "default" else "like the target movie:"
            assert "SENTINEL" not in text.split(marker)[0]
    assert results[0] == results[1]  # what is held back makes no difference at all


def test_a_scale_of_ones_own_decides_what_is_liked_and_the_words_follow() -> None:
    data = movies(n_users=6)
    own = dataclasses.replace(data, like_threshold="count", noun="dish", person="eater")
    rating, user = data.train["rating"], data.train["user"]
    above = [value > rating[user == who].median() for value, who in zip(rating, user, strict=True)]
    signs = own.opinion(user.to_numpy(), data.train["item"].to_numpy())
    assert ((signs > 0) == above).all() and own.nouns == "dishes"
    assert own.prompt(0, 0).text.startswith("An eater liked: ")
    assert "Will the eater like this dish: " in own.prompt(0, 0).text

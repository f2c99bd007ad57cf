"""Metrics against pytrec_eval, tie-breaking against a plain sort, and the edge cases by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import pytrec_eval
import torch

from dallrec_core.errors import UserError
from dallrec_core.recommenders.evaluation import (
    cold_and_warm,
    degree_groups,
    evaluate,
    preference_at_k,
    score,
)
from dallrec_core.recommenders.ranking import Pairs, Ranking, coverage, rank

KS = (1, 5, 20)
THEIRS = {"recall": "recall_{}", "precision": "P_{}", "ndcg": "ndcg_cut_{}", "hit": "success_{}"}


def pairs(matrix: np.ndarray) -> pd.DataFrame:
    users, items = np.nonzero(matrix)
    return pd.DataFrame({"user": users, "item": items})


def case(seed: int, n_users: int = 40, n_items: int = 30):
    """Many ties; users without train, without test, and with almost everything known."""
    random = np.random.default_rng(seed)
    scores = random.integers(0, 6, (n_users, n_items)) / 2
    part = random.random((n_users, n_items))
    train, test = part < 0.2, part > 0.85
    train[0] = False
    test[1] = False
    train[2], test[2] = np.arange(n_items) > 2, np.arange(n_items) == 1  # three items to rank
    train[3], test[3] = np.arange(n_items) != 7, np.arange(n_items) == 7  # one item to rank
    scores[4, test[4]] = -np.inf  # found items may never be shown: an empty hit list
    return torch.tensor(scores), train, test


def plain_lists(scores: np.ndarray, train: np.ndarray) -> list[list[int]]:
    """Rank by Python's sort: score falling, then code rising."""
    result = []
    for row, known in zip(scores, train, strict=True):
        free = [i for i in range(len(row)) if not known[i] and row[i] > -np.inf]
        result.append(sorted(free, key=lambda i: (-row[i], i)))
    return result


@pytest.mark.parametrize("seed", range(4))
def test_metrics_equal_pytrec_eval(seed):
    scores, train, test = case(seed)
    ours = evaluate(scores, pairs(train), pairs(test), KS).pivot(
        index="user", columns="metric", values="value"
    )
    lists = plain_lists(scores.numpy(), train)
    qrel = {str(u): {f"i{i}": 1 for i in np.flatnonzero(row)} for u, row in enumerate(test)}
    qrel = {user: items for user, items in qrel.items() if items}
    assert sorted(map(str, ours.index)) == sorted(qrel)
    run = {str(u): {f"i{i}": float(-r) for r, i in enumerate(row)} for u, row in enumerate(lists)}
    run = {user: items or {"nothing": 0.0} for user, items in run.items()}
    names = {name.format(k) for name in THEIRS.values() for k in KS}
    theirs = pytrec_eval.RelevanceEvaluator(qrel, names).evaluate(run)
    for k in KS:
        cut = {u: dict(sorted(r.items(), key=lambda x: -x[1])[:k]) for u, r in run.items()}
        reciprocal = pytrec_eval.RelevanceEvaluator(qrel, {"recip_rank"}).evaluate(cut)
        for user in ours.index:
            row = theirs[str(user)]
            for name, their_name in THEIRS.items():
                wanted = row[their_name.format(k)]
                assert ours.loc[user, f"{name}@{k}"] == pytest.approx(wanted, abs=1e-6)
            wanted = reciprocal[str(user)]["recip_rank"]
            assert ours.loc[user, f"mrr@{k}"] == pytest.approx(wanted, abs=1e-6)


# shorter than the list; in one block, in two
@pytest.mark.parametrize("size", [(40, 9), (40, 30), (150, 3000)])
def test_lists_equal_a_plain_sort(size):
    scores, train, _ = case(3, *size)
    ranking = rank(scores, pairs(train), np.arange(len(train)), 20)
    for row, wanted in zip(ranking.items, plain_lists(scores.numpy(), train), strict=True):
        assert row.tolist() == (wanted + [-1] * 20)[:20]
    scores[7, 1] = np.nan
    with pytest.raises(UserError, match="NaN"):
        rank(scores, pairs(train), np.arange(len(train)), 20)
    with pytest.raises(UserError, match="rank at least 40"):
        score(ranking, pairs(train), 50, (40,))


def test_parity_variants_by_hand():
    # two of four relevant items found, at ranks 1 and 12 of 100
    items = np.arange(100, dtype=np.int32)[None]
    test = pd.DataFrame({"user": [0] * 4, "item": [0, 11, 150, 151]})
    row = score(Ranking(np.array([0]), items), test, 200, (10,), parity=True).iloc[0]
    two = 1 + 1 / np.log2(3)
    assert row["ndcg@10"] == pytest.approx(1 / (two + 1 / 2 + 1 / np.log2(5)))
    assert row["ndcg_hits_at_100@10"] == pytest.approx(1 / two)
    assert row["ndcg_hits_at_k@10"] == pytest.approx(1.0)


def test_recall_of_groups():
    ranking = Ranking(np.array([0, 1]), np.array([[5, 1], [2, 3]], np.int32))
    test = pd.DataFrame({"user": [0, 0, 0, 1], "item": [5, 6, 1, 2]})
    train = pd.DataFrame({"user": [0, 1] * 6, "item": np.repeat([0, 1, 2, 3, 4, 7], 2)})
    masks = cold_and_warm(train, 8, at_most=1)
    assert masks["cold"].tolist() == np.isin(np.arange(8), [5, 6]).tolist()
    assert (masks["cold"] ^ masks["warm"]).all()
    table = score(ranking, test, 8, (2,), item_groups=masks)
    # no cold test item: not a zero
    np.testing.assert_array_equal(table["recall@2[cold]"], [0.5, np.nan])


def test_lists_without_pairs_move_up_and_coverage_ignores_missing_places():
    ranking = Ranking(np.array([4, 5]), np.array([[3, 1, 4, -1], [3, -1, -1, -1]], np.int32))
    left = ranking.without(Pairs(pd.DataFrame({"user": [4, 5], "item": [1, 3]}), 6))
    assert left.items.tolist() == [[3, 4, -1, -1], [-1, -1, -1, -1]]
    assert coverage(ranking, 2, 10) == coverage(left, 2, 10) == pytest.approx(0.2)


def test_preference_counts_the_best_unseen():
    taste = np.array([[9, 8, 7, 6, 5.0], [1, 1, 1, 1, 9.0]])
    seen = pd.DataFrame({"user": [0], "item": [0]})  # best unseen of user 0: 1 and 2
    ranking = Ranking(np.array([0, 1]), np.array([[4, 2, 1], [4, 3, 0]], np.int32))
    # of user 1: 4, then the lowest code among equals, 0
    assert preference_at_k(ranking, taste, seen, 2).tolist() == [0.5, 0.5]
    perfect = rank(torch.tensor(taste), seen, np.arange(2), 3)
    assert preference_at_k(perfect, taste, seen, 3).tolist() == [1, 1]


def test_degree_groups_never_separate_equals():
    codes = pd.Series(np.repeat([0, 1, 2, 3, 4], [1, 1, 1, 5, 9]))
    groups = degree_groups(codes, 6, groups=3)
    assert groups.astype(str).tolist() == ["0-1", "0-1", "0-1", "2-5", "6-9", "0-1"]

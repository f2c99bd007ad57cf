"""Full-ranking evaluation: one ranked list per user, every metric from that list.

All items are ranked for a user except those already known from training; ties go to the lower item
code. Metrics are averaged over the users that have test items. With `T_u` the user's test items,
`h_r` = 1 when rank r holds one of them, and lists cut at K::

    recall@K    = Σ h_r / |T_u|
    precision@K = Σ h_r / K                      (also when fewer than K items could be ranked)
    hit@K       = max h_r
    mrr@K       = 1 / first r with h_r = 1, else 0
    ndcg@K      = Σ h_r / log2(r + 1)  /  Σ_{r ≤ min(K, |T_u|)} 1 / log2(r + 1)

The published code of DALLRec divides by other ideals; for parity they exist as
`ndcg_hits_at_100@K` (MF-BPR, NMF, NGCF, MMSSL: the hits among the first 100) and
`ndcg_hits_at_k@K` (GRCN: the hits among the first K). A model can gain in
them by finding *less*; nothing else in this book uses them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from dallrec_core.errors import UserError
from dallrec_core.recommenders.ranking import Pairs, Ranking, Scored, rank, scoring

PARITY_DEPTH = 100
"""Length of the list whose hits normalise `ndcg_hits_at_100`."""


def score(
    ranking: Ranking,
    test: pd.DataFrame,
    n_items: int,
    ks: Sequence[int] = (10, 20, 50),
    *,
    item_groups: Mapping[str, np.ndarray] | None = None,
    parity: bool = False,
) -> pd.DataFrame:
    """Return every metric of every ranked user that has test items, one column per metric.

    Args:
        ranking: lists at least as long as the largest K (100 for `parity`).
        test: columns user, item.
        n_items: number of items, N.
        ks: lengths K of the list.
        item_groups: name → mask [N]; adds `recall@K[name]`, recall among the test items of the
            group, NaN for users who have none there.
        parity: add the variants of nDCG that the published code computes.

    Returns:
        Column user (int32) and one float64 column per metric, rows in the order of the ranking.

    Raises:
        UserError: when the lists are too short.
    """
    depth = max([*ks, PARITY_DEPTH] if parity else ks)
    if min(ks) < 1 or ranking.items.shape[1] < min(depth, n_items):
        raise UserError(
            f"lists of {ranking.items.shape[1]} items cannot be cut at {list(ks)}; "
            f"rank at least {depth} items"
        )
    relevant = Pairs(test, n_items)
    counts = relevant.counts(ranking.users)
    kept = counts > 0
    ranking, counts = Ranking(ranking.users[kept], ranking.items[kept]), counts[kept]
    hits = relevant.contains(ranking.users[:, None], ranking.items)
    columns: dict[str, np.ndarray] = {"user": ranking.users.astype(np.int32)}
    for k in ks:
        cut, gain = hits[:, :k], _gain(hits[:, :k])
        found, first = cut.sum(axis=1), cut.argmax(axis=1) + 1
        columns[f"recall@{k}"] = found / counts
        columns[f"precision@{k}"] = found / k
        columns[f"ndcg@{k}"] = gain / _ideal(counts, k)
        columns[f"hit@{k}"] = (found > 0).astype(float)
        columns[f"mrr@{k}"] = (found > 0) / first
        if parity:
            in_100 = hits[:, :PARITY_DEPTH].sum(axis=1)
            columns[f"ndcg_hits_at_100@{k}"] = gain / np.maximum(_ideal(in_100, k), 1)
            columns[f"ndcg_hits_at_k@{k}"] = gain / np.maximum(_ideal(found, k), 1)
    position, items = relevant.of(ranking.users)
    for name, mask in (item_groups or {}).items():
        of_group = np.bincount(position[mask[items]], minlength=len(counts)).astype(float)
        of_group[of_group == 0] = np.nan
        inside = hits & mask[ranking.items]
        columns |= {f"recall@{k}[{name}]": inside[:, :k].sum(axis=1) / of_group for k in ks}
    return pd.DataFrame(columns)


def _discounts(length: int) -> np.ndarray:
    return 1 / np.log2(np.arange(2, length + 2))


def _gain(hits: np.ndarray) -> np.ndarray:
    return hits @ _discounts(hits.shape[1])


def _ideal(counts: np.ndarray, k: int) -> np.ndarray:
    best = np.concatenate([[0.0], np.cumsum(_discounts(k))])
    return best[np.minimum(counts, k)]


def to_long(wide: pd.DataFrame) -> pd.DataFrame:
    """Turn one column per metric into rows user, metric, value (float32); NaN rows are left out."""
    long = wide.melt(id_vars="user", var_name="metric", value_name="value").dropna(subset="value")
    return long.astype({"value": np.float32}).reset_index(drop=True)


def evaluate(
    model: Scored, train: pd.DataFrame, test: pd.DataFrame, ks: Sequence[int] = (10, 20, 50)
) -> pd.DataFrame:
    """Rank and score in one call; see `rank` and `score`.

    Args:
        model: what gives the scores.
        train: pairs that are not ranked; give train and validation together at test time, and the
            added edges too for the convention that masks them.
        test: pairs to be found.
        ks: lengths K of the list.

    Returns:
        Rows user (int32), metric ("recall@20" …), value (float32).
    """
    ranking = rank(model, train, np.unique(test["user"].to_numpy(np.int64)), max(ks))
    return to_long(score(ranking, test, scoring(model)[1], ks))


def preference_at_k(
    top_items: Ranking, taste: np.ndarray, seen: pd.DataFrame, k: int
) -> np.ndarray:
    """Return the true preference@K of each ranked user, in [0, 1], float64 [n].

    The share of the user's first K recommendations that are among the K films this viewer would
    like best of all those not in `seen`. It exists only where tastes are known (`matinee`), and it
    does not depend on what the viewer happened to watch.

    Args:
        top_items: lists that leave out exactly the pairs in `seen`.
        taste: true taste of every user for every item, float [U, N]; ties to the lower item code.
        seen: columns user, item.
        k: length of the list, K.
    """
    best = rank(torch.as_tensor(taste), seen, top_items.users, k)
    wanted = pd.DataFrame(
        {"user": np.repeat(best.users, best.items.shape[1]), "item": best.items.ravel()}
    ).query("item >= 0")
    right = Pairs(wanted, taste.shape[1]).contains(best.users[:, None], top_items.items[:, :k])
    return right.sum(axis=1) / k


def cold_and_warm(train: pd.DataFrame, n_items: int, at_most: int = 10) -> dict[str, np.ndarray]:
    """Return masks [N]: "cold" items with at most that many training interactions, and "warm"."""
    degrees = np.bincount(train["item"].to_numpy(np.int64), minlength=n_items)
    return {"cold": degrees <= at_most, "warm": degrees > at_most}


def degree_groups(codes: pd.Series, size: int, groups: int = 10) -> pd.Series:
    """Group all users (or items) by their number of training interactions.

    Args:
        codes: the column user (or item) of the training interactions.
        size: U (or N); codes without interactions have degree 0.
        groups: about as many groups of similar size; equal degrees are never separated.

    Returns:
        Labels such as "4-9" [size], an ordered categorical indexed by code.
    """
    degrees = pd.Series(np.bincount(codes.to_numpy(np.int64), minlength=size))
    edges = np.unique(np.quantile(degrees, np.linspace(0, 1, groups + 1)[1:], method="higher"))
    low = np.concatenate([[0], edges[:-1] + 1]).astype(int)
    labels = [str(a) if a == b else f"{a}-{b}" for a, b in zip(low, edges.astype(int), strict=True)]
    return pd.cut(degrees, [-1, *edges], labels=labels)

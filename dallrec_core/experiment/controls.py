"""Control arms: edges and item features that cost nothing to write, dealt out like the model's own.

If random edges help as much, it was the number of edges and not what the model knew. If features
that were dealt out to the wrong items help as much, it was the extra weights and not the text.

Every arm that adds edges gives each user as many as `dallrec` does, with the same weights (the
largest goes to the arm's first choice), so arms differ in the choice of items and in nothing else.
No arm adds a training pair. A user that an arm finds no item for gets fewer: that can happen where
it chooses from a list of its own (`oracle`, or pairs asked about), and `shortage` counts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from dallrec_core.errors import UserError
from dallrec_core.recommenders.ranking import Scored, rank

FEATURES = ("shuffled", "constant", "noise")
"""What can stand in for the features that a language model wrote."""


def written(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the edges that the language model's answers add: user, item, weight (float32).

    Args:
        answers: schema `added`; a column weight, where there is one, is the edges' weight, else 1.
    """
    added = answers[answers["added"]]
    edges = added[["user", "item"]].assign(weight=added.get("weight", 1))
    return edges.astype({"weight": np.float32})


def best(to_match: pd.DataFrame, scores: Scored, known: pd.DataFrame) -> pd.DataFrame:
    """Choose each user's items with the highest scores; ties go to the lower item code.

    Args:
        to_match: the edges to match.
        scores: [U, N], or vectors of users and of items.
        known: columns user, item: pairs that are not chosen.
    """
    depth = int(to_match["user"].value_counts().max()) if len(to_match) else 1
    ranking = rank(scores, known, np.unique(to_match["user"]), depth)
    return deal(to_match, listed(ranking.users, ranking.items))


def popular(
    to_match: pd.DataFrame, train: pd.DataFrame, n_users: int, n_items: int
) -> pd.DataFrame:
    """Choose the items with the most training interactions among those the user has not."""
    degree = torch.tensor(np.bincount(train["item"], minlength=n_items), dtype=torch.float32)
    return best(to_match, (torch.ones(n_users, 1), degree[:, None]), train)


def text_knn(
    to_match: pd.DataFrame, train: pd.DataFrame, n_users: int, vectors: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """Choose the items whose texts resemble those of the user's training items most.

    The score of an item is the sum of its cosines with the user's items, over all modalities.

    Args:
        to_match: the edges to match.
        train: columns user, item.
        n_users: number of users, U.
        vectors: TF-IDF rows of length 1 (or 0) by modality, each [N, width].
    """
    items = torch.tensor(np.concatenate(list(vectors.values()), axis=1), dtype=torch.float32)
    of_users = torch.zeros(n_users, items.shape[1])
    rows, columns = (torch.tensor(train[name].to_numpy(np.int64)) for name in ("user", "item"))
    return best(to_match, (of_users.index_add_(0, rows, items[columns]), items), train)


def among_asked(to_match: pd.DataFrame, asked: pd.DataFrame, score: Any) -> pd.DataFrame:
    """Choose among the pairs that the language model was asked about, by another score.

    Args:
        to_match: the edges to match.
        asked: columns user, item.
        score: of each of these pairs, [n]; NaN comes last, ties go to the lower item code.
    """
    order = asked[["user", "item"]].assign(score=score)
    order = order.sort_values(["user", "score", "item"], ascending=[True, False, True])
    return deal(to_match, order)


def held_back_edges(to_match: pd.DataFrame, held_back: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Choose real interactions that thinning took out of training, in random order."""
    return deal(to_match, held_back.sample(frac=1, random_state=seed))


def random_edges(
    to_match: pd.DataFrame, train: pd.DataFrame, n_items: int, seed: int
) -> pd.DataFrame:
    """Draw each user's items uniformly from those that are not in `train`.

    Per user, because edges for other *users* would differ in more than the choice of items.

    Args:
        to_match: the edges to match.
        train: columns user, item.
        n_items: N, cold items included.
        seed: of the draw.

    Raises:
        UserError: when a user has not that many free items.
    """
    known = np.unique(train["user"].to_numpy(np.int64) * n_items + train["item"].to_numpy(np.int64))
    wanted = to_match["user"].value_counts()
    room = n_items - pd.Series(known // n_items).value_counts().reindex(wanted.index, fill_value=0)
    for user in sorted(wanted.index[wanted > room])[:1]:
        raise UserError(
            f"user {user} should get {wanted[user]} random edges "
            f"but has only {room[user]} free items"
        )
    random = np.random.default_rng(seed)
    chosen, pending = np.empty(0, np.int64), np.sort(to_match["user"].to_numpy(np.int64))
    while len(pending):
        keys = pending * n_items + random.integers(0, n_items, len(pending))
        # a pair is kept at its first draw, unless it is known already
        first = np.zeros(len(keys), bool)
        first[np.unique(keys, return_index=True)[1]] = True
        free = first & ~np.isin(keys, known) & ~np.isin(keys, chosen)
        chosen, pending = np.concatenate([chosen, keys[free]]), pending[~free]
    pairs = random.permutation(np.sort(chosen))
    return deal(to_match, pd.DataFrame({"user": pairs // n_items, "item": pairs % n_items}))


def no_answers(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs (user, item) that the model answered with No, each once, in sorted order.

    Args:
        answers: schema `added`. What could not be read as yes or no says nothing and is left out.
    """
    said = answers.loc[answers["answer"] == "no", ["user", "item"]].drop_duplicates()
    return said.sort_values(["user", "item"], ignore_index=True)


def features(
    written: Mapping[str, np.ndarray], kind: str, *, seed: int = 0
) -> dict[str, np.ndarray]:
    """Return features of the same shapes that say nothing about the items they stand beside.

    - `shuffled`: the same rows, each at another item's place; all modalities of an item move
      together, so only the tie between text and item is cut;
    - `constant`: the same row for every item, as long as the mean row, so that nothing is left but
      the weights that the model has for features;
    - `noise`: Gaussian rows, each as long as the row it replaces: items differ as before, but
      similar items are no longer similar.

    Args:
        written: features by modality, each float32 [N, width].
        kind: one of `FEATURES`.
        seed: of the permutation or the noise.
    """
    made = dict(written)
    for position, (name, matrix) in enumerate(sorted(written.items())):
        length = np.linalg.norm(matrix, axis=1, keepdims=True)
        if kind == "shuffled":
            made[name] = matrix[np.random.default_rng([seed, 30]).permutation(len(matrix))]
        elif kind == "constant":
            value = length.mean() / np.sqrt(matrix.shape[1])
            made[name] = np.full(matrix.shape, value, np.float32)
        else:
            rows = np.random.default_rng([seed, 31, position]).standard_normal(matrix.shape)
            rows *= length / np.linalg.norm(rows, axis=1, keepdims=True)
            made[name] = rows.astype(np.float32)
    return made


# ---------------------------------------------------------------- dealing edges out


def listed(users: np.ndarray, items: np.ndarray) -> pd.DataFrame:
    """Return ranked lists, users [n] and items [n, depth], as choices for `deal`; -1 is no item."""
    frame = pd.DataFrame({"user": np.repeat(users, items.shape[1]), "item": items.ravel()})
    return frame[frame["item"] >= 0]


def deal(to_match: pd.DataFrame, choices: pd.DataFrame) -> pd.DataFrame:
    """Replace the items of edges: each user keeps the number of edges and their weights.

    Args:
        to_match: the edges to match, columns user, item [, weight; default 1].
        choices: new items in order of preference, columns user, item. A user's first choice gets
            the largest weight.

    Returns:
        user, item (int32), weight (float32), by user and item; fewer than `to_match` where a user's
        choices run out.
    """
    wanted = to_match.assign(weight=to_match.get("weight", 1))
    wanted = wanted.sort_values(["user", "weight", "item"], ascending=[True, False, True])
    wanted = wanted[["user", "weight"]].assign(place=wanted.groupby("user").cumcount())
    offered = choices[["user", "item"]].assign(place=choices.groupby("user").cumcount())
    made = wanted.merge(offered, on=["user", "place"])[["user", "item", "weight"]]
    kinds = {"user": np.int32, "item": np.int32, "weight": np.float32}
    return made.astype(kinds).sort_values(["user", "item"], ignore_index=True)


def shortage(to_match: pd.DataFrame, made: pd.DataFrame) -> int:
    """Return how many users have fewer edges in `made` than in `to_match`."""
    counts = [frame["user"].value_counts() for frame in (to_match, made)]
    return int((counts[0] > counts[1].reindex(counts[0].index, fill_value=0)).sum())

"""Questions about items that nobody has interacted with: who likes their attributes?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from dallrec_core.augmentation.candidates import askable, rooms, shares, table
from dallrec_core.augmentation.data import Data
from dallrec_core.errors import UserError


def cold_items(data: Data, *, budget: int, seed: int = 0) -> pd.DataFrame:
    """Propose at most `budget` pairs of users with items that nobody has interacted with.

    No recommender of interactions can score such an item, so its users are those who like its
    attributes (`tastes`), ties in random order. Every cold item gets an equal part of the budget; a
    user's part falls with the degree, and twice that part is the limit.

    :returns: user, item (int32), by (user, item).
    :raises UserError: if there is no such item, besides the reasons of `candidates`.
    """
    users, rng = askable(data, budget), np.random.default_rng([seed, 5])
    items = np.flatnonzero(data.item_degree == 0)
    if not len(items):
        raise UserError("every item has training interactions; use strategy 'candidates'")
    degree = data.user_degree[users]
    room = rooms(degree, budget)
    parts = shares(np.zeros(len(items)), budget)
    liked, pairs = tastes(data, users), []
    for place in rng.permutation(len(items)):
        score = (liked @ data.attribute_matrix[[items[place]]].T).toarray()[:, 0]
        order = np.lexsort((rng.random(len(users)), -np.round(score, 9)))
        chosen = order[room[order] > 0][: parts[place]]
        room[chosen] -= 1
        pairs += [(int(users[row]), int(items[place])) for row in chosen]
    return table(pairs)


def tastes(data: Data, users: np.ndarray) -> csr_array:
    """What each user likes, by attribute: the share of liked items that have it, less the share of
    disliked ones; [users, V]. Times an item's row of attributes it scores the item.
    """
    rows, columns, values = [], [], []
    for row, user in enumerate(users):
        for sign, items in zip((1, -1), data.tastes(int(user)), strict=True):
            rows.append(np.full(len(items), row))
            columns.append(items)
            values.append(np.full(len(items), sign / max(len(items), 1)))
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return csr_array(entries, shape=(len(users), data.n_items)) @ data.attribute_matrix

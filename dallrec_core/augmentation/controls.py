"""Control arms: edges and item features that cost nothing to write, as many as the model's own.

If random edges help as much, it was the number of edges and not what the model knew. If features
that were dealt out to the wrong items help as much, it was the extra weights and not the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from dallrec_core.errors import UserError

ARMS = ("base", "dallrec", "random")
"""Names of the arms."""

FEATURES = ("shuffled", "constant", "noise")
"""What can stand in for the features that a language model wrote."""


def edges(
    arms: Sequence[str],
    train: pd.DataFrame,
    answers: pd.DataFrame,
    n_users: int,
    n_items: int,
    *,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """Return what each arm adds to the training interactions; all but base add equally many.

    Args:
        arms: names out of `ARMS`.
        train: columns user, item.
        answers: schema `added`; the rows marked as added are the arm `dallrec`.
        n_users: number of users, U.
        n_items: number of items, N.
        seed: of the random arm.

    Returns:
        Frames with columns user, item (int32), weight (float32), by name of the arm.

    Raises:
        UserError: for an unknown arm.
    """
    unknown = [arm for arm in arms if arm not in ARMS]
    if unknown:
        raise UserError(f"arm '{unknown[0]}' is unknown; use {', '.join(ARMS)}")
    written = answers.loc[answers["added"], ["user", "item"]].assign(weight=np.float32(1))
    made = {"base": written.iloc[:0], "dallrec": written}
    if "random" in arms:
        made["random"] = random_edges(train, len(written), seed, n_users=n_users, n_items=n_items)
    return {arm: made[arm] for arm in arms}


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

    Raises:
        UserError: for an unknown kind.
    """
    if kind not in FEATURES:
        raise UserError(f"feature control '{kind}' is unknown; use {', '.join(FEATURES)}")
    made = {}
    for position, (name, matrix) in enumerate(sorted(written.items())):
        length = np.linalg.norm(matrix, axis=1, keepdims=True)
        if kind == "shuffled":
            order = np.random.default_rng([seed, 30]).permutation(len(matrix))
            made[name] = matrix[order]
        elif kind == "constant":
            value = length.mean() / np.sqrt(matrix.shape[1]) if matrix.size else 0.0
            made[name] = np.full(matrix.shape, value, np.float32)
        else:
            random = np.random.default_rng([seed, 31, position])
            rows = random.standard_normal(matrix.shape)
            rows *= length / np.linalg.norm(rows, axis=1, keepdims=True)
            made[name] = rows.astype(np.float32)
    return {name: made[name] for name in written}


def random_edges(
    train: pd.DataFrame,
    n: int,
    seed: int,
    *,
    n_users: int | None = None,
    n_items: int | None = None,
    users: np.ndarray | None = None,
    weight: float = 1.0,
) -> pd.DataFrame:
    """Draw user-item pairs uniformly from those that are not in `train`.

    Args:
        train: columns user, item.
        n: number of edges.
        seed: of the draw.
        n_users: U; default: one more than the largest user code in `train`.
        n_items: N; give it where cold items exist. Default as for users.
        users: the user of each edge, [n], to match an arm person by person so that only the choice
            of items is random. Default: all free pairs are equally likely.
        weight: of every edge, in (0, 1].

    Returns:
        n distinct rows user (int32), item (int32), weight (float32), sorted by user and item.

    Raises:
        UserError: when there are not that many free pairs.
    """
    n_users = int(train["user"].max()) + 1 if n_users is None else n_users
    n_items = int(train["item"].max()) + 1 if n_items is None else n_items
    known = np.unique(train["user"].to_numpy(np.int64) * n_items + train["item"].to_numpy(np.int64))
    _check_room(known, n, n_users, n_items, users)
    random = np.random.default_rng(seed)
    chosen = np.empty(0, np.int64)
    pending = None if users is None else np.asarray(users, dtype=np.int64)
    while len(chosen) < n:
        who = random.integers(0, n_users, n - len(chosen)) if pending is None else pending
        keys = who * n_items + random.integers(0, n_items, len(who))
        # a pair is kept at its first draw, unless it is known already
        first = np.zeros(len(keys), bool)
        first[np.unique(keys, return_index=True)[1]] = True
        free = first & ~np.isin(keys, known) & ~np.isin(keys, chosen)
        chosen = np.concatenate([chosen, keys[free]])
        pending = None if pending is None else pending[~free]
    chosen.sort()
    return pd.DataFrame(
        {
            "user": (chosen // n_items).astype(np.int32),
            "item": (chosen % n_items).astype(np.int32),
            "weight": np.full(n, weight, np.float32),
        }
    )


def _check_room(
    known: np.ndarray, n: int, n_users: int, n_items: int, users: np.ndarray | None
) -> None:
    room = n_users * n_items - len(known)
    if n > room:
        raise UserError(f"{n} random edges were asked for, but only {room} pairs are free")
    if users is None:
        return
    if len(users) != n:
        raise UserError(f"{n} random edges were asked for, but users were given for {len(users)}")
    wanted = np.bincount(users, minlength=n_users)
    free = n_items - np.bincount(known // n_items, minlength=n_users)
    short = np.flatnonzero(wanted > free)
    if len(short):
        raise UserError(
            f"user {short[0]} should get {wanted[short[0]]} random edges "
            f"but has only {free[short[0]]} free items"
        )

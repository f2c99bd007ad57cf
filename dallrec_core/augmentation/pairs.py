"""Labelled training pairs: the cases that fine-tuning shows, and others to measure it on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dallrec_core.augmentation.data import Data, Parts
from dallrec_core.errors import UserError


def parts(data: Data, n: int = 64, held_out: int = 200, seed: int = 0) -> Parts:
    """Draw training pairs for fine-tuning and others for evaluation, half liked, half not.

    One pair per user as long as users last; held-out pairs come from users without an example where
    possible. Where disliked pairs run short (or no ratings exist), unseen items drawn uniformly
    stand in for them (``origin`` is "drawn" instead of "rated").

    :returns: two frames with user, item (int32), liked (bool), origin, and remarks.
    :raises UserError: if no user has two liked training items.
    """
    users = np.random.default_rng([seed, 0]).permutation(np.flatnonzero(data.user_degree >= 2))
    picked: set[tuple[int, int]] = set()
    first = _draw(data, n, users, picked, np.random.default_rng([seed, 1]))
    used = set(first["user"])
    rest = np.array([u for u in users if u not in used], dtype=np.int64)
    shared = np.array([u for u in users if u in used], dtype=np.int64)
    second = _draw(
        data, held_out, np.concatenate([rest, shared]), picked, np.random.default_rng([seed, 2])
    )
    if not (first["liked"].any() and not first["liked"].all()):
        raise UserError("no training user has enough liked items to make yes and no examples")
    return Parts(first, second, _notes(first, second, n, held_out))


def _draw(
    data: Data,
    n: int,
    users: np.ndarray,
    picked: set[tuple[int, int]],
    rng: np.random.Generator,
) -> pd.DataFrame:
    want = {True: n - n // 2, False: n // 2}
    rows: list[tuple[int, int, bool, str]] = []
    for origin in ("rated", "rated", "rated", "drawn", "drawn", "drawn"):  # passes over all users
        for user in users:
            if not any(want.values()):
                break
            found = _one_pair(data, int(user), want, origin, picked, rng)
            if found:
                want[found[2]] -= 1
                picked.add(found[:2])
                rows.append(found)
    frame = pd.DataFrame(rows, columns=["user", "item", "liked", "origin"])
    return frame.astype({"user": "int32", "item": "int32", "liked": bool})


def _one_pair(
    data: Data,
    user: int,
    want: dict[bool, int],
    origin: str,
    picked: set[tuple[int, int]],
    rng: np.random.Generator,
) -> tuple[int, int, bool, str] | None:
    """One pair of this user, of the class that is wanted more; a like must remain to be shown."""
    likes, dislikes = data.tastes(user)
    for liked in sorted((k for k in want if want[k]), key=lambda k: -want[k]):
        pool = likes if liked else dislikes
        if liked and len(likes) < 2 or not len(likes):
            continue
        if not liked and origin == "drawn":
            drawn = rng.integers(0, data.n_items, size=20)
            pool = drawn[~data.seen(np.full(20, user), drawn)]
        free = [int(i) for i in pool if (user, int(i)) not in picked]
        if free:
            item = free[int(rng.integers(len(free)))]
            return user, item, liked, "rated" if liked else origin
    return None


def _notes(first: pd.DataFrame, second: pd.DataFrame, n: int, held_out: int) -> list[str]:
    notes = []
    for name, frame, wanted in (("examples", first, n), ("held-out pairs", second, held_out)):
        drawn = int((frame["origin"] == "drawn").sum())
        if len(frame) < wanted:
            notes.append(f"{name}: only {len(frame)} of {wanted} could be drawn")
        if drawn:
            notes.append(f"{name}: {drawn} of the no answers are unseen items drawn at random")
    both = len(set(first["user"]) & set(second["user"]))
    return notes + ([f"{both} users have both an example and a held-out pair"] if both else [])

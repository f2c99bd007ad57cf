"""Simulated answers: of the quality asked for, by counting pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tiny_data import movies

from dallrec_core.augmentation import Truth
from dallrec_core.errors import UserError
from dallrec_core.experiment import simulated

RANDOM = np.random.default_rng(5)
TASTE = RANDOM.standard_normal((30, 40)).astype(np.float32)
TRUTH = Truth(pd.DataFrame(), TASTE, 0.4)
ASKED = pd.DataFrame(np.argwhere(RANDOM.random((30, 40)) < 0.5), columns=["user", "item"])
LIKED = TASTE[ASKED["user"], ASKED["item"]] >= 0.4


def counted(score: np.ndarray) -> float:
    """AUC by its definition: how often a liked pair stands above one that is not."""
    above = score[LIKED][:, None] - score[~LIKED][None]
    return float(((above > 0) + (above == 0) / 2).mean())


@pytest.mark.parametrize("auc", [0.6, 0.75, 0.9, 1.0])
def test_degraded_answers_have_the_auc(auc: float) -> None:
    score = simulated.degraded(ASKED, TRUTH, auc, seed=1)
    assert counted(score) == pytest.approx(auc, abs=0.002)
    assert simulated.asked_auc(ASKED, score, TRUTH) == pytest.approx(counted(score))


def test_the_ends_are_taste_and_a_coin() -> None:
    taste = TASTE[ASKED["user"], ASKED["item"]]
    best, coin = (simulated.degraded(ASKED, TRUTH, auc) for auc in (1, 0.5))
    assert (np.argsort(best, kind="stable") == np.argsort(taste, kind="stable")).all()
    assert counted(coin) == pytest.approx(0.5, abs=0.06)
    assert not np.array_equal(coin, simulated.degraded(ASKED, TRUTH, 0.5, seed=2))


def test_better_answers_correct_errors_of_worse_ones() -> None:
    """The noise is the same, so what both get right at .7 is right at .9."""
    orders = [simulated.degraded(ASKED, TRUTH, auc).argsort().argsort() for auc in (0.7, 0.9)]
    other = simulated.degraded(ASKED, TRUTH, 0.9, seed=8).argsort().argsort()
    assert np.corrcoef(*orders)[0, 1] > np.corrcoef(orders[0], other)[0, 1]


def test_answers_that_are_missing_count_as_undecided() -> None:
    score = np.where(LIKED, 1.0, 0.0)
    score[np.flatnonzero(LIKED)[0]] = np.nan
    lost = 0.5 if np.nanmedian(score) == 0 else 0.0  # ties with what is not liked, or none
    assert simulated.asked_auc(ASKED, score, TRUTH) == pytest.approx(1 - lost / LIKED.sum())


def test_surest_is_the_rule_of_page_3() -> None:
    from dallrec_core.augmentation.selection import select

    score = RANDOM.random(len(ASKED))
    chosen = simulated.surest(ASKED, score, 25, 2)
    assert len(chosen) == 25 and chosen["user"].value_counts().max() == 2
    keys = chosen[["user", "item"]].apply(tuple, axis=1)
    threshold = score[ASKED.apply(tuple, axis=1).isin(keys)].min()
    asked = ASKED.assign(p_yes=score, strategy="candidates")
    rule = select(asked, threshold=threshold, max_per_user=2)
    assert set(rule[rule["added"]][["user", "item"]].apply(tuple, axis=1)) == set(keys)


def test_surest_never_takes_what_was_not_answered() -> None:
    score = np.full(len(ASKED), np.nan)
    score[3] = 0.1
    [[user, item, weight]] = simulated.surest(ASKED, score, 9).to_numpy()
    assert (user, item, weight) == (*ASKED.iloc[3], 1)


def test_proposals_come_from_what_is_left() -> None:
    data = movies()
    train = data.train.sample(frac=0.5, random_state=1)
    pairs = simulated.proposed(data, train, 60)
    known = set(train[["user", "item"]].apply(tuple, axis=1))
    asked = pairs.apply(tuple, axis=1)
    assert len(pairs) and not known & set(asked)
    removed = set(data.train[["user", "item"]].apply(tuple, axis=1)) - known
    assert removed & set(asked), "what was removed is unseen now and may be proposed"
    assert set(pairs["user"]) <= set(train["user"])


def test_mistakes() -> None:
    with pytest.raises(UserError, match=r"AUC of simulated answers is 0\.4"):
        simulated.degraded(ASKED, TRUTH, 0.4)
    with pytest.raises(UserError, match="all or none are really liked"):
        simulated.degraded(ASKED, replace(TRUTH, liked_from=9.0), 0.8)

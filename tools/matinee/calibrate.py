"""Show that the embedded dataset behaves as its module says: `python -m tools.matinee.calibrate`.

Prints the shape of the data, how well taste and genre counting predict opinions, and recall@20 on
random 80/10/10 splits beside true preference, for popularity, EASE, MF-BPR and LightGCN, each tuned
on validation: without added edges, with three films per viewer that the viewer would truly like
best (with and without those of the test), and with three random ones. The test of a good generator
is that the learners are at or above popularity and that true edges help. Some minutes per backbone
on one core; `--quick` leaves out the trained ones (under a minute).
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from dallrec_core.data import Dataset, Split, load
from dallrec_core.data.matinee import REALLY_LIKED, catalogue
from dallrec_core.data.splits import split
from dallrec_core.recommenders import Graph, Recommender, build
from dallrec_core.recommenders.evaluation import evaluate, preference_at_k
from dallrec_core.recommenders.ranking import rank
from dallrec_core.recommenders.training import TrainSettings, fit
from tools.matinee.make import shown
from tools.matinee.viewers import Viewers, simulate

GRID = {
    "Popularity": [{}],
    "EASE": [{"l2": value} for value in (50.0, 100.0, 200.0, 400.0)],
    "MF-BPR": [{"l2": value} for value in (0.01, 0.03, 0.1)],
    "LightGCN": [{"l2": value} for value in (0.001, 0.01, 0.03)],
}
"""Options tried for each recommender; the best on validation counts."""
PER_VIEWER = 3
"""Added edges per viewer."""
LIST = 8
"""Most liked and most disliked films the counting rule sees."""


def gini(counts: np.ndarray) -> float:
    """Return the Gini coefficient of counts `[N]`: 0 all equal, near 1 all on one."""
    ordered, n = np.sort(counts), len(counts)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


def counting_auc(viewers: Viewers, member: np.ndarray, seen_only: bool, size: int) -> float:
    """AUC of log P(genre | liked) - log P(genre | disliked), summed over the target's genres.

    The lists hold up to eight liked and eight disliked films the viewer has seen; the target is
    another film the viewer has seen (`seen_only`) or has not seen. `member [N, G]` is 0 or 1.
    """
    rng = np.random.default_rng(0)
    films = dict(list(viewers.interactions.groupby("viewer")["film"]))
    scores, answers = [], []
    while len(scores) < size:
        user = int(rng.integers(len(viewers.taste)))
        seen = films[user].to_numpy()
        others = np.setdiff1d(np.arange(len(member)), seen)
        target = rng.choice(seen if seen_only else others)
        shelf = rng.permutation(seen[seen != target])
        high = viewers.ratings[user, shelf] >= 3
        liked, disliked = shelf[high][:LIST], shelf[~high][:LIST]
        if min(len(liked), len(disliked)) < 3:
            continue
        chance = [(member[part].sum(0) + 0.5) / (len(part) + 1) for part in (liked, disliked)]
        scores.append(member[target] @ np.log(chance[0] / chance[1]))
        answers.append(viewers.ratings[user, target] >= 3)
    return float(roc_auc_score(answers, scores))


def describe(data: Dataset) -> None:
    """Print the shape of the data and the AUC of taste."""
    table = data.interactions
    items = np.bincount(table["item"], minlength=data.n_items)
    users = np.bincount(table["user"], minlength=data.n_users)
    taste = data.truth.taste[table["user"], table["item"]]
    liked = table["rating"] >= data.like_threshold
    usual = np.mean((users >= 8) & (users <= 20))
    really = np.mean(data.truth.taste >= REALLY_LIKED)
    shares = table["rating"].value_counts(normalize=True).sort_index().round(3)
    print(
        *data.summary(),
        f"density {len(table) / data.n_users / data.n_items:.4f}, Gini of films {gini(items):.3f}, "
        f"of viewers {gini(users):.3f}, most seen {items.max()}",
        f"films never seen {np.sum(items == 0)}, at most 3 times {np.sum(items <= 3)}; "
        f"viewers with 3-5 films {np.sum(users <= 5)}, share with 8-20 {usual:.2f}",
        f"liked {liked.mean():.3f} of what is seen; really liked {really:.3f} of everything",
        f"ratings {shares.to_dict()}",
        f"oracle AUC on what is seen: {roc_auc_score(liked, taste):.3f}",
        sep="\n",
    )


def describe_opinions(n_viewers: int = 4_000, seed: int = 1, size: int = 8_000) -> None:
    """Print what the oracle and genre counting reach on other viewers."""
    films = catalogue()
    viewers = simulate(films, n_viewers, seed)
    oracle = roc_auc_score((viewers.ratings >= 3).ravel(), viewers.taste.ravel())
    print(f"oracle AUC on all films, other viewers: {oracle:.3f}")
    for name, text in (("true", films["genres"]), ("shown", shown(films)["attributes"])):
        member = text.str.get_dummies("|").to_numpy(float)
        seen, unseen = (counting_auc(viewers, member, only, size) for only in (True, False))
        print(
            f"counting {name} genres, {LIST} + {LIST} films: AUC {seen:.3f} on films seen,"
            f" {unseen:.3f} on films not seen"
        )


def added(data: Dataset, taken: pd.DataFrame, seed: int | None) -> pd.DataFrame:
    """Return `PER_VIEWER` edges per viewer outside `taken`: truly best, or random with a seed."""
    shape = data.truth.taste.shape
    values = data.truth.taste if seed is None else np.random.default_rng(seed).random(shape)
    values = values.astype(np.float64)
    values[taken["user"], taken["item"]] = -np.inf
    best = np.argsort(-values, axis=1, kind="stable")[:, :PER_VIEWER]
    users = np.repeat(np.arange(data.n_users), PER_VIEWER)
    return pd.DataFrame({"user": users, "item": best.ravel()})


def tuned(
    name: str, data: Dataset, parts: Split, extra: pd.DataFrame | None, seed: int, epochs: int
) -> Recommender:
    """Return the model of the grid that is best on validation."""
    graph = Graph.from_frame(parts.train, data.n_users, data.n_items, extra=extra)
    best, value = None, -1.0
    for options in GRID[name]:
        rate = 0.005 if name == "MF-BPR" else 0.01
        settings = TrainSettings(epochs=epochs, learning_rate=rate, batch_size=1024, model=options)
        model = build(name, graph, config=options, seed=seed)
        result = fit(model, graph, parts.validation, settings, seed, known=parts.train)
        if result.validation > value:
            best, value = model, result.validation
    return best


def measure(name: str, data: Dataset, seed: int, epochs: int) -> list[dict[str, object]]:
    """Return recall@20, true preference@20 and the share really liked for every arm."""
    parts = split(data, "random", seed=seed)
    known = pd.concat([parts.train, parts.validation])
    arms = {
        "base": None,
        "true": added(data, known, None),
        "true, no test pair": added(data, data.interactions, None),
        "random": added(data, known, seed),
    }
    rows = []
    for arm, extra in arms.items():
        model = tuned(name, data, parts, extra, seed, epochs)
        scores = evaluate(model, known, parts.test, (20,))
        recall = scores.loc[scores["metric"] == "recall@20", "value"].mean()
        top = rank(model, known, np.arange(data.n_users), 20)
        taste = np.take_along_axis(data.truth.taste, top.items, axis=1)
        truth = preference_at_k(top, data.truth.taste, known, 20).mean()
        rows.append(
            {
                "recommender": name,
                "arm": arm,
                "seed": seed,
                "recall@20": recall,
                "preference@20": truth,
                "really liked": np.mean(taste >= REALLY_LIKED),
            }
        )
    return rows


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only popularity and EASE")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=150)
    options = parser.parse_args()
    data = load("matinee")
    describe(data)
    describe_opinions()
    names = list(GRID)[:2] if options.quick else list(GRID)
    rows: list[dict[str, object]] = []
    for name in names:
        for seed in range(options.seeds):
            rows += measure(name, data, seed, options.epochs)
        print(f"measured {name}", flush=True)
    table = pd.DataFrame(rows).groupby(["recommender", "arm"], sort=False).agg(["mean", "std"])
    print(table.drop(columns="seed").round(4).to_string())


if __name__ == "__main__":
    main()

"""Ask what features and edges are worth for items that nobody has rated; write `book/hidden.csv`.

    python tools/hidden.py

A fifth of matinee's items is hidden from training. Their features come from nothing (noise), from
what is given or from what was written; their edges come from the strategy `cold_items`. The hidden
items are ranked among themselves, for users who have one in the test. Every way is compared with
noise, and the answers with a coin and with counting; all comparisons are one family. The stand-in
answers and writes.
"""

from __future__ import annotations

import datetime
from pathlib import Path

import pandas as pd

from dallrec_core import recommenders
from dallrec_core.chain import freshness
from dallrec_core.chain.artefacts import atomic, read_table
from dallrec_core.chain.pages import run_dir
from dallrec_core.chain.parameters import Overrides, load_profile
from dallrec_core.experiment import comparison
from dallrec_core.experiment.sweep import sweep

BOOK = Path(__file__).parents[1] / "book"
BACKBONES = ["MMGCN", "GRCN", "MMSSL", "LightGCN"]
SEEDS = 5
METRIC = "recall@20|hidden"
FEATURES = {
    "noise": "nothing",
    "shuffled": "what was written, of other items",
    "base": "what is given",
    "given_text": "what is given, in sentences",
    "attributes": "attributes written",
    "summaries": "summaries written",
    "true_attributes": "the true attributes",
}
EDGES = {
    "random": "at random, any item",
    "popular": "popular items",
    "coin": "among those asked, by a coin",
    "counting": "among those asked, by counting",
    "interactions": "among those asked, by the answers",
}
"""Arms and how they are called; those with edges have the given features."""
RIVALS = ["coin", "counting"]
"""Arms that choose among the same pairs as the answers do."""
ARROWS = {"higher": "↑", "lower": "↓"}
HIDDEN: Overrides = {
    "01_data": {"split": "hidden_items"},
    "02_finetune": {"curve_sizes": []},
    "03_interactions": {"strategy": "cold_items", "budget": 6000, "max_share": 0},
}


def trained() -> pd.DataFrame:
    """Train what is not there, and return the scores."""
    layers = [load_profile("smoke").parameters, HIDDEN]
    sweep("hidden", layers, backbones=BACKBONES, arms=[*FEATURES, *EDGES], seeds=SEEDS)
    folder = run_dir("hidden") / "sweep"
    scores, runs = (read_table(folder / f"{name}.parquet", name) for name in ("scores", "runs"))
    blind = [name for name in BACKBONES if not recommenders.model_class(name).uses_features]
    same = scores["backbone"].isin(blind) & scores["arm"].isin([*FEATURES][1:])
    scores = comparison.without_repeats(scores[~same], runs, keep=("base", "noise"))
    return scores[scores["metric"] == METRIC]


def compared(scores: pd.DataFrame) -> pd.DataFrame:
    """Compare everything with noise, and the answers with their rivals, as one family."""
    tables = [comparison.compare(scores, METRIC, "noise").assign(over="noise")]
    for rival in RIVALS:
        pair = scores[scores["arm"].isin(("interactions", rival))]
        tables.append(comparison.compare(pair, METRIC, rival).assign(over=rival))
    return comparison.as_one_family(tables)


def laid_out(scores: pd.DataFrame, effects: pd.DataFrame) -> pd.DataFrame:
    """Return a row per way to know items, a column per backbone: mean recall, and the findings."""
    means = scores.groupby(["arm", "backbone"])["value"].mean()
    found = effects[effects["verdict"].isin(ARROWS)]
    over = found["over"].map(lambda name: "" if name == "noise" else f" {name}")
    marks = (found["verdict"].map(ARROWS) + over).groupby([found["arm"], found["backbone"]])
    marks = marks.agg(", ".join)
    rows = []
    for arm, told in {**FEATURES, **EDGES}.items():
        features, edges = (FEATURES["base"], told) if arm in EDGES else (told, "")
        row = {"features": features, "added pairs": edges}
        for backbone in BACKBONES:
            known = (arm, backbone) in means.index
            mean = f"{means[arm, backbone]:.3f}" if known else ""
            row[backbone] = f"{mean} {marks.get((arm, backbone), '')}".strip()
        rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    scores = trained()
    effects = compared(scores)
    with atomic(BOOK / "hidden.csv") as partial:
        laid_out(scores, effects).to_csv(partial, index=False)
    about = {"comparisons": len(effects), "users": effects["users"].max(), "seeds": SEEDS}
    about |= {"median MDE": round(effects["detectable"].median(), 3)}
    about |= {"commit": freshness.commit(), "date": f"{datetime.date.today()}"}
    with atomic(BOOK / "hidden_origin.csv") as partial:
        pd.DataFrame([about]).to_csv(partial, index=False)


if __name__ == "__main__":
    main()

"""Ask what features and edges are worth for items that nobody has rated; write `book/hidden.csv`.

    python tools/hidden.py

A fifth of matinee's items is hidden from training. Their features come from nothing (noise), or are
vectors, by TF-IDF or SmolLM2's hidden states, of what is given and of what was written; their edges
come from the strategy `cold_items`. The hidden items are ranked among themselves, for users who
have one in the test. Every way is compared with noise, and SmolLM2's vectors with TF-IDF's, and
all comparisons are one family. The stand-in asks and writes.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dallrec_core import recommenders
from dallrec_core.chain.artefacts import atomic, read_table
from dallrec_core.chain.pages import run_dir
from dallrec_core.chain.parameters import Overrides, load_profile
from dallrec_core.experiment import comparison
from dallrec_core.experiment.sweep import sweep

BOOK = Path(__file__).parents[1] / "book"
BACKBONES = ["MMGCN", "GRCN", "MMSSL", "LightGCN"]
ENCODERS = {"tfidf": "TF-IDF", "lm:smollm2": "SmolLM2"}
SEEDS = 5
METRIC = "recall@20|hidden"
FEATURES = {
    "shuffled": "what was written, of other items",
    "base": "what is given",
    "given_text": "what is given, in sentences",
    "attributes": "attributes written",
    "summaries": "summaries written",
    "true_attributes": "the true attributes",
}
EDGES = {
    "random": "random pairs",
    "popular": "popular items",
    "counting": "chosen by counting",
    "interactions": "what was asked",
    "oracle": "chosen by true taste",
}
"""Arms and how they are called; those with edges have the given features."""
HIDDEN: Overrides = {
    "01_data": {"split": "hidden_items"},
    "02_finetune": {"curve_sizes": []},
    "03_interactions": {"strategy": "cold_items", "budget": 6000},
}


def trained() -> pd.DataFrame:
    """Train what is not there, and return the scores; the arm's name has that of the encoder."""
    parts = []
    for encoder, name in ENCODERS.items():
        # noise and edges are the same whoever encodes
        once = ["noise", *EDGES] if not parts else []
        layers = [
            load_profile("smoke").parameters,
            HIDDEN,
            {"06_recommenders": {"encoder": encoder}},
        ]
        sweep("hidden", layers, backbones=BACKBONES, arms=[*FEATURES, *once], seeds=SEEDS)
        folder = run_dir("hidden") / "sweep"
        scores, runs = (read_table(folder / f"{n}.parquet", n) for n in ("scores", "runs"))
        blind = [b for b in BACKBONES if not recommenders.model_class(b).uses_features]
        same = scores["backbone"].isin(blind) & scores["arm"].isin(FEATURES)
        scores = comparison.without_repeats(scores[~same], runs, keep=("base", "noise"))
        arms = scores["arm"].where(scores["arm"].isin(once), scores["arm"] + f", {name}")
        parts.append(scores.assign(arm=arms)[scores["metric"] == METRIC])
    return pd.concat(parts, ignore_index=True)


def compared(scores: pd.DataFrame) -> pd.DataFrame:
    """Compare everything with noise, and one encoder with the other, as one family."""
    first, second = ENCODERS.values()
    tables = [comparison.compare(scores, METRIC, "noise").assign(over="noise")]
    for arm in FEATURES:
        pair = scores[scores["arm"].isin((f"{arm}, {first}", f"{arm}, {second}"))]
        found = comparison.compare(pair, METRIC, f"{arm}, {first}")
        tables.append(found.assign(over="TF-IDF"))
    return comparison.as_one_family(tables)


def laid_out(scores: pd.DataFrame, effects: pd.DataFrame) -> pd.DataFrame:
    """Return a row per way to know items, a column per backbone: mean recall, and the findings."""
    means = scores.groupby(["arm", "backbone"])["value"].mean()
    found = effects[effects["verdict"].isin(("higher", "lower"))]
    notes = found.groupby(["arm", "backbone"])
    words = {key: ", ".join(of["verdict"] + " than " + of["over"]) for key, of in notes}
    ways = [("noise", "nothing", "")]
    ways += [(f"{arm}, {e}", told, e) for arm, told in FEATURES.items() for e in ENCODERS.values()]
    ways += [(arm, told, "TF-IDF") for arm, told in EDGES.items()]
    rows = []
    for arm, told, encoder in ways:
        row = {"known of items": told, "vectors": encoder}
        row["edges"] = told if arm in EDGES else ""
        row["known of items"] = "what is given" if arm in EDGES else told
        for backbone in BACKBONES:
            mean = means.get((arm, backbone))
            row[backbone] = "" if mean is None else f"{mean:.3f} {words.get((arm, backbone), '')}"
        rows.append({name: text.strip() for name, text in row.items()})
    return pd.DataFrame(rows)


def main() -> None:
    scores = trained()
    effects = compared(scores)
    with atomic(BOOK / "hidden.csv") as partial:
        laid_out(scores, effects).to_csv(partial, index=False)
    far = effects.groupby("over")[["detectable", "family"]].max()
    print(far.to_string(), f"users: {effects['users'].max()}", sep="\n")


if __name__ == "__main__":
    main()

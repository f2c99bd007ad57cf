"""Write what a finished run of the profile `real` adds, and gains, for the page "A real model".

    dallrec run --profile real
    python tools/real_gains.py real

The tables are `book/real_added.csv`, `book/real_gains.csv` and `book/real_gains_origin.csv`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from dallrec_core.chain import freshness
from dallrec_core.chain.artefacts import atomic, read_json, read_table
from dallrec_core.chain.pages import find_page, run_dir
from dallrec_core.experiment import comparison

BOOK = Path(__file__).parents[1] / "book"
YARDSTICKS = {
    "recall@20": "recall@20",
    "recall@20[liked]": "recall@20, liked",
    "preference@20": "preference@20",
}


def added(run: str) -> pd.DataFrame:
    """Return how many of the pairs that were added, or chosen otherwise, are really liked."""
    found = pd.DataFrame(read_json(run_dir(run) / "03_interactions" / "true_quality.json")).T
    return found.round(3).rename_axis("pairs").reset_index()


def gains(run: str) -> pd.DataFrame:
    """Return means of base and `dallrec`, and the differences from its rivals; one family."""
    folder = run_dir(run) / "06_recommenders"
    scores, runs = (read_table(folder / f"{name}.parquet", name) for name in ("scores", "runs"))
    trained = runs.loc[runs["arm"] != "base", "backbone"].unique()
    scores, runs = (table[table["backbone"].isin(trained)] for table in (scores, runs))
    effects = comparison.effects(scores, runs, list(YARDSTICKS))
    ours, best = effects[effects["arm"] == "dallrec"], comparison.best_controls(runs)
    ours = ours.assign(text=comparison.interval_texts(ours, 3), family=len(ours))
    rows = []
    for (backbone, metric), of in ours.groupby(["backbone", "metric"], sort=False):
        by = of.set_index("over")
        row = {"backbone": backbone, "yardstick": YARDSTICKS[metric]}
        row |= {name: f"{by[side].iloc[0]:.3f}" for side, name in SIDES.items()}
        for name, rival in (("base", "base"), ("zero_shot", "zero_shot"), ("best control", None)):
            over = rival or best[str(backbone)]
            told = f"{by.loc[over, 'text']} {by.loc[over, 'verdict']}"
            told = told.replace(comparison.NO_EFFECT, "")
            row[f"over {name}"] = (told if rival else f"{over}: {told}").strip()
        rows.append(row)
    order = {name: place for place, name in enumerate(YARDSTICKS.values())}
    return pd.DataFrame(rows).sort_values("yardstick", key=lambda c: c.map(order), kind="stable")


SIDES = {"base": "base", "other": "dallrec"}


def origin(run: str) -> pd.DataFrame:
    """Return commit and date of the run, and what was chosen otherwise than the profile does."""
    made = [freshness.read_manifest(find_page(name), run) for name in ("02", "03", "06")]
    done = [manifest for manifest in made if manifest]
    asked = {
        name: done[0]["parts"]["parameters"][name] for name in ("dtype", "n_examples", "epochs")
    }
    asked["budget"] = done[1]["parts"]["parameters"]["budget"]
    row = {"commit": done[-1]["commit"], "date": done[-1]["finished"][:10]}
    return pd.DataFrame([row | asked | {"seeds": done[2]["parts"]["parameters"]["seeds"]}])


if __name__ == "__main__":
    for name, make in (("added", added), ("gains", gains), ("gains_origin", origin)):
        with atomic(BOOK / f"real_{name}.csv") as partial:
            make(sys.argv[1]).to_csv(partial, index=False)

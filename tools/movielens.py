"""Sweep MovieLens at several densities and write the tables of the page "MovieLens by density".

    python tools/movielens.py

One run per density, `<dataset>-<percent>`; what is finished is not trained again. The effects of
both datasets are one family. The tables are `book/movielens_*.csv`.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd

from dallrec_core.chain.artefacts import atomic, read_json, read_table
from dallrec_core.chain.pages import run_dir
from dallrec_core.chain.parameters import Overrides, load_profile
from dallrec_core.experiment import inference
from dallrec_core.experiment.sweep import sweep

BOOK = Path(__file__).parents[1] / "book"
BACKBONES = {"ml-100k": ["MF-BPR", "NGCF", "LightGCN"], "ml-1m": ["MF-BPR", "LightGCN"]}
"""What is trained, by dataset: what an hour or two allow."""
SEEDS = 3
PERCENT = (5, 20, 100)
"""Densities: per cent of the training pairs that are kept."""
ARMS = ["base", "dallrec", "zero_shot", "random", "popular", "self", "text_knn"]
SHOWN = ["base", "random", "dallrec"]
"""Arms whose mean recall is printed."""


def rows_of(dataset: str, percent: int) -> pd.DataFrame:
    """Return the rows of `dallrec` over base and over the best control, with what they rest on."""
    folder = run_dir(f"{dataset}-{percent}")
    effects = read_table(folder / "sweep" / "effects.parquet", "effects")
    scores = read_table(folder / "sweep" / "scores.parquet", "scores")
    means = scores[scores["metric"] == "recall@20"].groupby(["backbone", "arm"])["value"].mean()
    rows = effects[(effects["arm"] == "dallrec") & (effects["metric"] == "recall@20")]
    train = read_table(folder / "01_data" / "train.parquet", "split")
    asked = read_table(folder / "03_interactions" / "interactions.parquet", "added")
    judged = read_json(folder / "03_interactions" / "calibration.json")
    edge = judged["precision_at_edge"]
    return rows.assign(
        dataset=dataset,
        percent=percent,
        pairs=len(train),
        added=int(asked["added"].sum()),
        precision=f"{edge['precision']:.2f} ({edge['low']:.2f} to {edge['high']:.2f})",
        judged=edge["pairs"],
        confirmed="yes" if judged["beats"]["guessing"] else "no",
        **{arm: [means[name, arm] for name in rows["backbone"]] for arm in SHOWN},
    )


def laid_out(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the three tables of the page by name; all rows together are one family."""
    rows = inference.judged(rows)
    runs, means, found = [], [], []
    for row in rows.itertuples():
        # neither breaks over lines, so that the columns stay narrow
        data = {"data": f"{row.dataset.removeprefix('ml-').upper()},\u00a0{row.percent}\u00a0%"}
        added = {"training pairs": f"{row.pairs:,}", "added pairs": f"{row.added:,}"}
        judged = {"judged": row.judged, "precision": row.precision, "confirmed": row.confirmed}
        runs.append(data | added | judged)
        values = {arm: f"{getattr(row, arm):.4f}" for arm in SHOWN}
        means.append(data | {"backbone": row.backbone} | values)
        effect = {
            "over": row.over,
            "difference": f"{row.difference:+.4f}",
            "95 % interval": f"{row.low:+.4f} to {row.high:+.4f}",
            "p": f"{row.p_corrected:.3f}" if row.p_corrected >= 0.001 else "< 0.001",
            "MDE": f"{row.detectable:.4f}",
            "finding": row.verdict,
        }
        found.append(data | {"backbone": row.backbone} | effect)
    tables = {"runs": runs, "means": means, "effects": found}
    return {name: pd.DataFrame(table).drop_duplicates() for name, table in tables.items()}


def main() -> None:
    rows = []
    for dataset, percent in itertools.product(BACKBONES, PERCENT):
        density: Overrides = {
            "01_data": {"split": "random", "train_fraction": percent / 100},
            "02_finetune": {"curve_sizes": []},
            "03_interactions": {"confirm": "nothing"},  # what a threshold alone would add
        }
        sweep(
            f"{dataset}-{percent}",
            [load_profile(dataset).parameters, density],
            backbones=BACKBONES[dataset],
            arms=ARMS,
            seeds=SEEDS,
            say=lambda line: print(line, flush=True),
        )
        rows.append(rows_of(dataset, percent))
    for name, table in laid_out(pd.concat(rows, ignore_index=True)).items():
        with atomic(BOOK / f"movielens_{name}.csv") as partial:
            table.to_csv(partial, index=False)


if __name__ == "__main__":
    main()

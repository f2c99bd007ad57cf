"""How often the rule of inference errs, and how often it finds what is there.

    python benchmarks/inference.py --json FILE [--run smoke] [--repeats 1000] [--deals 21]

Two parts. *Simulation*: the comparisons of a finished run give variances of seeds, of users and of
the rest; tables of differences are drawn with these variances and a known difference, one family of
comparisons at a time. *Real*: several arms of random edges that differ in the dealing alone are
trained, and every two of them are compared: whatever is found between them is wrong.

`before` are the same figures for the rule that the book had until then: a percentile bootstrap over
users and seeds for the finding, beside Wilcoxon's test on seed averages with Holm's correction.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.process import say
from dallrec_core import experiment
from dallrec_core.chain.artefacts import read_table
from dallrec_core.chain.pages import run_dir
from dallrec_core.experiment import comparison, controls, inference
from dallrec_core.recommenders.settings import settings_for

ESTIMATE = ["difference", "se", "df"]


def variances(scores: pd.DataFrame, runs: pd.DataFrame) -> tuple[np.ndarray, int]:
    """Return variances (seeds, users, rest) of each comparison of the headline, and users, U."""
    metrics = comparison.yardsticks(scores, "recall@20")
    table = comparison.effects(scores, runs, metrics)
    table = table[(table["arm"] == "dallrec") & (table["seeds"] > 1)]
    found = []
    for row in table.itertuples():
        of = scores[(scores["backbone"] == row.backbone) & (scores["metric"] == row.metric)]
        first, second = (
            of[of["arm"] == arm].pivot(index="seed", columns="user", values="value").to_numpy()
            for arm in (row.over, row.arm)
        )
        d = second - first
        residuals = d - d.mean(axis=1, keepdims=True) - d.mean(axis=0) + d.mean()
        rest = (residuals**2).sum() / ((len(d) - 1) * (d.shape[1] - 1))
        of_seeds = max(d.mean(axis=1).var(ddof=1) - rest / d.shape[1], 0)
        found.append((of_seeds, max(d.mean(axis=0).var(ddof=1) - rest / len(d), 0), rest))
    return np.array(found), int(table["users"].max())


def draw(random: np.random.Generator, family: np.ndarray, seeds: int, users: int) -> np.ndarray:
    """Return one table of differences without a true one per comparison, [M, S, U]."""
    of_seeds, of_users, rest = np.sqrt(family).T[:, :, None, None]
    count = len(family)
    return np.asarray(
        of_seeds * random.standard_normal((count, seeds, 1))
        + of_users * random.standard_normal((count, 1, users))
        + rest * random.standard_normal((count, seeds, users))
    )


def former(d: np.ndarray, random: np.random.Generator) -> tuple[float, float, float]:
    """Return low, high and p of one table [S, U] by the former rule."""
    seeds, users = d.shape
    means = [
        d[random.integers(0, seeds, seeds)].mean(axis=0)[random.integers(0, users, users)].mean()
        for _ in range(400)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return low, high, stats.wilcoxon(d.mean(axis=0)).pvalue


def simulate(family: np.ndarray, seeds: int, users: int, repeats: int) -> dict[str, Any]:
    """Return coverage, family-wise errors and power of the rule, and the first two `before` it."""
    random = np.random.default_rng(0)
    tables = []
    for number in range(repeats):
        rows = [inference.crossed(d) for d in draw(random, family, seeds, users)]
        tables.append(inference.judged(pd.DataFrame(rows, columns=ESTIMATE)))
        if number % 100 == 99:
            say(f"simulated {number + 1} of {repeats} families")
    every = pd.concat(tables)
    reach = stats.t.isf(inference.LEVEL / 2, every["df"]) * every["se"]
    sizes = every.groupby(level=0)["detectable"].mean()
    found = [inference.judged(t.assign(difference=t["difference"] + sizes)) for t in tables]
    old = [[former(d, random) for d in draw(random, family, seeds, users)] for _ in range(50)]
    low, high, p = np.moveaxis(np.array(old), 2, 0)
    holm = [multipletests(row, method="holm")[1].min() < inference.LEVEL for row in p]
    return {
        "family": len(family),
        "coverage": float((every["difference"].abs() <= reach).mean()),
        "familywise": _some_found(tables),
        "power_at_mde": float((pd.concat(found)["verdict"] == "higher").mean()),
        "before": {
            "coverage": float(((low <= 0) & (high >= 0)).mean()),
            "familywise of findings": float(((low > 0) | (high < 0)).any(axis=1).mean()),
            "familywise of p (Holm)": float(np.mean(holm)),
        },
    }


def _some_found(families: list[pd.DataFrame]) -> float:
    wrong = [(table["verdict"] != inference.NO_EFFECT).any() for table in families]
    return float(np.mean(wrong))


def alike(run: str, deals: int, seeds: int, backbone: str = "MF-BPR") -> dict[str, Any]:
    """Train `deals` arms of random edges and compare every two of them, by both rules."""
    ready = experiment.prepare(lambda name: run_dir(run) / name, ["base", "dallrec"])
    study, added = ready.study, ready.arms["dallrec"].edges
    arms = {}
    for arm in range(deals):
        drawn = tuple(
            controls.random_edges(added, study.train, study.n_items, 1000 * arm + deal)
            for deal in range(seeds)
        )
        arms[f"random {arm}"] = experiment.Arm(drawn[0], deals=drawn)
    grid = experiment.trainings([backbone], arms, range(seeds), settings_for(ready.data.name))
    with tempfile.TemporaryDirectory() as folder:
        scores, _, _ = experiment.run_grid(study, arms, grid, Path(folder), ks=(20,))
    random, result = np.random.default_rng(0), {}
    for metric in comparison.yardsticks(scores, "recall@20"):
        wide = scores[scores["metric"] == metric].pivot_table(
            index=["arm", "seed"], columns="user", values="value"
        )
        tables = {arm: wide.loc[arm].to_numpy() for arm in arms}
        pairs = [tables[b] - tables[a] for a, b in itertools.combinations(arms, 2)]
        alone = [inference.judged(pd.DataFrame([inference.crossed(d)], columns=ESTIMATE))
                 for d in pairs]  # fmt: skip
        old = [former(d, random) for d in pairs]
        result[metric] = {
            "pairs": len(pairs),
            "found at 5 %": _some_found(alone),
            "found before": float(np.mean([low > 0 or high < 0 for low, high, _ in old])),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--run", default="smoke")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--deals", type=int, default=21)
    given = parser.parse_args()
    page = run_dir(given.run) / "06_recommenders"
    scores, runs = (read_table(page / f"{name}.parquet", name) for name in ("scores", "runs"))
    family, users = variances(scores, runs)
    result = simulate(family, given.seeds, users, given.repeats)
    result["real"] = alike(given.run, given.deals, given.seeds)
    given.json.write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

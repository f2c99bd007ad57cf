"""Sweep MovieLens at several densities and write the tables of the page "MovieLens by density".

    python tools/movielens.py            # all of it: hours
    python tools/movielens.py ml-100k    # one dataset alone

One run per density, `<dataset>-<percent>`; what is finished is not trained again. The effects of
both datasets are one family. The tables are `book/movielens_*.csv`. The last of them holds the key
of the code that made them; a test fails when that code has changed since. `--check` makes the
first row anew and, when it is the same, writes down the new key.
"""

from __future__ import annotations

import ast
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dallrec_core.chain import freshness
from dallrec_core.chain.artefacts import atomic, read_json, read_table
from dallrec_core.chain.pages import PACKAGE, run_dir
from dallrec_core.chain.parameters import Overrides, load_profile
from dallrec_core.experiment import comparison, inference
from dallrec_core.experiment.sweep import sweep

BOOK = Path(__file__).parents[1] / "book"
BACKBONES = {"ml-100k": ["MF-BPR", "NGCF", "LightGCN"], "ml-1m": ["MF-BPR", "LightGCN"]}
"""What is trained, by dataset: what an hour or two allow."""
SEEDS = 5
PERCENT = {"ml-100k": (5, 20, 100), "ml-1m": (5, 20)}
"""Densities: per cent of the training pairs that are kept. All of ML-1M would take the longest."""
ARMS = [
    "base", "dallrec", "zero_shot", "liked_only", "random", "popular", "self", "text_knn",
    "coin", "counting", "counting_written",
]  # fmt: skip
SHOWN = ["base", "liked_only", "random", "coin", "counting", "dallrec"]
"""Arms whose mean recall is printed."""
METRICS = {"recall@20": "effects", "recall@20[liked]": "liked"}
"""Yardsticks, and the table of each."""
MAKING = [
    "data/splits.py",
    "augmentation/candidates.py",
    "augmentation/interactions.py",
    "augmentation/prompts.py",
    "augmentation/selection.py",
    "augmentation/view.py",
    "recommenders/*",
    "experiment/*",
]
"""Files of the library whose change can change a figure of the tables."""


def code_key(library: Path = PACKAGE) -> str:
    """Return a hash of the code and settings that make the tables; prose does not count."""
    files = [f for pattern in MAKING for f in library.glob(pattern) if f.is_file()]
    made = {str(file.relative_to(library)): _code(file) for file in files}
    return freshness.key(made | {"tool": _code(Path(__file__))})[:12]


def _code(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return text
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [n for n in node.body if not _is_text(n)]
    return ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def rows_of(dataset: str, percent: int) -> pd.DataFrame:
    """Return the rows of `dallrec`, and of `liked_only` over base, with what they rest on."""
    folder = run_dir(f"{dataset}-{percent}")
    effects = read_table(folder / "sweep" / "effects.parquet", "effects")
    scores = read_table(folder / "sweep" / "scores.parquet", "scores")
    means = scores[scores["metric"] == "recall@20"].groupby(["backbone", "arm"])["value"].mean()
    told = (effects["arm"] == "liked_only") & (effects["over"] == "base")
    rows = effects[((effects["arm"] == "dallrec") | told) & effects["metric"].isin(METRICS)]
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
        **{f"beats_{rule}": "yes" if so else "no" for rule, so in judged["beats"].items()},
        **{arm: [means[name, arm] for name in rows["backbone"]] for arm in SHOWN},
    )


def laid_out(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables of the page by name; all rows together are one family."""
    rows = inference.judged(rows)
    tables: dict[str, list[dict[str, object]]] = {
        "runs": [],
        "means": [],
        "effects": [],
        "liked": [],
    }
    shown = comparison.interval_texts(rows, digits=3)
    for row, interval in zip(rows.itertuples(), shown, strict=True):
        # neither breaks over lines, so that the columns stay narrow
        data = {"data": f"{row.dataset.removeprefix('ml-').upper()},\u00a0{row.percent}\u00a0%"}
        added = {"training pairs": f"{row.pairs:,}", "added pairs": f"{row.added:,}"}
        judged = {"judged": row.judged, "precision": row.precision}
        judged |= {"beats guessing": row.beats_guessing, "beats counting": row.beats_counting}
        tables["runs"].append(data | added | judged)
        values = {arm.replace("_", " "): f"{getattr(row, arm):.4f}" for arm in SHOWN}
        tables["means"].append(data | {"backbone": row.backbone} | values)
        effect = {
            "arm": row.arm.replace("_", " "),
            "over": row.over.replace("_", " "),
            "difference": interval,
            "p": f"{row.p_corrected:.3f}" if row.p_corrected >= 0.001 else "<\u00a00.001",
            "MDE": f"{row.detectable:.3f}",
            "finding": row.verdict.replace(inference.NO_EFFECT, ""),
        }
        tables[METRICS[row.metric]].append(data | {"backbone": row.backbone} | effect)
    return {name: pd.DataFrame(table).drop_duplicates() for name, table in tables.items()}


def swept(dataset: str, percent: int, backbones: Sequence[str] = ()) -> pd.DataFrame:
    """Train what is not there of one density, and return its rows."""
    density: Overrides = {
        "01_data": {"split": "random", "train_fraction": percent / 100},
        "02_finetune": {"curve_sizes": []},
        "03_interactions": {"confirm": "nothing"},  # what a threshold alone would add
    }
    sweep(
        f"{dataset}-{percent}",
        [load_profile(dataset).parameters, density],
        backbones=backbones or BACKBONES[dataset],
        arms=ARMS,
        seeds=SEEDS,
        say=lambda line: print(line, flush=True),
    )
    return rows_of(dataset, percent)


def stored(name: str) -> Path:
    """Return the place of a table of the page."""
    return BOOK / f"movielens_{name}.csv"


def main(datasets: Sequence[str]) -> None:
    rows = [swept(dataset, percent) for dataset in datasets for percent in PERCENT[dataset]]
    tables = laid_out(pd.concat(rows, ignore_index=True))
    made = {"commit": freshness.commit(), "date": f"{datetime.date.today()}", "key": code_key()}
    for name, table in (tables | {"origin": pd.DataFrame([made])}).items():
        with atomic(stored(name)) as partial:
            table.to_csv(partial, index=False)


def check() -> None:
    """Write down the present key if the first backbone still does at first as the table shows."""
    dataset = next(iter(BACKBONES))
    percent = PERCENT[dataset][0]
    now = laid_out(swept(dataset, percent, BACKBONES[dataset][:1]))["means"].astype(str)
    then = pd.read_csv(stored("means"), dtype=str)
    if not now.equals(then.head(1)):
        sys.exit(f"the code makes other figures now:\n{now}\nrun it without --check")
    origin = pd.read_csv(stored("origin"), dtype=str).assign(key=code_key())
    with atomic(stored("origin")) as partial:
        origin.to_csv(partial, index=False)


if __name__ == "__main__":
    check() if sys.argv[1:] == ["--check"] else main(sys.argv[1:] or [*BACKBONES])

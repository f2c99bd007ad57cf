"""Write the tables of the page "A real model" from two runs of the profile `real`.

    dallrec run --profile real
    cp -r runs/real runs/unlimited     # what is fresh is not made again
    dallrec run --profile real --run unlimited -p 03.max_share=0 -p 03.max_per_user=0
    python tools/real.py real unlimited

Each answer is taken from the store of answers, so that nothing is asked again. An interval of the
learning curve is a bootstrap over users, whose pairs stay together; that of a gain draws the same
users before and after. What recommenders gain is told by the rule of page 7. The tables are
`book/real_*.csv`, the picture `book/_static/real_curve.png`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dallrec_core import llm, plots
from dallrec_core.augmentation import Asker, interactions, load_data, load_truth
from dallrec_core.augmentation.candidates import counting_scores, mean_ratings
from dallrec_core.chain.artefacts import atomic, read_json, read_table
from dallrec_core.chain.pages import PAGES, run_dir, runs_dir
from dallrec_core.experiment import comparison
from dallrec_core.llm.checkpoints import ADAPTER_RECORD

BOOK = Path(__file__).parents[1] / "book"
DRAWS = 2000
"""Bootstrap samples of users."""
TASKS = [
    ("attributes", "f1", "genres: F1", "genres_n"),
    ("attributes", "hidden_f1", "genres not shown: F1", "genres_n"),
    ("attributes", "director", "director right", "facts_n"),
    ("attributes", "country", "country right", "facts_n"),
    ("attributes", "language", "language right", "facts_n"),
    ("summaries", "two_sentences", "summaries: two sentences", "n"),
    ("summaries", "readable", "summaries: readable", "n"),
]
"""What page 2 measures besides yes and no: task, figure, name, and of how many it is the mean."""


def answers(run: str) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Return the held-out pairs of a run, and what each way to answer says about them."""
    page_1, page_2 = run_dir(run) / "01_data", run_dir(run) / "02_finetune"
    data, truth, chosen = load_data(page_1), load_truth(page_1), read_json(page_2 / "model.json")
    sizes = [point["examples"] for point in read_json(page_2 / "learning_curve.json")]
    drawn = [max(sizes), *(chosen[name] for name in ("held_out", "seed", "per_user"))]
    pairs = interactions.parts(data, *drawn).held_out
    cache = llm.AnswerCache(runs_dir() / "cache" / "answers.sqlite")
    said = {}
    for size in sizes:
        folder = page_2 / "curve" / str(size)
        tuned = folder if folder.exists() else page_2 / "adapters" / "interactions"
        lm = llm.open_model(chosen, "interactions", tuned if size else None)
        asked = interactions.ask(Asker(lm, chosen["wording"], cache), data, pairs, chosen["seed"])
        said[f"SmolLM2 after {size:,} examples" if size else "SmolLM2 as it came"] = asked["p_yes"]
    said["the item's mean rating"] = mean_ratings(data, pairs)
    said["counting rule"] = counting_scores(data, pairs)
    if truth is not None:
        said["oracle"] = truth.taste[pairs["user"], pairs["item"]]
    return pairs, {name: np.asarray(scores, float) for name, scores in said.items()}


def curve(run: str, dataset: str) -> pd.DataFrame:
    """Return the AUC of every way to answer, and its distance from two of them."""
    pairs, said = answers(run)
    liked, users = pairs["liked"].to_numpy(), pairs["user"].to_numpy()
    rows_of = [np.flatnonzero(users == user) for user in np.unique(users)]
    rng, resampled = np.random.default_rng(0), []
    for _ in range(DRAWS):
        drawn = np.concatenate([rows_of[i] for i in rng.integers(len(rows_of), size=len(rows_of))])
        resampled.append([interactions.auc_of(liked[drawn], s[drawn]) for s in said.values()])
    draws, rows = np.array(resampled), []
    aucs = [interactions.auc_of(liked, scores) for scores in said.values()]
    others = {"more than as it came": 0, "more than counting": list(said).index("counting rule")}
    for column, (name, auc) in enumerate(zip(said, aucs, strict=True)):
        low, high = np.quantile(draws[:, column], [0.025, 0.975])
        row = {"data": dataset, "who answers": name, "pairs": f"{len(pairs):,}"}
        row |= {"AUC": f"{auc:.3f}", "95 % interval": f"{low:.3f} to {high:.3f}"}
        for words, other in others.items():
            less, more = np.quantile(draws[:, column] - draws[:, other], [0.025, 0.975])
            found = f"{auc - aucs[other]:+.3f} ({less:+.3f} to {more:+.3f})"
            row[words] = found if column != other else ""
        rows.append(row)
    return pd.DataFrame(rows)


def picture(table: pd.DataFrame) -> Figure:
    """Draw the AUC of the model over its examples, beside those who learn nothing."""
    ours = table["who answers"].str.startswith("SmolLM2")
    low, high = table["95 % interval"].str.split(" to ", expand=True).astype(float).T.to_numpy()
    aucs = table.assign(auc=table["AUC"].astype(float), low=low, high=high)
    number = table["who answers"].str.extract(r"after ([\d,]+)", expand=False)
    aucs["examples"] = number.str.replace(",", "").fillna("0").astype(int)
    return plots.learning_curve(aucs[ours], aucs[~ours].set_index("who answers")["auc"].to_dict())


def tasks(run: str, dataset: str) -> pd.DataFrame:
    """Return what the other two lessons change."""
    found = read_json(run_dir(run) / "02_finetune" / "evaluation.json")
    rows = [
        {"data": dataset, "measure": name, "items": f"{found[task]['before'][number]:,}"}
        | {when: f"{found[task][when][figure]:.3f}" for when in ("before", "after")}
        for task, figure, name, number in TASKS
        if found[task]["before"].get(figure) is not None
    ]
    return pd.DataFrame(rows)


def passed(run: str) -> pd.DataFrame:
    """Return how many answers were sure enough and how many were added, and about whom."""
    page = run_dir(run) / "03_interactions"
    table = read_table(page / "interactions.parquet", "interactions")
    sure = table["p_yes"] >= read_json(page / "calibration.json")["threshold"]
    parts = {"asked": table, "sure enough": table[sure], "added": table[table["added"]]}
    rows = [(n, len(p), p["user"].nunique(), p["item"].nunique()) for n, p in parts.items()]
    return pd.DataFrame(rows, columns=["answers", "pairs", "viewers", "films"])


def added(run: str) -> pd.DataFrame:
    """Return how many of the pairs that were added, or chosen otherwise, are really liked."""
    found = pd.DataFrame(read_json(run_dir(run) / "03_interactions" / "true_quality.json")).T
    shown = found.round(3).astype({"pairs": int})
    return shown.rename_axis("chosen by").reset_index()


def gains(run: str) -> pd.DataFrame:
    """Return what `dallrec` gains over its rivals, and what the oracle's pairs would over base."""
    table = read_table(run_dir(run) / "07_analysis" / "effects.parquet", "effects")
    runs = read_table(run_dir(run) / "06_recommenders" / "runs.parquet", "runs")
    ours, oracle = table["arm"] == "dallrec", (table["arm"] == "oracle") & (table["over"] == "base")
    best = table["over"] == table["backbone"].map(comparison.best_controls(runs))
    name = table["arm"] + " over " + table["over"] + np.where(best & ours, ", the best control", "")
    rows = table.assign(compared=name, text=comparison.short_texts(table))[ours | oracle]
    wide = rows.pivot(index=["backbone", "compared"], columns="metric", values="text")
    wide = wide.loc[rows["backbone"].unique(), rows["metric"].unique()]
    least = table[ours].groupby("metric")["detectable"].median().map("{:.3f}".format)
    wide.loc[("all", "median minimum detectable effect"), :] = least
    return wide.reset_index()


def origin(run: str) -> pd.DataFrame:
    """Return where the figures come from: commit and date, and how much was asked and trained."""
    names = [page.name for page in PAGES[:7]]
    pages = [read_json(run_dir(run) / name / "manifest.json") for name in names]
    tuned, asked, trained = (pages[i]["parts"]["parameters"] for i in (1, 2, 5))
    record = read_json(run_dir(run) / "02_finetune" / "adapters" / "interactions" / ADAPTER_RECORD)
    row = {"commit": pages[-1]["commit"], "date": pages[-1]["finished"][:10]}
    row |= {"examples": tuned["n_examples"], "per user": tuned["per_user"]}
    row |= {"learning rate": tuned["learning_rate"], "rank": tuned["lora_rank"]}
    row |= {"numbers": record["dtype"], "budget": asked["budget"], "seeds": trained["seeds"]}
    row["minutes on two cores"] = round(sum(page["seconds"] for page in pages) / 60)
    return pd.DataFrame([row])


def main(run: str, unlimited: str) -> None:
    dataset = read_json(run_dir(run) / "01_data" / "dataset.json")["name"]
    tables = {"curve": curve(run, dataset), "tasks": tasks(run, dataset), "origin": origin(run)}
    tables["passed"] = passed(run)
    for ending, of in (("", run), ("_unlimited", unlimited)):
        tables |= {f"added{ending}": added(of), f"gains{ending}": gains(of)}
    for name, table in tables.items():
        with atomic(BOOK / f"real_{name}.csv") as partial:
            table.to_csv(partial, index=False)
    plots.use_style()
    with atomic(BOOK / "_static" / "real_curve.png") as partial:
        figure = picture(tables["curve"])
        figure.savefig(partial, format="png", dpi=144, metadata={"Software": None})


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Settle the rule that adds pairs on viewers nobody has looked at: `python -m tools.settle`.

Other viewers of the embedded films are simulated, one dataset for each of `VIEWERS`, and divided
like the published one. One part of the rule is changed at a time, and what comes of it is judged by
validation nDCG@20 of two backbones. The test interactions of these viewers are never read, and of
the published viewers nothing is read but the adapters that page 2 of a run has trained. A change is
better than the rule as it stands only if its interval over viewers lies above zero. The table is
`book/settling.csv`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dallrec_core import augmentation, experiment, llm, recommenders
from dallrec_core.augmentation import attributes, interactions, selection
from dallrec_core.chain.artefacts import atomic, read_json
from dallrec_core.chain.pages import find_page, run_dir, runs_dir
from dallrec_core.chain.parameters import resolve
from dallrec_core.data import load, matinee
from dallrec_core.data.splits import split
from dallrec_core.experiment import controls, inference
from dallrec_core.experiment.comparison import interval_texts
from tools.matinee.make import N_VIEWERS, shown
from tools.matinee.viewers import simulate

BOOK = Path(__file__).parents[1] / "book"
VIEWERS = (1, 2, 3, 4, 5, 6)
"""Seeds of the simulated viewers; those of the book have another one."""
BACKBONES = ("MF-BPR", "LightGCN")
SEEDS = 2
"""Trainings of each backbone, for each of `VIEWERS`."""
CHANGES: tuple[tuple[str, Any], ...] = (
    ("base", "ItemKNN"), ("base", "Popularity"),
    ("budget", 6000), ("budget", 30000),
    ("attributes_first", False),
    ("calibration_method", "none"), ("calibration_method", "isotonic"),
    ("precision", 0.6), ("precision", 0.8),
    ("max_per_user", 2), ("max_per_user", 10),
    ("max_share", 0.25), ("max_share", 1.0), ("max_share", 0.0),
    ("weight", 1.0),
)  # fmt: skip
"""What is tried instead of the parameters of page 3; `weight` instead of the calibrated p(yes)."""


@dataclass(frozen=True)
class Model:
    """The run's language model and what it is asked through."""

    run: str
    about: Mapping[str, Any]
    cache: llm.AnswerCache

    def asker(self, task: str) -> augmentation.Asker:
        adapter = run_dir(self.run) / "02_finetune" / "adapters" / task
        return augmentation.Asker(
            llm.open_model(self.about, task, adapter if adapter.exists() else None, ""),
            self.about["wording"],
            self.cache,
        )


def other_viewers(seed: int) -> tuple[augmentation.TrainingView, pd.DataFrame]:
    """Simulate viewers; return the training view and the validation interactions."""
    films = matinee.catalogue()
    seen = simulate(films, N_VIEWERS, seed).interactions
    ratings = pd.DataFrame({"user_id": seen["viewer"] + 1, "rating": seen["rating"]})
    ratings["item_id"] = films["film_id"].to_numpy()[seen["film"]]
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "ratings.csv"), Path(folder, "items.csv")
        for table, file in zip((ratings, shown(films)), files, strict=True):
            table.to_csv(file, index=False)
        data = load("files", interactions_path=files[0], items_path=files[1])
    parts = split(data, "random", seed=0)
    about = (data.name, data.noun, data.attribute, data.like_threshold, data.n_users, data.n_items)
    return augmentation.TrainingView(*about, parts.train, data.items), parts.validation


def added(model: Model, given: augmentation.TrainingView, rule: Mapping[str, Any]) -> pd.DataFrame:
    """Return the edges that page 3 would add under a rule: user, item, weight."""
    data = given
    if rule["attributes_first"]:
        data = attributes.completed(model.asker("attributes"), given)
    asker = model.asker("interactions")
    graph = recommenders.Graph.from_frame(data.train, data.n_users, data.n_items)
    proposer = recommenders.build(rule["base"], graph)
    asked = interactions.augment(asker, data, budget=rule["budget"], base=proposer)
    sizes = [model.about[k] for k in ("n_examples", "held_out", "seed", "per_user")]
    _, judged = interactions.evaluate(asker, data, interactions.parts(data, *sizes).held_out)
    choosing = selection.halves(judged)[0]
    method = rule["calibration_method"]
    calibrate = selection.fit_calibration(choosing["p_yes"], choosing["liked"], method)
    choosing = selection.calibrated(choosing, calibrate)
    threshold = selection.choose_threshold(choosing, precision=rule["precision"])
    answers = selection.calibrated(asked, calibrate)
    limits = selection.share_limits(data, rule["max_share"])
    edges = controls.written(selection.select(answers, threshold, rule["max_per_user"], limits))
    return edges if rule["weight"] is None else edges.assign(weight=np.float32(rule["weight"]))


def validation_of(model: Model, seed: int, rules: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return validation nDCG@20 for each rule and backbone, mean over trainings, and the edges."""
    data, validation = other_viewers(seed)
    arms = {name: experiment.Arm(added(model, data, rule)) for name, rule in rules.items()}
    arms["nothing added"] = experiment.Arm()
    # where a test belongs, validation stands again: what is scored there is not looked at
    study = experiment.Study(data.train, validation, validation, data.n_users, data.n_items)
    settings = recommenders.settings_for("matinee")
    grid = experiment.trainings(BACKBONES, arms, range(SEEDS), settings)
    runs = experiment.run_grid(study, arms, grid, runs_dir() / "settle" / str(seed))[1]
    found = runs.groupby(["arm", "backbone"], sort=False)[["validation", "added"]].mean()
    return found.reset_index().assign(viewers=seed)


def rules() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rule as it stands and each change, by name."""
    standing = resolve(find_page("03")) | {"weight": None}
    yield "as it stands", standing
    for name, value in CHANGES:
        yield f"{name} = {value}", standing | {name: value}


def compared(found: pd.DataFrame) -> pd.DataFrame:
    """Compare every rule with the one that stands, viewers and backbones as repeated measures."""
    wide = found.pivot(index="arm", columns=["viewers", "backbone"], values="validation")
    rows = []
    for name in found["arm"].unique():
        by_viewers = (wide.loc[name] - wide.loc["as it stands"]).groupby("viewers").mean()
        mean, se = by_viewers.mean(), by_viewers.std(ddof=1) / np.sqrt(len(by_viewers))
        of = {"rule": name, "added": found.loc[found["arm"] == name, "added"].mean()}
        of["validation"] = wide.loc[name].mean()
        rows.append(of | {"difference": mean, "se": se, "df": len(by_viewers) - 1})
    table = pd.DataFrame(rows)
    tried = table["rule"] != "as it stands"
    return pd.concat([table[~tried], inference.judged(table[tried])])


def laid_out(table: pd.DataFrame) -> pd.DataFrame:
    """Return what `compared` found as the page shows it."""
    tried = table["family"].notna()
    change = pd.Series(interval_texts(table), table.index)
    return pd.DataFrame(
        {
            "rule": table["rule"],
            "pairs added": table["added"].map("{:,.0f}".format),
            "nDCG@20": table["validation"].map("{:.4f}".format),
            "change (95 % interval)": change.where(tried, ""),
            "finding": table["verdict"].where(tried, ""),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="smoke", help="whose page 2 trained the adapters")
    options = parser.parse_args()
    about = read_json(run_dir(options.run) / "02_finetune" / "model.json")
    model = Model(options.run, about, llm.AnswerCache(runs_dir() / "cache" / "answers.sqlite"))
    found = []
    for seed in VIEWERS:
        print(f"viewers {seed}", flush=True)
        found.append(validation_of(model, seed, dict(rules())))
    table = compared(pd.concat(found, ignore_index=True))
    print(table.to_string(index=False))
    with atomic(BOOK / "settling.csv") as partial:
        laid_out(table).to_csv(partial, index=False)


if __name__ == "__main__":
    main()

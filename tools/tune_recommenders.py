"""Try training settings of a recommender on validation interactions.

    python tools/tune_recommenders.py ml-1m LightGCN learning_rate=0.02,0.03,0.05 model.prior=0.1
    python tools/tune_recommenders.py published MF-BPR
    python tools/tune_recommenders.py matinee MMSSL epochs=12 eval_every=2 --seeds 2

Values separated by commas are tried in all combinations; what is not named keeps its default.
Multi-modal models get the features that the dataset itself gives. The test interactions are not
read.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd
import torch
import yaml

from dallrec_core import data as datasets
from dallrec_core.augmentation import TrainingView, features
from dallrec_core.data.splits import split
from dallrec_core.recommenders import Features, Graph, build, model_class, names
from dallrec_core.recommenders.evaluation import evaluate
from dallrec_core.recommenders.training import TrainSettings, fit, settings_for


def given_features(data: datasets.Dataset, train: pd.DataFrame) -> Features:
    about = (data.name, data.noun, data.attribute, data.like_threshold, data.n_users, data.n_items)
    view = TrainingView(*about, train, data.items)
    vectors = features.encode(features.given(view).documents).vectors
    return {name: torch.from_numpy(matrix) for name, matrix in vectors.items()}


def settings_of(
    dataset: str, backbone: str, choices: list[str]
) -> Iterator[tuple[str, TrainSettings]]:
    keys = [choice.partition("=")[0] for choice in choices]
    values = [yaml.safe_load(f"[{choice.partition('=')[2]}]") for choice in choices]
    base = settings_for(dataset).get(backbone, TrainSettings())
    for combination in itertools.product(*values):
        chosen = dict(zip(keys, combination, strict=True))
        model = {k.removeprefix("model."): v for k, v in chosen.items() if "." in k}
        plain = {k: v for k, v in chosen.items() if "." not in k}
        yield str(chosen), replace(base, **plain, model={**base.model, **model})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", choices=datasets.NAMES)
    parser.add_argument("backbone", choices=names())
    parser.add_argument("choices", nargs="*", help="setting=value[,value …], model.option=…")
    parser.add_argument("--seed", type=int, default=0, help="of the split, and the first one")
    parser.add_argument("--seeds", type=int, default=1, help="trainings per setting")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = datasets.load(options.dataset)
    kind = "random" if data.presplit is None else "published"
    parts = split(data, kind, seed=options.seed)
    graph = Graph.from_frame(parts.train, data.n_users, data.n_items)
    print(
        f"{options.dataset}: {len(parts.train):,} train, {len(parts.validation):,} validation rows"
    )
    modal = model_class(options.backbone).uses_features
    known = given_features(data, parts.train) if modal else None
    rows = []
    for name, settings in settings_of(options.dataset, options.backbone, options.choices):
        for seed in range(options.seed, options.seed + options.seeds):
            started = time.process_time()
            config = dict(settings.model)
            model = build(options.backbone, graph, known, config, seed=seed)
            result = fit(model, graph, parts.validation, settings, seed)
            seconds = round(time.process_time() - started, 1)
            model.eval()
            table = evaluate(model, parts.train, parts.validation, (20,))
            quality = table.groupby("metric")["value"].mean()[["ndcg@20", "recall@20"]]
            spent = {"best_epoch": result.best_epoch, "epochs": result.epochs, "cpu_s": seconds}
            found = quality.astype(float).round(4).to_dict()
            rows.append({"settings": name, "seed": seed} | found | spent)
            print(rows[-1], flush=True)
    print(pd.DataFrame(rows).sort_values("ndcg@20").round(4).to_string(index=False))


if __name__ == "__main__":
    main()

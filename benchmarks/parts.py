"""Measure what each part of the seven recommenders does: train without it, and look again.

    python benchmarks/parts.py --json parts.json --csv book/parts.csv
    python benchmarks/parts.py --only GRCN MMSSL --json parts.json

On matinee, with the book's settings and three seeds, which deal the split as well. The weights with
the best nDCG@20 on validation are kept, and Recall@20 is read on the same interactions; the test
interactions are not looked at. A part is taken out before training, and something plain is put in
its place, so the others can make up for it: what is measured is what would be missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import data as arrays
from benchmarks.process import ROOT, say
from dallrec_core.chain.artefacts import atomic, write_json
from dallrec_core.recommenders import build, lightgcn, mmssl, model_class, multiply
from dallrec_core.recommenders.evaluation import score
from dallrec_core.recommenders.nmf import dropout
from dallrec_core.recommenders.ranking import Ranking, rank
from dallrec_core.recommenders.sparse import Bipartite
from dallrec_core.recommenders.training import TrainSettings, fit, settings_for

K = 20
SEEDS = (0, 1, 2)

Switch = Mapping[str, Any] | Callable[[Any], AbstractContextManager[Any] | None]
"""Options of the model, or what to do to a model that was just built; a context is kept while it is
trained and ranked."""


@dataclass(frozen=True)
class Part:
    """A part of a recommender, and how to do without it."""

    name: str
    instead: str
    "What stands in its place."
    switch: Switch


def zero(*keys: str) -> Switch:
    """Let the weights with one of `keys` in their name be zero and stay it."""

    def switch(model: nn.Module) -> None:
        for name, weights in model.named_parameters():
            if any(key in name.split(".") for key in keys):
                weights.requires_grad_(False).zero_()

    return switch


def patch(where: Any, name: str, value: Any) -> Switch:
    """Put `value` in the place of `where.name` as long as the model is at work."""
    return lambda model: mock.patch.object(where, name, value)


def no_features(model: Any) -> None:
    if isinstance(model.modalities, nn.ModuleDict) and len(model.modalities):
        for network in model.modalities.values():
            network.features = torch.zeros_like(network.features)
    else:
        model.features = {name: torch.zeros_like(x) for name, x in model.features.items()}


def linear_head(model: Any) -> None:
    share = model.config.dropout
    model.head = lambda hidden: dropout(hidden, share, model.training) @ model.output


def no_neighbours(model: Any) -> None:
    model.share = torch.zeros_like(model.share)


def no_self(model: Any) -> None:
    model.itself = torch.zeros_like(model.itself)


def no_bend(model: Any) -> None:
    model.activation = nn.Identity()


def last_layer(matrix: Tensor, embeddings: Tensor, layers: int) -> Tensor:
    for _ in range(layers):
        embeddings = multiply(matrix, embeddings)
    return embeddings


def equal_edges(model: Any) -> None:
    values = model.adjacency.values()
    values.fill_(float(values.mean()))


def equal_neighbours(model: Any) -> None:
    edges = model.edges
    edges.softmax_over_items = lambda x: Bipartite.softmax_over_items(edges, torch.zeros_like(x))
    edges.softmax_over_users = lambda x: Bipartite.softmax_over_users(edges, torch.zeros_like(x))


def equal_confidence(model: Any) -> None:
    model.confidence.requires_grad_(False).fill_(1.0)


def no_content(model: Any) -> None:
    def silenced(forward: Callable[[Bipartite], tuple[Tensor, ...]]) -> Callable[..., Any]:
        def run(edges: Bipartite) -> tuple[Tensor, ...]:
            users, items, *attention = forward(edges)
            return torch.zeros_like(users), torch.zeros_like(items), *attention

        return run

    for network in model.modalities.values():
        network.forward = silenced(network.forward)


def random_graphs(model: Any) -> None:
    model.rebuild_graphs = lambda: model.learned.random_(0, model.n_items)


def mean_view(model: Any) -> None:
    model.attention.forward = lambda views: views.mean(dim=0)


def no_adversary(model: Any) -> None:
    model.critic.frozen = lambda rows: rows.new_zeros(len(rows))


def no_l2(model: Any) -> None:
    model.l2 = 0.0


UNSCALED = patch(nn.functional, "normalize", lambda x, **options: x)
PENALTY = Part("penalty on embeddings", "none", no_l2)
FEATURES = Part("item features", "zeros", no_features)

PARTS: dict[str, list[Part]] = {
    "MF-BPR": [PENALTY],
    "NMF": [
        Part("user's embedding by itself", "zeros", zero("of_user")),
        Part("item's embedding by itself", "zeros", zero("of_item")),
        Part("product of both", "zeros", zero("of_product")),
        Part("ReLU", "identity", linear_head),
        Part("dropout", "none", {"dropout": 0.0}),
        PENALTY,
    ],
    "NGCF": [
        Part("neighbours", "each node hears itself alone", no_neighbours),
        Part("each node joined to itself", "neighbours alone", no_self),
        Part("sum of what is heard", "zeros", zero("of_sum")),
        Part("product with what is heard", "zeros", zero("of_product")),
        Part("LeakyReLU", "identity", no_bend),
        Part("layers scaled to length 1", "their own length", UNSCALED),
        Part("penalty on final vectors", "none", {"l2": 0.0}),
    ],
    "LightGCN": [
        Part("propagation", "no layer", {"layers": 0}),
        Part("mean over layers", "the last one", patch(lightgcn, "propagate", last_layer)),
        Part("weights by degree", "equal ones", equal_edges),
        PENALTY,
    ],
    "MMGCN": [
        Part("neighbours", "zeros", zero("neighbours")),
        Part("what a node says itself", "zeros", zero("itself")),
        Part("ID embeddings", "zeros", zero("ids")),
        Part("preferences of users", "zeros", zero("preferences")),
        FEATURES,
        Part("LeakyReLU", "identity", {"slope": 1.0}),
        PENALTY,
        Part("penalty on final vectors", "none", {"final_weight": 0.0}),
    ],
    "GRCN": [
        Part("preference routing", "none", {"routings": 0}),
        Part("attention", "neighbours alike", equal_neighbours),
        Part("confidences", "1", equal_confidence),
        Part("pruning", "weights as they are", patch(Tensor, "relu", lambda x: x)),
        Part("propagation of IDs", "no layer", {"layers": 0}),
        Part("ID embeddings", "zeros", zero("ids")),
        Part("vectors of the modalities", "zeros", no_content),
        Part("preferences of users", "zeros", zero("preferences")),
        FEATURES,
        Part("rows scaled to length 1", "their own length", UNSCALED),
        PENALTY,
    ],
    "MMSSL": [
        FEATURES,
        Part("modality-aware vectors in the final ones", "none", {"feature_weight": 0.0}),
        Part("learned graphs", "random ones", random_graphs),
        Part("modalities' view of the IDs", "none", {"attention_weight": 0.0}),
        Part("attention among views", "their mean", mean_view),
        Part("propagation", "no layer", {"layers": 0}),
        Part("contrast", "none", {"contrast": 0.0}),
        Part("critic's word to the modalities", "none", no_adversary),
        Part("critic's gradient penalty", "none", {"penalty": 0.0}),
        Part("own similarity in real rows", "none", patch(mmssl, "SIMILARITY_WEIGHT", 0.0)),
        Part("noise in real rows", "none", patch(Tensor, "exponential_", lambda x: x.fill_(1.0))),
        PENALTY,
    ],
}
"""What the book names, by backbone. What the settings for matinee leave out is not listed: NGCF's
dropout, and GRCN's penalty on final vectors."""


def lists(
    name: str, data: arrays.Data, settings: TrainSettings, seed: int, part: Part | None = None
) -> Ranking:
    """Train, without `part` where one is given, and return what validation users are shown."""
    graph, switch = data.graph(), part.switch if part else {}
    options = {**settings.model, **(switch if isinstance(switch, Mapping) else {})}
    features = data.features if model_class(name).uses_features else None
    model = build(name, graph, features, options, seed=seed)
    with torch.no_grad():
        context = switch(model) if callable(switch) else None
    with context or nullcontext():
        fit(model, graph, data.validation, settings, seed)
        model.eval()
        return rank(model, data.train, np.unique(data.validation["user"].to_numpy()), K)


def changed(ranking: Ranking, whole: Ranking) -> float:
    """Return the share of the places in `whole`'s lists whose items `ranking` does not show."""
    shown = (ranking.items[:, None] == whole.items[..., None]).any(axis=2)
    return float(1 - shown.mean())


def measure(
    name: str, files: list[str], settings: TrainSettings, seeds: tuple[int, ...] = SEEDS
) -> list[dict[str, Any]]:
    """Return a row for the whole recommender and one for each part, with a value for each seed."""
    rows, wholes = [], []
    for part in (None, *PARTS[name]):
        recalls, moved = [], []
        for seed, file in zip(seeds, files, strict=True):
            data = arrays.load(file)
            ranking = lists(name, data, settings, seed, part)
            if part is None:
                wholes.append(ranking)
            table = score(ranking, data.validation, data.n_items, (K,))
            recalls.append(float(table[f"recall@{K}"].mean()))
            moved.append(changed(ranking, wholes[len(moved)]))
        about = {"backbone": name, "part": part.name if part else ""}
        about["instead"] = part.instead if part else ""
        rows.append(about | {f"recall@{K}": recalls, "changed": moved})
        say(f"{name}, {about['part'] or 'whole'}: {np.mean(recalls):.4f} {np.mean(moved):.1%}")
    return rows


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the table of the page "The backbones" from the rows of `measure`."""
    shown, whole = [], np.zeros(0)
    for row in rows:
        recalls = np.array(row[f"recall@{K}"])
        whole = whole if row["part"] else recalls
        differences = recalls - whole
        change = f"{differences.mean():+.4f} ({differences.min():+.4f} to {differences.max():+.4f})"
        shown.append(
            {
                "backbone": row["backbone"],
                "part": row["part"] or "(all)",
                "in its place": row["instead"],
                f"recall@{K}": f"{recalls.mean():.4f}",
                "change": change if row["part"] else "",
                "places changed": f"{np.mean(row['changed']):.1%}" if row["part"] else "",
            }
        )
    return pd.DataFrame(shown)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write each seed's values there")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the page's table there")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    options = parser.parse_args(arguments)
    settings, rows = settings_for("matinee"), []
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / f"{seed}.npz") for seed in SEEDS]
        for seed, file in zip(SEEDS, files, strict=True):
            arrays.prepare(file, "matinee", seed)
        for name in options.only:
            rows += measure(name, files, settings[name])
    if options.json and options.json.is_file():  # other backbones keep what was found
        kept = json.loads(options.json.read_text())["rows"]
        rows += [row for row in kept if row["backbone"] not in options.only]
        rows.sort(key=lambda row: list(PARTS).index(row["backbone"]))
    found = table(rows)
    if options.json:
        commit = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
        about = {
            "command": "python benchmarks/parts.py",
            "commit": subprocess.run(commit, capture_output=True, text=True).stdout.strip(),
            "date": date.today().isoformat(),
        }
        write_json(about | {"rows": rows}, options.json)
    if options.csv:
        with atomic(options.csv) as partial:
            found.to_csv(partial, index=False)
    print(found.to_string(index=False))


if __name__ == "__main__":
    main()

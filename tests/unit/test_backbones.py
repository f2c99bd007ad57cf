"""The seven backbones against dense references, and what must hold for every one of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from dense_references import REFERENCES, dense

from benchmarks import data as arrays
from benchmarks import parts
from dallrec_core.recommenders import Graph, build
from dallrec_core.recommenders.nmf import dropout
from dallrec_core.recommenders.training import TrainSettings, fit, settings_for

ROOT = Path(__file__).parents[2]
U, N = 8, 11
SMALL = {"dim": 16}
MORE = {
    "NMF": [{"width": 6}],
    "LightGCN": [{"layers": 0}, {"layers": 1}],
    "NGCF": [{"layers": 3}],
    "MMGCN": [{"layers": 3}],
    "GRCN": [{"routings": 1, "final_weight": 2.0}],
    "MMSSL": [{"heads": 2, "neighbours": 3}],
}
CASES = [(name, {}) for name in REFERENCES] + [
    (name, options) for name, several in MORE.items() for options in several
]


def toy(seed: int = 0, isolated: bool = True) -> tuple[Graph, pd.DataFrame]:
    """Weighted edges among U users and N items; the last user and item have none."""
    random = np.random.default_rng(seed)
    users, items = np.nonzero(random.random((U - isolated, N - isolated)) < 0.4)
    weights = random.uniform(0.2, 1, len(users)).astype(np.float32)
    frame = pd.DataFrame({"user": users, "item": items, "weight": weights})
    return Graph.from_frame(frame, U, N), frame


def features(n_items: int = N, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "attributes": torch.randn(n_items, 5, generator=generator),
        "summary": torch.randn(n_items, 7, generator=generator),
        "poster": torch.randn(n_items, 3, generator=generator),
    }


def made(name: str, graph: Graph, options: dict | None = None, seed: int = 0, count: int = 3):
    """A small model; item features of so many modalities are given to those that read some."""
    given = dict(list(features(graph.n_items).items())[:count])
    model = build(name, graph, given, SMALL | (options or {}), seed=seed)
    if name == "MMSSL":
        model.rebuild_graphs()
    return model.eval()


def triples(graph: Graph) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    negatives = torch.from_numpy(np.random.default_rng(3).integers(0, N, len(graph.users)))
    return graph.users, graph.items, negatives


QUIET = {"MMSSL": {"contrast": 0.0, "adversary": 0.0}}
"""Options that leave the ranking loss alone."""


@pytest.mark.parametrize(("name", "options"), CASES)
def test_scores_and_gradients_equal_the_dense_reference(name, options):
    graph, _ = toy()
    model = made(name, graph, options)
    expected = REFERENCES[name](model, dense(graph))
    torch.testing.assert_close(model.scores(torch.arange(U)), expected, atol=2e-6, rtol=2e-5)
    # the plain ranking loss on both sides: the gradient of each weight must agree
    users, positives, negatives = triples(graph)
    margin = expected[users, positives] - expected[users, negatives]
    margin.sigmoid().log().mean().neg().backward()
    wanted = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    plain = made(name, graph, options | {"l2": 0.0} | QUIET.get(name, {}))
    plain.loss(users, positives, negatives).backward()
    assert wanted
    for key, parameter in plain.named_parameters():
        if key in wanted:
            torch.testing.assert_close(parameter.grad, wanted[key], atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("name", REFERENCES)
def test_penalty_is_half_the_squared_norm_of_each_row_of_the_batch(name):
    graph, _ = toy()
    users, positives, negatives = batch = triples(graph)
    final = {"MMGCN": 5.0, "GRCN": 2.0, "NGCF": 1.0}.get(name, 0.0)
    options = QUIET.get(name, {}) | ({"final_weight": final} if name in ("MMGCN", "GRCN") else {})
    without, model = (made(name, graph, options | {"l2": l2}) for l2 in (0.0, 0.3))
    weights = dict(model.named_parameters())
    tables = [(1, model.users, model.items)] if name in ("MF-BPR", "NMF") else []
    if name in ("LightGCN", "MMGCN", "GRCN", "MMSSL"):
        tables.append((1, *weights["ids"].split([U, N])))
    if final:
        tables.append((final, *model.user_item_vectors()))
    total = sum(w * squares(u[users], i[positives], i[negatives]) for w, u, i in tables)
    total += sum(squares(weights[k][users]) for k in weights if k.endswith("preferences"))
    wanted = without.loss(*batch) + 0.3 * total / 2 / len(users)
    torch.testing.assert_close(model.loss(*batch), wanted)


def squares(*rows: torch.Tensor) -> torch.Tensor:
    return sum(part.square().sum() for part in rows)


@pytest.mark.parametrize("name", REFERENCES)
def test_every_weight_is_trained(name):
    """The published MMGCN never trains its embeddings, and MMSSL's contrast is dead."""
    graph, _ = toy(isolated=False)
    for count in (1, 2, 3):  # any number of modalities, where they are read
        model = made(name, graph, count=count).train()
        model.loss(*triples(graph)).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", REFERENCES)
def test_the_same_seed_trains_the_same_weights_and_another_seed_goes_elsewhere(name):
    graph, frame = toy(isolated=False)
    settings = TrainSettings(epochs=6, batch_size=16, eval_every=2, patience=9)
    first, same, other = (made(name, graph, seed=seed) for seed in (0, 0, 1))
    histories = [
        fit(model, graph, frame, settings, seed=seed).history
        for model, seed in ((first, 0), (same, 0), (other, 1))
    ]
    pd.testing.assert_frame_equal(*histories[:2])
    scores = [model.eval().scores(torch.arange(U)) for model in (first, same, other)]
    assert torch.equal(*scores[:2]) and not torch.equal(scores[0], scores[2])


@pytest.fixture(scope="module")
def kinds() -> arrays.Data:
    """Sixty users of three kinds, each with its third of the items, which features tell."""
    random = np.random.default_rng(0)
    same = (np.arange(60)[:, None] % 3) == (np.arange(90) % 3)
    chosen = pd.DataFrame(np.argwhere(random.random((60, 90)) < np.where(same, 0.35, 0.05)))
    chosen.columns, held_out = ["user", "item"], random.random(len(chosen)) < 0.2
    told = np.eye(3)[np.arange(90) % 3]
    noisy = {name: told + random.normal(0, 0.5, (90, 3)) for name in ("attributes", "summary")}
    given = {name: torch.tensor(matrix).float() for name, matrix in noisy.items()}
    return arrays.Data(60, 90, chosen[~held_out], chosen[held_out], given)


@pytest.mark.parametrize("name", REFERENCES)
def test_each_part_that_the_book_names_changes_what_is_recommended(name, kinds):
    """Only GRCN's pruning does nothing, and the book says so."""
    settings = replace(settings_for("matinee")[name], epochs=10, min_steps=5, eval_every=10)
    whole = parts.lists(name, kinds, settings, 0).items

    def moved(part: parts.Part | None) -> float:
        return float((parts.lists(name, kinds, settings, 0, part).items != whole).mean())

    assert moved(None) == 0
    shares = {part.name: moved(part) for part in parts.PARTS[name]}
    inert = {part for part, share in shares.items() if share < 0.04}
    assert inert == ({"pruning"} if name == "GRCN" else set()), shares


def test_the_table_of_parts_has_them_all():
    book = pd.read_csv(ROOT / "book" / "parts.csv")
    named = [(name, part.name) for name in parts.PARTS for part in parts.PARTS[name]]
    shown = book[book["part"] != "(all)"]
    assert list(zip(shown["backbone"], shown["part"], strict=True)) == named


def test_mmssl_graphs_live_on_a_small_catalogue_and_refresh():
    graph, _ = toy(isolated=False)
    model = build("MMSSL", graph, features(), SMALL | {"refresh": 2, "neighbours": 3}).train()
    seen = []
    for _ in range(3):
        model.loss(*triples(graph)).backward()
        with torch.no_grad():
            for parameter in model.project.parameters():
                parameter.add_(torch.randn_like(parameter))
        seen.append(model.learned.clone())
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])
    assert seen[0].shape == (3, U, 3)


def test_dropout_drops_the_right_share_and_keeps_the_mean():
    torch.manual_seed(0)
    ones = torch.ones(1000, 101)
    for share in (0.1, 0.5):
        result = dropout(ones, share, training=True)
        assert (result == 0).float().mean().item() == pytest.approx(share, abs=0.01)
        assert result.mean().item() == pytest.approx(1, abs=0.01)
    assert dropout(ones, 0.5, training=False) is ones

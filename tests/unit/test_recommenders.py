"""The graph, the registry, losses and products against plain formulas, references, the sampler."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from dense_references import dense

from dallrec_core.errors import UserError
from dallrec_core.recommenders import Graph, build, losses, sampling
from dallrec_core.recommenders.sampling import Sampler
from dallrec_core.recommenders.training import TensorFlowRMSProp

U, N = 7, 9


def pairs(*rows: tuple[int, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user", "item"])


def small_frame(seed: int = 0, share: float = 0.35) -> pd.DataFrame:
    return pairs(*np.argwhere(np.random.default_rng(seed).random((U, N)) < share))


def small_graph(**options) -> Graph:
    return Graph.from_frame(small_frame(), U, N, **options)


class TestGraph:
    def test_file_order_does_not_matter_and_added_edges_keep_known_pairs_and_largest_weight(self):
        two = Graph.from_frame(small_frame().sample(frac=1, random_state=1), U, N)
        assert torch.equal(small_graph().users, two.users)
        assert torch.equal(small_graph().items, two.items)
        extra = pairs((0, 0), (2, 3), (2, 3)).assign(weight=[0.1, 0.2, 0.6])
        graph = Graph.from_frame(pairs((0, 0), (1, 1)), U, N, extra=extra)
        assert graph.users.tolist() == [0, 1, 2]
        assert graph.weights.tolist() == pytest.approx([1, 1, 0.6])

    @pytest.mark.parametrize(
        ("insertion", "adjacency", "loss"),
        [("both", 0.5, 0.5), ("loss", 0, 0.5), ("adjacency", 0.5, 0)],
    )
    def test_insertion_of_added_edges(self, insertion, adjacency, loss):
        extra = pairs((1, 2)).assign(weight=0.5)
        graph = Graph.from_frame(pairs((0, 0)), U, N, extra=extra, insertion=insertion)
        assert graph.weights.tolist() == [1, adjacency]
        assert graph.loss_weights.tolist() == [1, loss]
        assert len(graph.normalised_adjacency().values()) == (4 if adjacency else 2)

    @pytest.mark.parametrize(
        ("frame", "message"),
        [
            ({"user": [0, 7], "item": [0, 0]}, "row 1: user 7 is outside 0..6"),
            ({"user": [0], "item": [-1]}, "item -1"),
            ({"user": [0]}, "no column 'item'"),
            ({"user": [0], "item": [0], "weight": [0.0]}, r"not in \(0, 1\]"),
            ({"user": [0], "item": [0], "weight": [np.nan]}, r"not in \(0, 1\]"),
            ({"user": [], "item": []}, "no training interactions"),
        ],
    )
    def test_bad_edges_are_refused(self, frame, message):
        with pytest.raises(UserError, match=message):
            Graph.from_frame(pd.DataFrame(frame), U, N)
        with pytest.raises(UserError, match="both, loss, adjacency"):
            small_graph(insertion="x")
        if "weight" not in frame and frame["user"]:
            with pytest.raises(UserError, match=f"hard negatives.*{message}"):
                small_graph(negatives=pd.DataFrame(frame))

    def test_added_edges_do_not_change_derived_penalties(self):
        extra = pd.DataFrame({"user": [0] * N, "item": range(N)})
        graphs = [small_graph(), small_graph(extra=extra)]
        assert len(graphs[0].users) < len(graphs[1].users)
        for name in ("EASE", "MF-BPR", "LightGCN"):
            assert len({build(name, graph).l2 for graph in graphs}) == 1
        mean = len(small_frame()) / U
        assert build("MF-BPR", graphs[0], config={"prior": 3.0}).l2 == pytest.approx(3 / mean)

    @pytest.mark.parametrize(
        ("said", "added", "hard"),
        [
            (pairs((2, 4), (0, 2), (2, 1), (0, 2)).astype("int32"), None, [(0, 2), (2, 1), (2, 4)]),
            (pairs((0, 1), (1, 1), (1, 2)), None, [(1, 1), (1, 2)]),  # (0, 1) happened
            (pairs((0, 1), (1, 1), (1, 2)), pairs((1, 2)), [(1, 1)]),
            (pairs((1, 1)).assign(weight=np.nan, answer="no"), None, [(1, 1)]),
            (None, None, []),
        ],
    )
    def test_hard_negatives_are_sorted_unique_and_no_edges(self, said, added, hard):
        options = {"extra": added, "insertion": "adjacency"}
        graph = Graph.from_frame(pairs((0, 1), (0, 3), (2, 0)), 3, 5, negatives=said, **options)
        assert [*zip(graph.hard_users.tolist(), graph.hard_items.tolist(), strict=True)] == hard


class TestBuild:
    @pytest.mark.parametrize(
        ("name", "config", "rows", "message"),
        [
            ("BPR", {}, N, "'BPR' is unknown.*EASE, GRCN, ItemKNN, LightGCN, MF-BPR"),
            ("LightGCN", {"width": 3}, N, "no option 'width'; it has dim, .*layers"),
            ("NMF", {"dropout": 1.0}, N, "dropout: .*less than 1, unlike 1.0"),
            ("NGCF", {"dropout": 1.0}, N, "dropout: .*less than 1"),
            ("MMSSL", {"heads": 3}, N, "must divide"),
            ("MF-BPR", {}, 3, "9 rows, one per item"),
            ("MMGCN", {}, 0, "MMGCN needs item features"),
        ],
    )
    def test_what_does_not_exist_or_is_out_of_range(self, name, config, rows, message):
        with pytest.raises(UserError, match=message):
            build(name, small_graph(), {"text": torch.ones(rows, 2)} if rows else None, config)

    def test_seed_fixes_values_and_spares_the_global_state(self):
        before = torch.get_rng_state()
        one, two, other = (build("MF-BPR", small_graph(), seed=seed).users for seed in (1, 1, 2))
        assert torch.equal(one, two) and not torch.equal(one, other)
        assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_bpr_equals_automatic_differentiation(l2, monkeypatch):
    monkeypatch.setattr(losses, "CHUNK", 7)  # the last of six is shorter
    draw = torch.Generator().manual_seed(0)
    triples = [torch.randint(0, size, (40,), generator=draw) for size in (U, N, N)]
    tables = [torch.randn(n, 4, dtype=torch.float64, requires_grad=True) for n in (U, N)]
    weights = torch.rand(40, dtype=torch.float64)
    rows = [table[codes] for table, codes in zip((*tables, tables[1]), triples, strict=True)]
    margin = (rows[0] * (rows[1] - rows[2])).sum(1)
    penalty = sum(part.square().sum() for part in rows) / 2 / 40
    plain = -(weights * torch.nn.functional.logsigmoid(margin)).mean() + l2 * penalty
    ours = losses.bpr_loss(*tables, *triples, weights, l2)
    apart = losses.batch_l2(tables[0], triples[0]) + losses.batch_l2(tables[1], *triples[1:])
    for one, other in ((ours, plain), (apart, penalty)):
        torch.testing.assert_close(one, other)
        wanted = torch.autograd.grad(3 * other, tables, retain_graph=True)
        torch.testing.assert_close(torch.autograd.grad(3 * one, tables), wanted)


class TestBaselines:
    def test_popularity_counts_and_ease_rebuilds_each_column_by_ridge_regression(self):
        counts = np.bincount(small_frame()["item"], minlength=N)
        scores = build("Popularity", small_graph()).scores(torch.tensor([2]))
        assert scores[0].tolist() == counts.tolist()
        model, x = build("EASE", small_graph(), config={"l2": 2.0}), dense(small_graph()).numpy()
        for j in range(N):  # the closed form is ridge regression on the other items
            others = np.delete(np.arange(N), j)
            a = x[:, others]
            w = np.linalg.solve(a.T @ a + 2 * np.eye(N - 1), a.T @ x[:, j])
            np.testing.assert_allclose(model.weights[others, j], w, atol=1e-5)
            assert model.weights[j, j] == 0
        wanted = torch.tensor(x[[1, 5]]) @ model.weights
        torch.testing.assert_close(model.scores(torch.tensor([1, 5])), wanted)
        with pytest.raises(UserError, match="70740 items would take 56 GiB"):
            build("EASE", Graph.from_frame(small_frame(), U, 70_740))

    @pytest.mark.parametrize("shrink", [2.0, 0.0])
    def test_item_knn_equals_its_formula_and_breaks_ties_by_code(self, shrink):
        graph = Graph.from_frame(small_frame().query("item != 4"), U, N)
        X = dense(graph)
        S = torch.zeros(N, N)
        for i in range(N):
            for j in range(N):
                if i != j and X[:, i] @ X[:, j] > 0:
                    S[i, j] = X[:, i] @ X[:, j] / (X[:, i].norm() * X[:, j].norm() + shrink)
            best = S[i].sort(descending=True, stable=True).indices[:3]
            S[i] = torch.zeros(N).scatter(0, best, S[i, best])
        model = build("ItemKNN", graph, config={"neighbours": 3, "shrink": shrink})
        torch.testing.assert_close(model.scores(torch.arange(U)), X @ S.T, atol=1e-6, rtol=1e-5)


class TestSampler:
    def graph(self, n_items: int = N) -> Graph:
        observed = small_frame(share=0.6).query("user != 6")
        return Graph.from_frame(observed, U, n_items, extra=pairs((6, 8)).assign(weight=0.25))

    @pytest.mark.parametrize("n_items", [N, 2**21, 2**22 + 1])  # a table of all users, of two, one
    @pytest.mark.parametrize("kind", ["edges", "uniform_users"])
    @pytest.mark.parametrize("block", [8, sampling.BLOCK])  # edges dealt at a time
    def test_positives_are_edges_with_weights_and_negatives_are_none(
        self, block, kind, n_items, monkeypatch
    ):
        monkeypatch.setattr(sampling, "BLOCK", block)
        graph = self.graph(n_items)
        edges = zip(graph.users.tolist(), graph.items.tolist(), strict=True)
        known = dict(zip(edges, graph.loss_weights.tolist(), strict=True))
        sampler, random, seen = Sampler(graph, kind, 4), np.random.default_rng(0), []
        drawn, again = list(sampler.epoch(random)), list(sampler.epoch(random))
        for batch in drawn:
            users, positives, negatives, weights = (column.tolist() for column in batch)
            assert users == sorted(users)
            assert not {*zip(users, negatives, strict=True)} & set(known)
            seen += zip(users, positives, strict=True)
            assert weights == [known[pair] for pair in seen[-len(users) :]]
        sizes = [len(batch.users) for batch in drawn]
        assert [b.positives.tolist() for b in drawn] != [b.positives.tolist() for b in again]
        if kind == "uniform_users":
            assert sizes == [4] * (len(known) // 4 + 1)
            assert all(len(batch.users.unique()) == 4 for batch in drawn)
        else:
            assert sorted(seen) == sorted(known) and len(sizes) == sampler.steps
            assert max(sizes) <= 4 and (block == 8 or max(sizes) - min(sizes) <= 1)

    @pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
    def test_share_of_hard_negatives(self, share):
        graph = Graph.from_frame(pairs((0, 0), (1, 0)), U, 200, negatives=pairs((0, 3), (0, 4)))
        sampler = Sampler(graph, "edges", 4, hard_share=share)
        drawn = sampler.negatives(np.repeat([0, 1], 2000), np.random.default_rng(0))
        hard = np.isin(drawn, [3, 4])
        assert hard[:2000].mean() == pytest.approx(share, abs=0.05)
        assert hard[2000:].mean() < 0.05  # this user said nothing
        assert not share or {3, 4} <= set(drawn[:2000])

    def test_negatives_are_uniform_and_a_user_with_everything_is_left_out(self):
        graph = self.graph()
        free = np.setdiff1d(np.arange(N), graph.items[graph.users == 0].numpy())
        drawn = Sampler(graph, "edges", 4).negatives(np.zeros(6000, int), np.random.default_rng(0))
        counts = np.bincount(drawn, minlength=N)
        assert (counts[free] > 0.8 * 6000 / len(free)).all() and counts.sum() == counts[free].sum()
        full = pairs(*((0, item) for item in range(N)), (1, 2))
        sampler = Sampler(Graph.from_frame(full, U, N), "edges", 4)
        assert next(sampler.epoch(np.random.default_rng(0))).users.tolist() == [1]
        with pytest.raises(UserError, match="no user"):
            Sampler(Graph.from_frame(full[:N], U, N), "edges", 4)


def test_rmsprop_follows_tensorflow_one():
    table = torch.nn.Parameter(torch.ones(3, 2))
    optimiser = TensorFlowRMSProp([table], lr=0.1)
    accumulator, wanted = np.ones((3, 2)), np.ones((3, 2))
    for row, gradient in ((0, [1.0, -2.0]), (1, [0.5, 0.0]), (0, [3.0, 1.0])):
        table.grad = torch.zeros(3, 2)
        table.grad[row] = torch.tensor(gradient)
        optimiser.step()
        g = np.array(gradient)  # only this row's accumulator decays
        accumulator[row] = 0.9 * accumulator[row] + 0.1 * g**2
        wanted[row] -= 0.1 * g / np.sqrt(accumulator[row] + 1e-10)
    np.testing.assert_allclose(table.detach(), wanted, rtol=1e-6)
    np.testing.assert_allclose(optimiser.state[table]["accumulator"], accumulator, rtol=1e-6)

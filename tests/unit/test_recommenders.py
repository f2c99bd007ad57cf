"""Graph, registry, the two backbones against their formulas, and the references."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from dallrec_core import recommenders
from dallrec_core.errors import UserError
from dallrec_core.recommenders import Graph, build, losses
from dallrec_core.recommenders.losses import batch_l2, bpr_loss
from dallrec_core.recommenders.optimisers import TensorFlowRMSProp
from dallrec_core.recommenders.sampling import BLOCK, Sampler
from dallrec_core.recommenders.sparse import Adjacency, multiply, propagate

U, N = 7, 9


def small_frame(seed: int = 0, share: float = 0.35) -> pd.DataFrame:
    users, items = np.nonzero(np.random.default_rng(seed).random((U, N)) < share)
    return pd.DataFrame({"user": users, "item": items})


def dense_adjacency(graph: Graph) -> torch.Tensor:
    matrix = torch.zeros(U, N)
    matrix[graph.users, graph.items] = graph.weights
    whole = torch.zeros(U + N, U + N)
    whole[:U, U:], whole[U:, :U] = matrix, matrix.T
    scale = whole.sum(1).rsqrt()
    scale[torch.isinf(scale)] = 0
    return scale[:, None] * whole * scale


class TestGraph:
    def test_file_order_does_not_matter(self):
        frame = small_frame()
        shuffled = frame.sample(frac=1, random_state=1)
        one, two = Graph.from_frame(frame, U, N), Graph.from_frame(shuffled, U, N)
        assert torch.equal(one.users, two.users) and torch.equal(one.items, two.items)

    def test_added_edges_keep_known_pairs_and_largest_weight(self):
        train = pd.DataFrame({"user": [0, 1], "item": [0, 1]})
        extra = pd.DataFrame({"user": [0, 2, 2], "item": [0, 3, 3], "weight": [0.1, 0.2, 0.6]})
        graph = Graph.from_frame(train, U, N, extra=extra)
        assert graph.users.tolist() == [0, 1, 2]
        assert graph.weights.tolist() == pytest.approx([1, 1, 0.6])

    @pytest.mark.parametrize(
        ("insertion", "adjacency", "loss"),
        [("both", 0.5, 0.5), ("loss", 0, 0.5), ("adjacency", 0.5, 0)],
    )
    def test_insertion_of_added_edges(self, insertion, adjacency, loss):
        train = pd.DataFrame({"user": [0], "item": [0]})
        extra = pd.DataFrame({"user": [1], "item": [2], "weight": [0.5]})
        graph = Graph.from_frame(train, U, N, extra=extra, insertion=insertion)
        assert graph.weights.tolist() == [1, adjacency]
        assert graph.loss_weights.tolist() == [1, loss]
        buffers = graph.normalised_adjacency().named_buffers()
        entries = sum(len(tensor) for name, tensor in buffers if name.startswith("values"))
        assert entries == (4 if adjacency else 2)

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

    def test_unknown_insertion(self):
        with pytest.raises(UserError, match="both, loss, adjacency"):
            Graph.from_frame(small_frame(), U, N, insertion="x")

    def test_added_edges_do_not_change_derived_penalties(self):
        extra = pd.DataFrame({"user": [0] * N, "item": range(N)})
        graphs = [Graph.from_frame(small_frame(), U, N, extra=added) for added in (None, extra)]
        assert len(graphs[0].users) < len(graphs[1].users)
        for name in ("EASE", "MF-BPR", "LightGCN"):
            assert len({build(name, graph).l2 for graph in graphs}) == 1
        mean = len(small_frame()) / U
        assert build("MF-BPR", graphs[0], config={"prior": 3.0}).l2 == pytest.approx(3 / mean)


class TestBuild:
    def test_unknown_name_lists_valid_ones(self):
        with pytest.raises(
            UserError, match="'BPR' is unknown.*EASE, GRCN, ItemKNN, LightGCN, MF-BPR"
        ):
            build("BPR", Graph.from_frame(small_frame(), U, N))

    def test_unknown_option_lists_valid_ones(self):
        with pytest.raises(UserError, match="no option 'width'; it has dim, layers"):
            build("LightGCN", Graph.from_frame(small_frame(), U, N), config={"width": 3})

    @pytest.mark.parametrize(
        ("name", "config"),
        [
            ("MF-BPR", {"dim": 0}),
            ("LightGCN", {"layers": -1}),
            ("MF-BPR", {"l2": -1.0}),
            ("EASE", {"l2": -1.0}),
        ],
    )
    def test_values_out_of_range(self, name, config):
        with pytest.raises(UserError, match=name):
            build(name, Graph.from_frame(small_frame(), U, N), config=config)

    def test_misshapen_features(self):
        with pytest.raises(UserError, match="9 rows, one per item"):
            build("MF-BPR", Graph.from_frame(small_frame(), U, N), {"text": torch.zeros(3, 2)})

    def test_seed_fixes_values_and_spares_the_global_state(self):
        graph = Graph.from_frame(small_frame(), U, N)
        before = torch.get_rng_state()
        one, two = build("MF-BPR", graph, seed=1), build("MF-BPR", graph, seed=1)
        other = build("MF-BPR", graph, seed=2)
        assert torch.equal(one.users, two.users) and not torch.equal(one.users, other.users)
        assert torch.equal(before, torch.get_rng_state())

    @pytest.mark.parametrize("name", recommenders.names())
    def test_scores_have_one_column_per_item(self, name):
        features = {"text": torch.eye(N)} if recommenders.model_class(name).uses_features else None
        model = build(name, Graph.from_frame(small_frame(), U, N), features).eval()
        assert model.scores(torch.tensor([3, 0])).shape == (2, N)
        assert torch.equal(model.scores(torch.tensor([3]))[0], model.scorer()(torch.tensor([3]))[0])


class TestGradients:
    def triples(self, count: int = 40):
        draw = torch.Generator().manual_seed(0)
        sizes = (U, N, N)
        return [torch.randint(0, size, (count,), generator=draw) for size in sizes]

    def test_bpr_equals_automatic_differentiation(self, monkeypatch):
        monkeypatch.setattr(losses, "CHUNK", 7)  # the last of six is shorter
        users, positives, negatives = self.triples()
        tables = [torch.randn(n, 4, dtype=torch.float64, requires_grad=True) for n in (U, N)]
        weights = torch.rand(len(users), dtype=torch.float64)
        margin = (tables[0][users] * (tables[1][positives] - tables[1][negatives])).sum(1)
        plain = -(weights * torch.nn.functional.logsigmoid(margin)).mean()
        ours = bpr_loss(*tables, users, positives, negatives, weights)
        torch.testing.assert_close(ours, plain)
        wanted = torch.autograd.grad(3 * plain, tables)
        for ours_, theirs in zip(torch.autograd.grad(3 * ours, tables), wanted, strict=True):
            torch.testing.assert_close(ours_, theirs)

    def test_penalty_counts_repeated_rows(self):
        _, positives, negatives = self.triples()
        table = torch.randn(N, 4, dtype=torch.float64, requires_grad=True)
        rows = torch.cat([table[positives], table[negatives]])
        plain = rows.square().sum() / 2 / len(positives)
        ours = batch_l2(table, positives, negatives)
        torch.testing.assert_close(ours, plain)
        wanted = torch.autograd.grad(plain, table)
        torch.testing.assert_close(torch.autograd.grad(ours, table), wanted)

    @pytest.mark.parametrize("large", [0, 1000])  # in pieces of two dimensions, or whole
    @pytest.mark.parametrize("layers", [0, 1, 3])
    def test_propagation_equals_the_dense_formula(self, layers, large, monkeypatch):
        monkeypatch.setattr("dallrec_core.recommenders.sparse.LARGE", large)
        monkeypatch.setattr("dallrec_core.recommenders.sparse.PIECE", 2)
        frame = small_frame().assign(weight=lambda f: 1 / (1 + f.index.to_numpy()))
        frame = frame[frame["item"] != 4]  # a cold item: its row must be zero, not NaN
        graph = Graph.from_frame(frame, U, N)
        dense, sparse = dense_adjacency(graph), graph.normalised_adjacency()
        torch.testing.assert_close(multiply(sparse, torch.eye(U + N)), dense)
        ego = torch.randn(U + N, 5, requires_grad=True)
        powers = [torch.linalg.matrix_power(dense, k) @ ego for k in range(layers + 1)]
        wanted = torch.stack(powers).mean(0)
        ours = propagate(sparse, ego, layers)
        torch.testing.assert_close(ours, wanted)
        pull = torch.randn(U + N, 5)
        wanted_gradient = torch.autograd.grad(wanted, ego, pull)
        torch.testing.assert_close(torch.autograd.grad(ours, ego, pull), wanted_gradient)

    @pytest.mark.parametrize("tile", [1, 2, 4, 100])
    def test_tiles_add_up_to_the_matrix(self, tile):
        graph = Graph.from_frame(small_frame(), U, N)
        values = torch.rand(len(graph.users))
        whole = torch.zeros(U + N, U + N)
        whole[graph.users, U + graph.items] = whole[U + graph.items, graph.users] = values
        sparse = Adjacency(graph.users, graph.items, values, U, N, tile)
        assert len(list(sparse.buffers())) == 3 * (-(-U // tile) + -(-N // tile))
        start, x = torch.randn(2, U + N, 3)
        torch.testing.assert_close(sparse.plus(start, x), start + whole @ x)

    @pytest.mark.parametrize("name", ["MF-BPR", "LightGCN"])
    def test_whole_loss(self, name):
        graph = Graph.from_frame(small_frame(), U, N)
        model = build(name, graph, config={"dim": 4, "l2": 0.3}, seed=3)
        users, positives, negatives = self.triples()
        loss = model.loss(users, positives, negatives)
        tables = list(model.parameters())
        ours = torch.autograd.grad(loss, tables)
        if name == "LightGCN":
            ego = tables[0]
            powers = [torch.linalg.matrix_power(dense_adjacency(graph), k) for k in range(4)]
            final = torch.stack(powers).mean(0) @ ego
            ego_parts, final_parts = (ego[:U], ego[U:]), (final[:U], final[U:])
        else:
            ego_parts = final_parts = tables
        u, v = final_parts
        margin = (u[users] * (v[positives] - v[negatives])).sum(1)
        rows = ego_parts[0][users], ego_parts[1][positives], ego_parts[1][negatives]
        penalty = sum(part.square().sum() for part in rows) / 2 / len(users)
        plain = -torch.nn.functional.logsigmoid(margin).mean() + 0.3 * penalty
        torch.testing.assert_close(loss, plain)
        for mine, wanted in zip(ours, torch.autograd.grad(plain, tables), strict=True):
            torch.testing.assert_close(mine, wanted)


class TestBaselines:
    def test_popularity_counts(self):
        graph = Graph.from_frame(small_frame(), U, N)
        counts = np.bincount(small_frame()["item"], minlength=N)
        assert build("Popularity", graph).scores(torch.tensor([2]))[0].tolist() == counts.tolist()

    def test_ease_rebuilds_each_column_by_ridge_regression(self):
        graph = Graph.from_frame(small_frame(), U, N)
        model = build("EASE", graph, config={"l2": 2.0})
        x = np.zeros((U, N))
        x[graph.users, graph.items] = 1
        for j in range(N):  # the closed form is ridge regression on the other items
            others = np.delete(np.arange(N), j)
            a = x[:, others]
            w = np.linalg.solve(a.T @ a + 2 * np.eye(N - 1), a.T @ x[:, j])
            np.testing.assert_allclose(model.weights[others, j], w, atol=1e-5)
            assert model.weights[j, j] == 0
        wanted = torch.tensor(x[[1, 5]], dtype=torch.float32) @ model.weights
        torch.testing.assert_close(model.scores(torch.tensor([1, 5])), wanted)

    def test_ease_says_what_it_would_need(self):
        graph = Graph.from_frame(small_frame(), U, 70_740)
        with pytest.raises(UserError, match="70740 items would take 56 GiB"):
            build("EASE", graph)

    def test_closed_form_has_no_loss(self):
        model = build("EASE", Graph.from_frame(small_frame(), U, N))
        with pytest.raises(UserError, match="closed form"):
            model.loss(*[torch.zeros(1, dtype=torch.int64)] * 3)


class TestSampler:
    def graph(self) -> Graph:
        return Graph.from_frame(small_frame(share=0.6), U, N)

    @pytest.mark.parametrize("size", [2**22, 3 * N, 0])  # the table holds all users, three, one
    @pytest.mark.parametrize("kind", ["edges", "uniform_users"])
    @pytest.mark.parametrize("block", [BLOCK, 20])
    def test_positives_are_edges_and_negatives_are_not(self, kind, size, block):
        graph = self.graph()
        known = set(zip(graph.users.tolist(), graph.items.tolist(), strict=True))
        sampler = Sampler(graph, kind, 4, table_bytes=size, block=block)
        drawn = list(sampler.epoch(np.random.default_rng(0)))
        for batch in drawn:
            assert batch.users.tolist() == sorted(batch.users.tolist())
            pairs = zip(batch.users.tolist(), batch.positives.tolist(), strict=True)
            assert set(pairs) <= known
            others = zip(batch.users.tolist(), batch.negatives.tolist(), strict=True)
            assert not set(others) & known
        if kind == "uniform_users":
            assert len(drawn) == len(graph.users) // 4 + 1
            assert all(len(set(batch.users.tolist())) == 4 for batch in drawn)
        else:
            seen = sorted((u, i) for b in drawn for u, i in zip(*map(list, b[:2]), strict=True))
            assert [(int(u), int(i)) for u, i in seen] == sorted(known)

    @pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
    def test_share_of_hard_negatives(self, share):
        known = pd.DataFrame({"user": [0, 1], "item": [0, 0]})
        no = pd.DataFrame({"user": [0, 0], "item": [3, 4]})
        graph = Graph.from_frame(known, U, 200, negatives=no)
        sampler = Sampler(graph, "edges", 4, hard_share=share)
        users = np.repeat([0, 1], 2000)
        drawn = sampler.negatives(users, np.random.default_rng(0))
        hard = np.isin(drawn, [3, 4])
        assert hard[:2000].mean() == pytest.approx(share, abs=0.05)
        assert hard[2000:].mean() < 0.05  # this user said nothing
        assert not share or {3, 4} <= set(drawn[:2000])

    @pytest.mark.parametrize("block", [BLOCK, 20, 1])
    def test_batches_are_equally_long_and_dealt_at_random(self, block):
        sampler = Sampler(self.graph(), "edges", 10, block=block)
        random = np.random.default_rng(1)
        epochs = [[batch.users.tolist() for batch in sampler.epoch(random)] for _ in range(2)]
        assert epochs[0] != epochs[1] and len(epochs[0]) == sampler.steps
        lengths = {len(users) for epoch in epochs for users in epoch}
        assert max(lengths) <= 10 and max(lengths) - min(lengths) <= 1

    def test_negatives_are_uniform_over_free_items(self):
        graph = self.graph()
        free = np.setdiff1d(np.arange(N), graph.items[graph.users == 0].numpy())
        sampler = Sampler(graph, "edges", 4, table_bytes=0)
        drawn = sampler.negatives(np.zeros(6000, int), np.random.default_rng(0))
        counts = np.bincount(drawn, minlength=N)
        assert (counts[free] > 0.8 * 6000 / len(free)).all() and counts.sum() == counts[free].sum()

    def test_user_with_everything_is_left_out(self):
        full = pd.DataFrame({"user": [0] * N + [1], "item": [*range(N), 2]})
        batch = next(
            Sampler(Graph.from_frame(full, U, N), "edges", 4).epoch(np.random.default_rng(0))
        )
        assert batch.users.tolist() == [1]
        with pytest.raises(UserError, match="no user"):
            Sampler(Graph.from_frame(full[:N], U, N), "edges", 4)

    @pytest.mark.parametrize("block", [BLOCK, 20])
    def test_weights_follow_their_edges(self, block):
        extra = pd.DataFrame({"user": [6], "item": [8], "weight": [0.25]})
        frame = small_frame().query("user != 6")
        sampler = Sampler(Graph.from_frame(frame, U, N, extra=extra), "edges", 5, block=block)
        for batch in sampler.epoch(np.random.default_rng(0)):
            assert batch.weights.tolist() == [0.25 if u == 6 else 1 for u in batch.users.tolist()]


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

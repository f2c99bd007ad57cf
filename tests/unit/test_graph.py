"""Hard negatives of a graph: pairs that were said to be disliked and that did not happen."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from dallrec_core.errors import UserError
from dallrec_core.recommenders import Graph

TRAIN = pd.DataFrame({"user": [0, 0, 2], "item": [1, 3, 0]})


def pairs(*rows: tuple[int, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user", "item"])


def hard(graph: Graph) -> list[tuple[int, int]]:
    return list(zip(graph.hard_users.tolist(), graph.hard_items.tolist(), strict=True))


def test_they_are_sorted_unique_and_of_64_bits():
    said = pairs((2, 4), (0, 2), (2, 1), (0, 2)).astype("int32")
    graph = Graph.from_frame(TRAIN, 3, 5, negatives=said)
    assert hard(graph) == [(0, 2), (2, 1), (2, 4)]
    assert graph.hard_users.dtype == graph.hard_items.dtype == torch.int64


def test_edges_observed_or_added_are_left_out():
    said = pairs((0, 1), (1, 1), (1, 2))
    added = pairs((1, 2))
    assert hard(Graph.from_frame(TRAIN, 3, 5, negatives=said)) == [(1, 1), (1, 2)]
    for insertion in ("both", "loss", "adjacency"):
        graph = Graph.from_frame(TRAIN, 3, 5, extra=added, insertion=insertion, negatives=said)
        assert hard(graph) == [(1, 1)]


def test_without_them_both_tensors_are_empty_and_edges_stay_as_they_were():
    plain = Graph.from_frame(TRAIN, 3, 5)
    for negatives in (None, pairs(), pairs((0, 1))):
        graph = Graph.from_frame(TRAIN, 3, 5, negatives=negatives)
        assert hard(graph) == [] and graph.hard_users.dtype == torch.int64
        assert torch.equal(graph.users, plain.users) and torch.equal(graph.items, plain.items)
    several = Graph.from_frame(TRAIN, 3, 5, negatives=pairs((1, 1)))
    assert torch.equal(several.weights, plain.weights) and several.observed == plain.observed


def test_other_columns_are_not_read():
    said = pairs((1, 1)).assign(weight=float("nan"), answer="no")
    assert hard(Graph.from_frame(TRAIN, 3, 5, negatives=said)) == [(1, 1)]


def test_wrong_ones_are_refused():
    with pytest.raises(UserError, match=r"hard negatives, row 1: item 5 is outside 0\.\.4"):
        Graph.from_frame(TRAIN, 3, 5, negatives=pairs((0, 0), (0, 5)))
    with pytest.raises(UserError, match="hard negatives have no column 'item'"):
        Graph.from_frame(TRAIN, 3, 5, negatives=pd.DataFrame({"user": [0]}))

"""The authors' printed numbers: complete, and their arithmetic against plain division."""

from __future__ import annotations

import pytest

from dallrec_core.data.published_results import (
    METRICS,
    improvements,
    printed_table,
    training_logs,
)


def test_every_backbone_has_three_full_rows() -> None:
    table = printed_table()
    assert table.shape == (21, 7) and tuple(table.columns) == METRICS
    assert table.notna().all(axis=None)
    assert table.loc[("MF-BPR", "base"), "R@20"] == 0.0304
    assert (table.xs("dallrec", level=1) > table.xs("base", level=1)).all(axis=None)


def test_three_printed_gains_do_not_follow_from_their_row() -> None:
    found = improvements().set_index(["backbone", "metric"])
    assert len(found) == 49
    wrong = found[~found["follows"]]
    assert set(wrong.index) == {("MF-BPR", "N@50"), ("NMF", "R@50"), ("LightGCN", "N@20")}
    assert wrong["recomputed"].round(2).tolist() == [5.25, 6.87, 5.99]
    one = found.loc[("NMF", "R@50")]
    assert one["recomputed"] == pytest.approx(100 * (0.0716 / 0.0670 - 1))
    assert one["low"] == pytest.approx(100 * (0.07155 / 0.06705 - 1))
    assert one["high"] == pytest.approx(100 * (0.07165 / 0.06695 - 1))


def test_logs_have_the_printed_metrics() -> None:
    logs = training_logs()
    assert len(logs) == 7 and set(METRICS) < set(logs.columns)
    assert logs["label"].value_counts().to_dict() == {"aug": 3, "or": 2, "or+aug": 1, "aug+or": 1}

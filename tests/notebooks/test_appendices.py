"""What the appendices found where their data are at hand; `dallrec run` has executed them."""

from __future__ import annotations

from typing import Any

import pytest
from second_run import FIRST

from dallrec_core.chain.artefacts import read_json


def findings(page: str) -> Any:
    folder = FIRST / "smoke" / page
    if not all(read_json(folder / "manifest.json")["parts"]["data"].values()):
        pytest.skip(f"{page} has not run on its data (make appendices does)")
    return read_json(folder / "findings.json")


def test_the_rows_of_mf_bpr_and_nmf_are_reproduced() -> None:
    rows = findings("A1_published_split")["reproduced"]
    assert set(rows) == {"MF-BPR", "NMF"}
    for name, row in rows.items():
        assert abs(row["reproduced"] - row["printed"]) <= 0.003, name


def test_position_predicts_the_released_test() -> None:
    found = findings("A1_published_split")
    recall = found["recall@20"]
    assert found["AUC of the place in the line"] > 0.9
    assert recall["released"]["EASE"] == pytest.approx(0.038, abs=0.002)
    assert recall["random"]["EASE"] > 0.25
    assert recall["released"]["position"] > recall["released"]["EASE"]
    assert recall["random"]["position"] < recall["random"]["EASE"] / 5
    ndcgs = found["nDCG@10"].values()
    assert max(ndcgs) > 3 * min(ndcgs)


def test_all_edges_of_the_language_model_were_compared() -> None:
    found = findings("A2_released_edges")
    assert found["edges"] == 2608 and found["right"]["llm"] == 111
    assert set(found["over base"]) == {"MF-BPR", "LightGCN", "ItemKNN", "EASE"}
    for row in found["over base"].values():
        assert row["low"] <= row["difference"] <= row["high"] and row["detectable"] > 0

"""The table about items that nobody has rated: who is compared with whom, and how it is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest


def test_every_way_is_compared_with_noise_and_findings_are_arrows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "tools"))
    import hidden

    rng, rows = np.random.default_rng(0), []
    ways = {"MMGCN": [*hidden.FEATURES, *hidden.EDGES], "LightGCN": ["noise", *hidden.EDGES]}
    better = {"true_attributes": 0.5, "interactions": -0.1}
    for backbone, arms in ways.items():
        for arm in arms:
            users = pd.DataFrame(index=range(3), columns=range(60))  # seeds, users
            values = 0.2 + better.get(arm, 0.0) + rng.normal(0, 0.02, users.shape)
            long = pd.DataFrame(values).rename_axis("seed").reset_index()
            long = long.melt("seed", var_name="user")
            rows.append(long.assign(backbone=backbone, arm=arm, metric=hidden.METRIC))
    scores = pd.concat(rows, ignore_index=True)
    effects = hidden.compared(scores)
    count = len(hidden.FEATURES) - 1 + 2 * len(hidden.EDGES) + 2 * len(hidden.RIVALS)
    assert len(effects) == count and (effects["family"] == count).all()
    table = hidden.laid_out(scores, effects).set_index(["features", "added pairs"])
    given = "what is given"
    assert table.loc[("nothing", ""), "MMGCN"].startswith("0.20")
    assert table.loc[("the true attributes", ""), "MMGCN"].split(" ", 1)[1] == "↑"
    asked = table.loc[(given, hidden.EDGES["interactions"])]
    assert all(text.split(" ", 1)[1] == "↓, ↓ coin, ↓ counting" for text in asked[list(ways)])
    assert table.loc[(given, ""), "LightGCN"] == ""  # it reads no features

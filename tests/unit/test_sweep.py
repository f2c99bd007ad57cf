"""The grid of a whole run: what it trains, pools, resumes and writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from tiny_data import movies, write_page_1

from dallrec_core import chain
from dallrec_core.chain.artefacts import read_table, write_json, write_table
from dallrec_core.chain.pages import run_dir
from dallrec_core.cli import main
from dallrec_core.experiment import comparison, grid, inference
from dallrec_core.experiment.controls import random_edges
from dallrec_core.experiment.sweep import sweep

DATA = movies(n_users=30, n_items=130)
ARMS = ("base", "dallrec", "popular", "self")
SMALL = [{"06_recommenders": {"epochs": 1, "backbones": ["MF-BPR", "Popularity"]}}]


def write_run(run: str, overrides, only=None, force=False, say=print) -> None:
    """Stand in for stages 01 to 05: the answers depend on the seed of stage 03."""
    layers = {page: values for layer in overrides for page, values in layer.items()}
    seed, folder = layers.get("03_interactions", {}).get("seed", 0), run_dir(run)
    edge = {"pairs": 9, "precision": 0.5, "low": 0.25, "high": 0.75}
    judged = {"precision_at_edge": edge, "beats": {"guessing": False, "counting": False}}
    write_json(judged, folder / "03_interactions" / "calibration.json")
    part = np.digitize(np.random.default_rng(0).random(len(DATA.train)), [0.6, 0.8])
    train, validation, test = (DATA.train[part == k] for k in range(3))
    write_page_1(folder / "01_data", replace(DATA, train=train), validation, test)
    users = pd.DataFrame({"user": np.arange(20), "item": 0})
    chosen = random_edges(users, DATA.train, DATA.n_items, seed)
    answers = {"answer": "yes", "added": True, "strategy": "x", "prompt_key": "k", "p_yes": 0.9}
    said = {"field": "genres", "value": "Drama", "origin": "written", "raw": "", "parsed": True}
    text = {"summary": "It is good.", "tokens": 3, "truncated": False}
    for name, schema, frame in (
        ("03_interactions/interactions", "added", chosen.assign(**answers)),
        ("04_attributes/attributes", "attributes", pd.DataFrame([said | {"item": 0}])),
        ("05_summaries/summaries", "summaries", pd.DataFrame([text | {"item": 0}])),
    ):
        write_table(frame, folder / f"{name}.parquet", schema)


def never(*_: object, **__: object) -> None:
    raise AssertionError("a stage was run")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DALLREC_RUNS_DIR", str(tmp_path))
    monkeypatch.setattr(chain, "run_chain", write_run)
    return tmp_path


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    kinds = ("scores", "runs", "effects")
    found = {name: read_table(folder / "sweep" / f"{name}.parquet", name) for name in kinds}
    found["runs"] = found["runs"].drop(columns=["seconds", "peak_mib"])
    return found


def test_killed_and_resumed_gives_the_same_tables(runs, monkeypatch) -> None:
    table = sweep("whole", SMALL, arms=ARMS, seeds=2, jobs=1)
    whole = tables(runs / "whole")
    # MF-BPR with two seeds and Popularity with one, four arms each
    assert len(whole["runs"]) == 3 * 4 and set(whole["runs"]["arm"]) == set(ARMS)
    assert table["p_corrected"].tolist() == whole["effects"]["p_corrected"].tolist()

    run, count = grid.train_one, []

    def killed(*work: object) -> None:
        count.append(work)
        if len(count) in (3, 8):
            raise KeyboardInterrupt
        run(*work)

    monkeypatch.setattr(grid, "train_one", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            sweep("killed", SMALL, arms=ARMS, seeds=2, jobs=1)
        assert not (runs / "killed" / "sweep").exists()
    sweep("killed", SMALL, arms=ARMS, seeds=2, jobs=1)
    # nothing finished is trained again; the guesses of Popularity are the popular items: one less
    assert len(count) == 11 + 2
    for name, frame in tables(runs / "killed").items():
        pd.testing.assert_frame_equal(frame, whole[name])


def test_regenerations_have_other_answers_and_seeds_and_are_pooled(runs) -> None:
    sweep("x", SMALL, backbones=["MF-BPR"], arms=["dallrec"], seeds=2, regenerations=2, jobs=1)
    found = tables(runs / "x")
    seeds = found["runs"].groupby(["regeneration", "arm"])["seed"].apply(list).to_dict()
    assert seeds == {(r, a): [2 * r, 2 * r + 1] for r in (0, 1) for a in ("base", "dallrec")}
    assert (found["effects"]["seeds"] == 2).all() and (found["effects"]["over"] == "base").all()
    file = "03_interactions/interactions.parquet"
    one, other = (read_table(runs / name / file, "added")["item"] for name in ("x", "x-r1"))
    assert not one.equals(other)
    # the same numbers by hand, from the scores alone
    scores = found["scores"].query("metric == 'recall@20'").astype({"value": float})
    means = scores.groupby("arm")["value"].mean()
    gain = means["dallrec"] - means["base"]
    assert found["effects"].set_index("metric")["difference"]["recall@20"] == pytest.approx(gain)


def test_the_command_prints_effects_and_refuses_mistakes_at_once(runs, monkeypatch) -> None:
    options = ["sweep", "--run", "mine", "--seeds", "1", "--jobs", "1", "-p", "06.epochs=1"]
    options += ["--backbones", "MF-BPR", "--arms", "dallrec,popular"]
    done = CliRunner().invoke(main, options)
    assert done.exit_code == 0, done.output
    table = read_table(runs / "mine" / "sweep" / "effects.parquet", "effects")
    columns = ("effect", "p", "detectable", "finding")
    assert comparison.effect_table(table, columns).to_string() in done.output
    compared = set(table["arm"] + " over " + table["over"])
    assert compared == {"dallrec over base", "popular over base", "dallrec over popular"}

    monkeypatch.setattr(chain, "run_chain", never)
    for wrong, message in (
        (["--arms", "orakel"], "06_recommenders.arms: "),
        (["--backbones", "MF"], "MF"),
        (["--seeds", "0"], "greater than or equal to 1"),
    ):
        done = CliRunner().invoke(main, ["sweep", *wrong])
        assert done.exit_code == 2 and message in done.output


def test_arms_are_made_of_what_the_stages_left(runs, monkeypatch, capsys) -> None:
    write_run("x", [])
    monkeypatch.setattr(chain, "run_chain", never)
    like = read_table(runs / "x/03_interactions/interactions.parquet", "added")
    others = random_edges(like, DATA.train, DATA.n_items, 7)
    untuned = like.assign(item=others["item"], added=False)
    options = {"backbones": ["Popularity"], "seeds": 1, "jobs": 1, "as_is": True}
    sweep("x", SMALL, arms=["zero_shot"], **options)
    assert "zero_shot is left out: page 3 did not ask" in capsys.readouterr().out
    write_table(untuned, runs / "x/03_interactions/zero_shot.parquet", "added")
    options |= {"arms": ["zero_shot", "oracle", "text_knn", "given_text"]}
    sweep("x", SMALL, **options)
    expected = {"base": 0, "given_text": 0, "zero_shot": 20, "text_knn": 20}
    assert tables(runs / "x")["runs"].set_index("arm")["added"].to_dict() == expected
    assert "oracle is left out" in capsys.readouterr().out
    back = others[others["user"] < 12].assign(rating=4.0, timestamp=pd.NA)
    write_table(back, runs / "x/01_data/held_back.parquet", "split")
    sweep("x", SMALL, **options)
    added = tables(runs / "x")["runs"].set_index("arm")["added"].to_dict()
    assert added == expected | {"oracle": 12}


def test_the_table_of_densities_has_all_finished_runs_and_one_correction(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "tools"))
    import movielens

    def briefly(run: str, layers: list, **options: Any) -> pd.DataFrame:
        return sweep(run, [*layers, *SMALL], jobs=1, **options)

    monkeypatch.setattr(movielens, "sweep", briefly)
    monkeypatch.setattr(movielens, "BACKBONES", dict.fromkeys(movielens.BACKBONES, ["MF-BPR"]))
    monkeypatch.setattr(movielens, "PERCENT", dict.fromkeys(movielens.PERCENT, (20,)))
    monkeypatch.setattr(movielens, "SEEDS", 1)
    monkeypatch.setattr(movielens, "BOOK", runs)
    movielens.main([*movielens.BACKBONES])
    names = ("effects", "liked", "means")
    table, liked, means = (pd.read_csv(runs / f"movielens_{name}.csv") for name in names)
    # two datasets, dallrec over base and over the best control, and what leaving out comes to
    assert table["data"].tolist() == ["100K,\u00a020\u00a0%"] * 3 + ["1M,\u00a020\u00a0%"] * 3
    assert liked["over"].tolist() == table["over"].tolist()
    assert set(table["backbone"]) == {"MF-BPR"}
    over_base = table[table["over"] == "base"]
    assert over_base["arm"].tolist() == ["dallrec", "liked only"] * 2
    assert len(pd.read_csv(runs / "movielens_runs.csv")) == len(means) == 2
    raw = pd.concat(movielens.rows_of(dataset, 20) for dataset in movielens.BACKBONES)
    held = inference.judged(raw)["p_corrected"]
    held = held[raw["metric"] == "recall@20"]
    told = table["p"].astype(str).str.removeprefix("<\u00a0").astype(float)
    np.testing.assert_allclose(told, np.maximum(held, 0.001), atol=5e-4)
    for arm, rows in over_base.groupby("arm"):
        shift = rows["difference"].str.partition(" ")[0].astype(float)
        np.testing.assert_allclose(shift, means[arm] - means["base"], atol=7e-4)
    origin = pd.read_csv(runs / "movielens_origin.csv", dtype=str)
    origin.assign(key="old").to_csv(runs / "movielens_origin.csv", index=False)
    movielens.check()
    assert pd.read_csv(runs / "movielens_origin.csv", dtype=str).equals(origin)
    means.assign(dallrec=0).to_csv(runs / "movielens_means.csv", index=False)
    with pytest.raises(SystemExit, match="the code makes other figures now"):
        movielens.check()


def test_the_key_of_the_densities_holds_code_and_settings_and_no_prose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "tools"))
    import movielens

    files = [tmp_path / name for name in ("experiment/a.py", "recommenders/a.py")]
    settings = tmp_path / "recommenders" / "settings.toml"
    for file in files:
        file.parent.mkdir()
        file.write_text("x = 1")
    settings.write_text("dim = 64")
    keys = [movielens.code_key(tmp_path)]
    for file, text in [(file, 'x = 2  # why\n"""What."""') for file in files]:
        file.write_text(text)
        keys.append(movielens.code_key(tmp_path))
        file.write_text('"""Another word."""\nx = 2')
        assert movielens.code_key(tmp_path) == keys[-1]
    settings.write_text("dim = 32")
    assert len({*keys, movielens.code_key(tmp_path)}) == 4

"""The page "Bring your own" does what it says: its files are saved, its commands are entered."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from dallrec_core.chain.freshness import parts
from dallrec_core.chain.pages import find_page
from dallrec_core.chain.parameters import check
from dallrec_core.errors import UserError
from dallrec_core.experiment import grid
from dallrec_core.recommenders import model_class

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "book" / "bring_your_own.md").read_text(encoding="utf-8")
FILE = re.compile(r"```\{code-block\} python\n:caption: `(\S+\.py)`[^\n]*\n\n(.*?)```", re.DOTALL)
COMMANDS = re.compile(r"```console\n(.*?)```", re.DOTALL)
DALLREC = 'dallrec() { PYTHONPATH="$PYTHONPATH:$ROOT" "$PYTHON" -P -m dallrec_core.cli "$@"; }\n'
DALLREC += 'python() { PYTHONPATH="$PYTHONPATH:$ROOT" "$PYTHON" "$@"; }\n'


def section(title: str) -> str:
    """Return the text below a heading, up to the next one."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def save_files(title: str, folder: Path) -> list[str]:
    found = FILE.findall(section(title))
    for name, source in found:
        (folder / name).write_text(source)
    return [name for name, _ in found]


def enter(title: str, folder: Path) -> str:
    """Enter the commands of a section; a run of the whole book is only planned."""
    script = "set -euo pipefail\n" + DALLREC
    for block in COMMANDS.findall(section(title)):
        for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            whole = command.startswith("dallrec run ") and "--only" not in command
            script += f"{command.rstrip()}{' --dry-run' if whole else ''}\n"
    own = {"ROOT": str(ROOT), "PYTHON": sys.executable, "DALLREC_RUNS_DIR": str(folder / "runs")}
    own |= {"PYTHONPATH": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    own |= {"LOKY_MAX_CPU_COUNT": "1"}  # no process more than the page asks for
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=os.environ | own,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


LATEST = {
    "movies.csv": "movieId,title,genres\n"
    + "".join(f'{n},"Film {n}, The ({1990 + n})",Drama|War\n' for n in range(1, 31)),
    "ratings.csv": "userId,movieId,rating,timestamp\n"
    + "".join(
        f"{user},{1 + (user + step * step) % 30},{step + user % 2},{964982703 + 60 * user + step}\n"
        for user in range(1, 20)
        for step in (1, 2, 3, 4)
    ),
}


@pytest.mark.slow
def test_your_data_and_your_augmentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store" / "ml-latest-small"
    store.mkdir(parents=True)
    for name, text in LATEST.items():
        (store / name).write_text(text)
    monkeypatch.setenv("DALLREC_DATA_DIR", str(store.parent))
    assert save_files("Your data", tmp_path) == ["make_shop.py"]
    said = enter("Your data", tmp_path)
    assert all(f"run '{run}' is complete" in said for run in ("shop", "again", "latest"))
    runs, known = tmp_path / "runs", ("n_users", "n_items", "noun", "person", "like_threshold")
    about = {
        run: json.loads((runs / run / "01_data" / "dataset.json").read_text())
        for run in ("shop", "again", "latest")
    }
    assert [about["shop"][key] for key in known] == [40, 60, "game", "player", "count"]
    assert all(about["again"][key] == about["shop"][key] for key in known)
    assert [about["latest"][key] for key in known] == [19, 30, "movie", "", 3]
    items = [pd.read_parquet(runs / run / "01_data" / "items.parquet") for run in ("shop", "again")]
    assert items[0].equals(items[1]) and items[0]["attributes"][1] == "Puzzle|Co-op"

    files = ["popular_edges.py", "make_release.py", "compare_arms.py"]
    assert save_files("Your augmentation", tmp_path) == files
    said = enter("Your augmentation", tmp_path)
    assert "40 of 40 rows match the run, 40 pairs are added; next: dallrec run --run shop" in said
    found = re.search(r"(\d+) of 270 rows match the run, (\d+) pairs are added", said)
    assert found is not None and found[1] == "270" and 30 <= int(found[2]) < 120
    table = said[said.index("verdict") :].splitlines()
    assert {line.split()[0] for line in table[1:3]} == {"base", "mine"}


@pytest.mark.slow
def test_your_language_model(tmp_path: Path) -> None:
    save_files("Your language model", tmp_path)
    said = enter("Your language model", tmp_path)
    chances = [float(p) for p in re.findall(r"p\(yes\) = (\d\.\d\d)", said)]
    assert len(chances) == 2 and all(0 <= p <= 1 for p in chances)
    assert re.search(r"02_finetune +has not run yet", said)


@pytest.mark.slow
def test_your_recommender(tmp_path: Path) -> None:
    save_files("Your recommender", tmp_path)
    source = (tmp_path / "mean_items.py").read_text()
    assert len(source.splitlines()) < 40
    said = enter("Your recommender", tmp_path)
    values = re.findall(r"MeanItems\s+base\s+([\d.]+)\n\s+random\s+([\d.]+)", said)
    assert values and all(0.02 < float(v) < 1 for v in values[0])
    assert re.search(r"06_recommenders +has not run yet", said)


OWN = """
from dataclasses import dataclass
from dallrec_core.recommenders.base import register
from dallrec_core.recommenders.baselines import Popularity

@dataclass(frozen=True)
class Options:
    pass

@register("Mine", Options)
class Mine(Popularity):
    pass
"""


def test_a_recommender_of_ones_own_is_found_by_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "own_models_of_a_test.py"
    file.write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    name = "own_models_of_a_test:Mine"
    page, chosen = find_page("06"), {"backbones": ["LightGCN", name], "seeds": 3}
    assert check(page, chosen) == chosen
    assert model_class(name).__name__ == "Mine"
    before = grid._code(name)
    assert set(parts(page, chosen, {})["files"]) == {"own_models_of_a_test"}
    file.write_text(OWN + "# changed\n")
    grid._code.cache_clear()
    assert grid._code(name) != before, "changed code must be trained again"
    assert grid._code("Popularity") != grid._code(name)
    grid._code.cache_clear()


def test_a_recommender_that_is_not_there_or_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taking_a_name.py").write_text(OWN.replace('"Mine"', '"LightGCN"'))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="lightgcn has a recommender 'LightGCN' already"):
        model_class("taking_a_name:LightGCN")
    with pytest.raises(UserError, match="recommender 'Mine' is unknown; use one of"):
        model_class("json:Mine")

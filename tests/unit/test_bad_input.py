"""Bad input of every kind ends in one clear line and a non-zero status; nothing half-made stays.

The commands run in this process, with the real notebooks but without kernels (see `no_kernel`).
A slip in a command or parameter is refused before anything runs, so a finished run stays as it is.
A fault that only a notebook can find leaves its stage unfinished, without a file of its own.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from llm_support import make_checkpoint
from no_kernel import execute_notebook, no_kernel  # noqa: F401 (a fixture)

from dallrec_core.cli import main

ROOT = Path(__file__).resolve().parents[2]
GENRES = ("Action", "Comedy", "Crime", "Drama", "Horror")
# What a refused command may leave: bookkeeping, the notebook as far as it got, the answer cache.
HARMLESS = (".lock", "started.json", ".unfinished.ipynb", "sqlite-wal", "sqlite-shm")


RATINGS = "user_id,item_id,rating,timestamp\n" + "".join(
    f"u{user},m{(user + step * step) % 16},{1 + (user + step) % 5},{100 + 4 * user + step}\n"
    for user in range(12)
    for step in range(4)
)
FILMS = "item_id,title,attributes,director,country,language\n" + "".join(
    f"m{i},Film {i},{'|'.join((GENRES * 2)[i % 5 :][: 1 + i % 3])},Director {i},USA,English\n"
    for i in range(16)
)


class Place:
    """A folder with own data, a tiny model and a folder of runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "runs" / "tiny"

    def data(self) -> list[str]:
        """Arguments that choose the own data."""
        paths = {"interactions_path": "ratings.csv", "items_path": "films.csv"}
        options = [f"-p 01.{name}={self.folder / file}" for name, file in paths.items()]
        return shlex.split(" ".join(["-p 01.dataset=files", *options]))

    def options(self) -> list[str]:
        """Arguments that make the run small."""
        small = f"-p 02.language_model={self.folder / 'model'} -p 02.n_examples=4 -p 02.held_out=4 "
        small += "-p 02.epochs=1 -p 03.budget=8 -p 04.max_items=2"
        return [*self.data(), *shlex.split(small)]

    def files(self) -> dict[str, bytes]:
        """Hash of every file that counts, by path."""
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).digest()
            for path in self.folder.rglob("*")
            if path.is_file() and not path.name.endswith(HARMLESS)
        }


def dallrec(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(result: Any, words: str) -> None:
    """One line without a traceback, status 2, and in it what stands between the dots of `words`."""
    lines = result.stderr.splitlines()
    assert result.exit_code == 2, result.output
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    assert "Traceback" not in result.output
    for word in words.split(" … "):
        assert word in lines[0], f"'{word}' is not in: {lines[0]}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A run whose first three stages are finished."""
    place = Place(tmp_path_factory.mktemp("finished"))
    (place.folder / "films.csv").write_text(FILMS)
    (place.folder / "ratings.csv").write_text(RATINGS)
    make_checkpoint(place.folder / "model", places=4096)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("papermill.execute_notebook", execute_notebook)
        patch.setenv("DALLREC_RUNS_DIR", str(place.folder / "runs"))
        patch.chdir(ROOT)
        result = dallrec("run", "--run", "tiny", "--until", "03", *place.options())
    assert result.exit_code == 0, result.output
    return place


@pytest.fixture(autouse=True)
def at_home(finished: Place, monkeypatch: pytest.MonkeyPatch, no_kernel: None) -> None:  # noqa: F811
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DALLREC_RUNS_DIR", str(finished.folder / "runs"))


@pytest.fixture
def copy(finished: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A copy of the finished run, to damage."""
    shutil.copytree(finished.folder, tmp_path / "copy")
    monkeypatch.setenv("DALLREC_RUNS_DIR", str(tmp_path / "copy" / "runs"))
    return Place(tmp_path / "copy")


# --- slips that are found before anything runs: the command, and what it says ---

RECS = "06_recommenders"
SLIPS = {
    "run --profile smoek": "no profile 'smoek' … ml-100k … smoke",
    "run --profile absent.yml": "profile absent.yml … No such file",
    "run --only 08": "no page '08' … 01_data, 02_finetune",
    "run --from 05 --until 03": "--from 05 comes after --until 03",
    "run -p 01.splitt=random": "01_data.splitt; did you mean split? … split: str = 'random'",
    "run -p budget=3": "'budget=3' is not 'page.name=value' … 06_recommenders.seeds=5",
    "run -p 02.seed": "'02.seed' is not 'page.name=value'",
    "run -p 06.arms=base": "a valid list, but it is 'base'",
    "run -p 06.seeds=three": f"{RECS}.seeds: Input should be a valid integer, but it is 'three'",
    "run -p 01.train_fraction=1.5": "01_data.train_fraction … less than or equal to 1, but it is",
    "run -p 03.budget=0": "03_interactions.budget … greater than 0, but it is 0",
    "run -p 02.learning_rate=.inf": "02_finetune.learning_rate … a finite number, but it is inf",
    "run -p 01.dataset=ml-1n": "01_data.dataset … 'matinee' … 'ml-1m' … 'ml-1n'",
    "run -p '06.backbones=[MF-BPR, LigthGCN]'": f"{RECS}.backbones … 'LightGCN' … 'LigthGCN'",
    "run -p 06.arms=[dallrec]": f"{RECS}.arms … a list with 'base'",
    "run --run ../../tmp": "'../../tmp' cannot name a run … use letters, digits",
    f"run --run {'a' * 300}": "File name too long",
    "run --run other --only 04": "04_attributes needs 01_data, 02_finetune … run first: dallrec",
    "book --run other": "run 'other' has no executed 01_data … run first: dallrec run --run other",
    "data ml-1n": "there is no dataset 'ml-1n' … did you mean 'ml-1m'?",
}


@pytest.mark.parametrize("command", SLIPS)
def test_a_slip_is_refused_before_anything_runs(command: str, finished: Place) -> None:
    before, arguments = finished.files(), shlex.split(command)
    named = "--run" in arguments or arguments[0] == "data"
    refused(dallrec(*arguments, *([] if named else ["--run", "tiny"])), SLIPS[command])
    assert finished.files() == before


# --- own data and downloads: what replaces what in a file, a further parameter, what is said ---

OWN_DATA = {
    "a word for a number": (
        ("u0,m1,2", "u0,m1,good"),
        "",
        "ratings.csv, line 3, column 'rating': 'good' is not a finite number … Write a number",
    ),
    "no times": ((",timestamp", ",clicks"), "01.split=temporal", "needs the time of every … Use "),
}


@pytest.mark.parametrize("case", OWN_DATA)
def test_data_with_a_fault(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (old, new), more, words = OWN_DATA[case]
    (tmp_path / "films.csv").write_text(FILMS)
    (tmp_path / "ratings.csv").write_text(RATINGS.replace(old, new))
    monkeypatch.setenv("DALLREC_RUNS_DIR", str(tmp_path / "runs"))
    place = Place(tmp_path)
    before = place.files()
    options = [*place.data(), *(["-p", more] if more else [])]
    refused(dallrec("run", "--run", "tiny", "--until", "01", *options), f"01_data: … {words}")
    assert place.files() == before
    assert not (place.run / "01_data" / "manifest.json").exists()


# --- models, adapters, caches and files of earlier stages ---


def pickled(place: Place) -> None:
    folder = place.folder / "model"
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def wreck(name: str, body: bytes = b"not what it was") -> Callable[[Place], None]:
    """Overwrite a file of the run's folder (or put one where a folder was)."""

    def change(place: Place) -> None:
        path = place.folder / "runs" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.write_bytes(body)

    return change


def without_adapter(place: Place) -> None:
    shutil.rmtree(place.run / "02_finetune" / "adapters" / "interactions")


def train(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Place], None]:
    """Change the table of training interactions."""

    def write(place: Place) -> None:
        path = place.run / "01_data" / "train.parquet"
        change(pd.read_parquet(path)).to_parquet(path)

    return write


def other_model(place: Place) -> None:
    path = place.run / "02_finetune" / "model.json"
    other = make_checkpoint(place.folder / "other", seed=1)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"language_model": str(other)}))


ADAPTER = "tiny/02_finetune/adapters/interactions/adapter_model.safetensors"
NO_DATABASE = b"this is no database, it is a poem" * 100
ELSEWHERE = "is neither here nor to be had from the hub (correct the name"

# The stage that finds the fault; parameters, or what is done before; what is said.
FAULTS: list[tuple[str, str | Callable[[Place], None], str]] = [
    ("02_finetune", "-p 02.language_model=acme/x-7b", f"'acme/x-7b' {ELSEWHERE}"),
    ("02_finetune", "-p 02.language_model=./nowhere", f"nowhere' {ELSEWHERE} … give a folder"),
    ("02_finetune", pickled, "cannot be loaded from … no file named model.safetensors"),
    ("02_finetune", "-p 02.quantize=4bit", "cannot be loaded from"),
    (
        "02_finetune",
        "-p 02.learning_rate=1.0e30 -p 02.epochs=4",
        "interactions: the loss became NaN at step … lower the learning_rate",
    ),
    ("04_attributes", "-p 04.max_new_tokens=1000000", "prompt 1 of 2 is too long … 1000000 for"),
    ("03_interactions", without_adapter, "lacks adapter_config.json … run the fine-tuning noteb"),
    ("03_interactions", wreck(ADAPTER), "adapters/interactions cannot be put on model"),
    ("03_interactions", other_model, "was trained on … load that model or fine-tune again"),
    (
        "03_interactions",
        train(lambda table: table.rename(columns={"user": "userId"})),
        "01_data/train.parquet: column 'user' is missing (it has userId, item, rating",
    ),
    (
        "03_interactions",
        train(lambda table: table.assign(item=[0, 1, 999, *table["item"][3:]])),
        "train.parquet: row 2, column 'item' is 999, but there are 16 items",
    ),
    ("03_interactions", wreck("tiny/01_data/items.parquet"), "not a readable parquet file"),
    (
        "03_interactions",
        wreck("tiny/01_data/dataset.json", b'{"name": '),
        "01_data/dataset.json is not valid JSON … line 1 column",
    ),
    (
        "04_attributes",
        wreck("cache/answers.sqlite", NO_DATABASE),
        "answer cache … answers.sqlite cannot be used … delete it … will be asked anew",
    ),
    ("04_attributes", wreck("cache"), "answers.sqlite cannot be used … File exists … runs/cache"),
]


@pytest.mark.parametrize(("stage", "fault", "words"), FAULTS, ids=[each[2] for each in FAULTS])
def test_a_fault_that_a_notebook_finds(
    stage: str,
    fault: str | Callable[[Place], None],
    words: str,
    copy: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(copy.folder / "hub"))
    more = shlex.split(fault) if isinstance(fault, str) else []
    if not isinstance(fault, str):
        fault(copy)
    fails(copy, stage, words, *more)


def fails(place: Place, stage: str, words: str, *more: str) -> None:
    """A stage that fails has no manifest, no notebook and no new file; the others are whole."""
    before = place.files()
    result = dallrec("run", "--run", "tiny", "--only", stage, *place.options(), *more)
    refused(result, f"{stage}: … {words}")
    after = place.files()
    new = {path for path, content in after.items() if before.get(path) != content}
    assert {path for path in new if "/instructions/" not in path} == set()
    lost = {path for path in before if path not in after}
    assert all(f"/{stage}" in path for path in lost), lost
    assert not (place.run / stage / "manifest.json").exists()
    assert not (place.run / "notebooks" / f"{stage}.ipynb").exists()
    assert not list(place.folder.rglob("*.partial*"))


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("stage", "what", "options"),
    [
        ("04_attributes", "pyarrow.parquet.write_table", ["--force"]),
        ("02_finetune", "dallrec_core.llm.adapters.write_json", ["-p", "02.seed=1"]),
    ],
)
def test_a_disk_that_fills_up(
    stage: str, what: str, options: list[str], copy: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(what, full_disk)
    fails(copy, stage, "cannot write … : No space left on", *options)


@pytest.mark.parametrize("name", ["other", "tiny/04_attributes", "tiny/notebooks"])
def test_a_file_where_a_folder_should_be(name: str, copy: Place) -> None:
    wreck(name)(copy)
    run = name.partition("/")[0]
    result = dallrec("run", "--run", run, "--until", "04", *copy.options())
    refused(result, f"/{name}")
    assert not (copy.run / "04_attributes" / "manifest.json").exists()


# --- answers that say nothing ---


def test_answers_no_better_than_guessing_add_nothing(copy: Place) -> None:
    def added() -> int:
        asked = pd.read_parquet(copy.run / "03_interactions" / "interactions.parquet")
        return int(asked["added"].sum())

    assert added() == 0  # the tiny model has random weights
    options = [*copy.options(), "-p", "03.confirm=nothing"]
    result = dallrec("run", "--run", "tiny", "--only", "03", *options)
    assert result.exit_code == 0 and added() > 0, result.output

"""Bad input of every kind ends in one clear line and a non-zero status; nothing half-made stays.

The commands run in this process, with the real notebooks but without kernels (see `no_kernel`).
A slip in a command or parameter is refused before anything runs, so a finished run stays as it is.
A fault that only a notebook can find leaves its stage unfinished, without a file of its own.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pooch
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from filelock import FileLock
from llm_support import make_checkpoint
from no_kernel import execute_notebook, no_kernel  # noqa: F401 (a fixture)

from dallrec_core.cli import main
from dallrec_core.data import download
from dallrec_core.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
GENRES = ("Action", "Comedy", "Crime", "Drama", "Horror")
# What a refused command may leave: bookkeeping, the notebook as far as it got, the answer cache.
HARMLESS = (
    ".lock",
    "started.json",
    ".unfinished.ipynb",
    "answers.sqlite-wal",
    "answers.sqlite-shm",
)


def films() -> pd.DataFrame:
    rows = [
        {
            "item_id": f"m{i}",
            "title": f"Film {i}",
            "attributes": "|".join(GENRES[(i + k) % 5] for k in range(1 + i % 3)),
            "director": f"Director {i}",
            "country": "USA",
            "language": "English",
        }
        for i in range(16)
    ]
    return pd.DataFrame(rows)


def ratings() -> pd.DataFrame:
    rows = [
        {"user_id": f"u{u}", "item_id": f"m{(u + step * step) % 16}", "rating": 1 + (u + step) % 5}
        for u in range(12)
        for step in range(4)
    ]
    table = pd.DataFrame(rows).drop_duplicates(["user_id", "item_id"])
    return table.assign(timestamp=range(100, 100 + len(table)))


class Place:
    """A folder with own data, a tiny model and a folder of runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "runs" / "tiny"

    def options(self) -> list[str]:
        """Arguments that make the run small."""
        values = {
            "01.dataset": "files",
            "01.interactions_path": self.folder / "ratings.csv",
            "01.items_path": self.folder / "films.csv",
            "02.language_model": self.folder / "model",
            "02.n_examples": 4,
            "02.held_out": 4,
            "02.epochs": 1,
            "03.budget": 8,
            "04.max_items": 2,
        }
        return [word for name, value in values.items() for word in ("-p", f"{name}={value}")]

    def files(self) -> dict[str, bytes]:
        """Hash of every file that counts, by path."""
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).digest()
            for path in self.folder.rglob("*")
            if path.is_file() and not path.name.endswith(HARMLESS)
        }


def dallrec(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def message(result: Any, status: int = 2) -> str:
    """The one line a refused command prints."""
    lines = result.stderr.splitlines()
    assert result.exit_code == status, result.output
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    assert "Traceback" not in result.output
    return lines[0]


def holds(text: str, *words: str) -> None:
    for word in words:
        assert word in text, f"'{word}' is not in: {text}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A run whose first three stages are finished."""
    place = Place(tmp_path_factory.mktemp("finished"))
    films().to_csv(place.folder / "films.csv", index=False)
    ratings().to_csv(place.folder / "ratings.csv", index=False)
    model = make_checkpoint(place.folder / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}))
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


# --- slips that are found before anything runs ---

SLIPS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "unknown profile": (
        ["run", "--profile", "smoek"],
        ("there is no profile 'smoek'", "did you mean 'smoke'", "ml-100k"),
    ),
    "profile file that is absent": (
        ["run", "--profile", "absent.yml"],
        ("cannot read the profile absent.yml: No such file",),
    ),
    "unknown stage": (["run", "--only", "08"], ("no page '08'", "01_data, 02_finetune")),
    "stages in the wrong order": (
        ["run", "--from", "05", "--until", "03"],
        ("--from 05 comes after --until 03",),
    ),
    "unknown parameter": (
        ["run", "-p", "01.splitt=random"],
        ("01_data has no parameter 'splitt'", "did you mean 'split'", "split: str = 'random'"),
    ),
    "parameter without stage": (
        ["run", "-p", "budget=3"],
        ("'budget=3' is not 'page.name=value'", "06_recommenders.seeds=5"),
    ),
    "parameter of the wrong type": (
        ["run", "-p", "06.seeds=three"],
        ("06_recommenders.seeds should be a valid integer, but is 'three'",),
    ),
    "fraction out of range": (
        ["run", "-p", "01.train_fraction=1.5"],
        ("01_data.train_fraction should be less than or equal to 1, but is 1.5",),
    ),
    "list longer than what is stored": (
        ["run", "-p", "06.top_k=200"],
        ("06_recommenders.top_k should be less than or equal to 100, but is 200",),
    ),
    "negative seed": (
        ["run", "-p", "seed=-1"],
        ("01_data.seed should be greater than or equal to 0, but is -1",),
    ),
    "no question allowed": (
        ["run", "-p", "03.budget=0"],
        ("03_interactions.budget", "or equal to 1"),
    ),
    "infinite learning rate": (
        ["run", "-p", "02.learning_rate=.inf"],
        ("02_finetune.learning_rate should be a finite number, but is inf",),
    ),
    "no bootstrap sample": (
        ["run", "-p", "07.resamples=0"],
        ("07_analysis.resamples", "or equal to 1"),
    ),
    "unknown dataset": (
        ["run", "-p", "01.dataset=ml-1n"],
        ("01_data.dataset should be 'matinee'", "did you mean 'ml-1m'"),
    ),
    "unknown split": (
        ["run", "-p", "01.split=radnom"],
        ("01_data.split should be 'random', 'temporal'", "did you mean 'random'"),
    ),
    "unknown wording": (["run", "-p", "02.wording=papr"], ("'default' or 'paper'", "'paper'")),
    "unknown quantisation": (["run", "-p", "02.quantize=2bit"], ("'none' or '4bit'", "'2bit'")),
    "unknown strategy": (
        ["run", "-p", "03.strategy=all"],
        ("'candidates', 'cold_items' or 'paper'", "'all'"),
    ),
    "base that knows nothing": (
        ["run", "-p", "03.base=MF-BPR"],
        ("'EASE', 'ItemKNN' or 'Popularity'",),
    ),
    "unknown backbone": (
        ["run", "-p", "06.backbones=[MF-BPR, LigthGCN]"],
        ("06_recommenders.backbones should be 'MF-BPR'", "did you mean 'LightGCN'"),
    ),
    "backbone twice": (
        ["run", "-p", "06.backbones=[MF-BPR, MF-BPR]"],
        ("06_recommenders.backbones should be a list without repetitions",),
    ),
    "unknown arm": (
        ["run", "-p", "06.arms=[base, dalrec]"],
        ("06_recommenders.arms should be 'base', 'dallrec'", "did you mean 'dallrec'"),
    ),
    "nothing to compare with": (
        ["run", "-p", "06.arms=[dallrec]"],
        ("06_recommenders.arms should be a list with 'base'",),
    ),
    "run name that leaves the folder": (
        ["run", "--run", "../../tmp"],
        ("'../../tmp' cannot name a run", "use letters, digits"),
    ),
    "run name that is too long": (["run", "--run", "a" * 300], ("cannot write to", "too long")),
    "stage of a run that has not begun": (
        ["run", "--run", "other", "--only", "04"],
        ("04_attributes needs 01_data, 02_finetune of run 'other'", "run first: dallrec run"),
    ),
    "book of a run that is not there": (
        ["book", "--run", "other"],
        ("run 'other' has no executed 01_data", "run first: dallrec run --run other"),
    ),
    "unknown data": (["data", "ml-2m"], ("there is no dataset 'ml-2m'", "Did you mean 'ml-1m'?")),
}


@pytest.mark.parametrize("case", SLIPS)
def test_a_slip_is_refused_before_anything_runs(case: str, finished: Place) -> None:
    arguments, words = SLIPS[case]
    named = "--run" in arguments or arguments[0] == "data"
    before = finished.files()
    result = dallrec(*arguments, *([] if named else ["--run", "tiny"]))
    holds(message(result), *words)
    assert finished.files() == before


def test_two_at_once_exclude_each_other(finished: Place) -> None:
    before = finished.files()
    with FileLock(finished.run / ".lock"):
        result = dallrec("run", "--run", "tiny", "--force")
    holds(message(result), "another dallrec is working in", str(finished.run), "use --run NAME")
    assert finished.files() == before


# --- own data ---


def second_line(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    table = table.astype(object)
    table.loc[table.index[1], list(values)] = list(values.values())
    return table


Change = Callable[[pd.DataFrame], "pd.DataFrame | bytes | None"]
OWN_DATA: dict[str, tuple[str, Change, tuple[str, ...]]] = {
    "missing column": (
        "ratings.csv",
        lambda table: table.rename(columns={"item_id": "film"}),
        ("ratings.csv: column 'item_id' is missing", "the file has 'user_id', 'film'", "Rename"),
    ),
    "rating in words": (
        "ratings.csv",
        lambda table: second_line(table, rating="good"),
        ("ratings.csv, line 3, column 'rating': 'good' is not a finite number", "Write a number"),
    ),
    "empty title": (
        "films.csv",
        lambda table: second_line(table, title="  "),
        ("films.csv, line 3, column 'title': the title is empty", "fill it, or remove the item"),
    ),
    "bad encoding": (
        "films.csv",
        lambda table: second_line(table, title="Café").to_csv(index=False).encode("latin-1"),
        ("films.csv, line 3: byte 0xe9 is not valid utf-8", "Save the file as UTF-8"),
    ),
    "line cut short": (
        "ratings.csv",
        lambda table: table.to_csv(index=False).encode()[:-8] + b"\n",
        ("ratings.csv, line 49: 2 fields where the header has 4", "if it was cut short"),
    ),
    "no file": ("films.csv", lambda table: None, ("items_path: there is no file", "films.csv")),
}


@pytest.mark.parametrize("case", OWN_DATA)
def test_own_data_with_a_fault(case: str, finished: Place, tmp_path: Path) -> None:
    name, change, words = OWN_DATA[case]
    for source in ("ratings.csv", "films.csv"):
        shutil.copy(finished.folder / source, tmp_path)
    changed = change(pd.read_csv(tmp_path / name))
    (tmp_path / name).unlink()
    if isinstance(changed, pd.DataFrame):
        changed.to_csv(tmp_path / name, index=False)
    elif changed is not None:
        (tmp_path / name).write_bytes(changed)
    refused_data(tmp_path, [], *words)


def refused_data(folder: Path, more: list[str], *words: str) -> None:
    place = Place(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DALLREC_RUNS_DIR", str(folder / "runs"))
        before = place.files()
        options = place.options()[:6]
        result = dallrec("run", "--run", "tiny", "--until", "01", *options, *more)
    holds(message(result), "01_data: ", *words)
    assert place.files() == before
    assert not (place.run / "01_data" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("01.split=temporal", ("'temporal' needs the time of every interaction", "Use split 'ra")),
        ("01.split=published", ("dataset 'files' has no released split", "Use dataset 'publi")),
        ('01.columns={"rating": "stars"}', ("'rating' is mapped to 'stars', which is not in",)),
        ('01.columns={"userid": "user_id"}', ("'userid' is none of our columns", "Valid: user_id")),
    ],
)
def test_own_data_that_do_not_fit_the_wish(
    more: str, words: tuple[str, ...], finished: Place, tmp_path: Path
) -> None:
    shutil.copy(finished.folder / "films.csv", tmp_path)
    ratings().drop(columns="timestamp").to_csv(tmp_path / "ratings.csv", index=False)
    refused_data(tmp_path, ["-p", more], *words)


def test_the_remedy_for_a_separator_works(finished: Place, tmp_path: Path) -> None:
    for name in ("ratings.csv", "films.csv"):
        table = pd.read_csv(finished.folder / name)
        (tmp_path / name).write_text(table.to_csv(index=False, sep=";"))
    options = [*Place(tmp_path).options()[:6], "-p", '01.reading={"separator": ";"}']
    result = dallrec("run", "--run", "semicolons", "--until", "01", *options)
    assert result.exit_code == 0, result.output
    shutil.rmtree(finished.run.with_name("semicolons"))


# --- downloads ---


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, body in members.items():
            bundle.writestr(name, body)
    return buffer.getvalue()


GOOD = zipped(
    {"ml-1m/ratings.dat": b"1::1::5\n" * 900, "ml-1m/movies.dat": b"1::A (1990)::Drama\n"}
)
EVIL = zipped({"ml-1m/ratings.dat": b"1::1::5\n", "ml-1m/../../evil": b"x"})
CORRUPT = GOOD[:60] + bytes(255 - byte for byte in GOOD[60:66]) + GOOD[66:]
# What the server sends, whose checksum is expected, and what the message says.
DOWNLOADS: dict[str, tuple[bytes | None, bytes, tuple[str, ...]]] = {
    "no network": (None, GOOD, ("cannot download", "refused", "set DALLREC_DATA_DIR=FOLDER")),
    "corrupt archive": (CORRUPT, CORRUPT, ("not a complete zip archive", "Delete it and run")),
    "archive that leaves its folder": (EVIL, EVIL, ("'ml-1m/../../evil' would leave the folder",)),
}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder; no waiting between the tries of a download."""
    (tmp_path / "store").mkdir()
    monkeypatch.setenv("DALLREC_DATA_DIR", str(tmp_path / "store"))
    monkeypatch.setattr(pooch.core.time, "sleep", lambda _: None)
    return tmp_path / "store"


def serve(monkeypatch: pytest.MonkeyPatch, sent: bytes | None, expected: bytes) -> None:
    """Let ml-1m come from a place that sends `sent`, or from nowhere."""
    recipe = download.Recipe(
        files={"ratings.dat": "0" * 32, "movies.dat": "0" * 32},
        url="http://127.0.0.1:9/ml-1m.zip",  # nobody answers there
        archive_md5=hashlib.md5(expected).hexdigest(),
        inside="ml-1m",
    )
    monkeypatch.setitem(download.RECIPES, "ml-1m", recipe)
    if sent is not None:
        send = lambda url, target, pooch: Path(target).write_bytes(sent)  # noqa: E731
        monkeypatch.setattr(pooch, "HTTPDownloader", lambda **_: send)


@pytest.mark.parametrize("case", DOWNLOADS)
def test_a_download_that_fails(case: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent, expected, words = DOWNLOADS[case]
    serve(monkeypatch, sent, expected)
    holds(message(dallrec("data", "ml-1m")), "ml-1m.zip", *words)
    left = {str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()}
    # An archive whose checksum is right stays, so that it can be looked at.
    assert left - {"ml-1m/README"} == ({"ml-1m.zip"} if sent == expected else set())
    assert not (store.parent / "evil").exists() and not (store / "evil").exists()


def test_the_chain_stops_where_the_data_are_missing(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, None, GOOD)
    monkeypatch.setenv("DALLREC_RUNS_DIR", str(tmp_path / "runs"))
    place = Place(tmp_path)
    result = dallrec("run", "--run", "tiny", "-p", "01.dataset=ml-1m")
    holds(message(result), "01_data: cannot download", "put the files into a folder FOLDER/ml-1m")
    assert not place.files()


def test_full_disk_while_unpacking(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, GOOD, GOOD)
    monkeypatch.setattr("zipfile.shutil.copyfileobj", full_disk)
    holds(message(dallrec("data", "ml-1m")), "No space left on device", "Free some space")
    assert [path.name for path in store.iterdir()] == ["ml-1m.zip"]


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("kind", ["absent", "a file"])
def test_a_data_folder_that_is_none(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DALLREC_DATA_DIR", str(tmp_path / "data"))
    if kind == "a file":
        (tmp_path / "data").touch()
    found = message(dallrec("data", "ml-1m"))
    holds(found, "DALLREC_DATA_DIR is", "which is not a folder", "unset it")


# --- models, adapters, caches and files of earlier stages ---


def other_options(place: Place) -> list[str]:
    (place.folder / "ratings.csv").write_text(ratings().to_csv(index=False, sep=";"))
    return ["-p", '01.reading={"seperator": ";"}']


def pickled(place: Place) -> list[str]:
    folder = place.folder / "model"
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return []


def wreck(name: str, body: bytes = b"not what it was") -> Callable[[Place], list[str]]:
    """Overwrite a file of the run's folder (or put one where a folder was)."""

    def change(place: Place) -> list[str]:
        path = place.folder / "runs" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.write_bytes(body)
        return []

    return change


def without(name: str) -> Callable[[Place], list[str]]:
    def change(place: Place) -> list[str]:
        shutil.rmtree(place.run / name)
        return []

    return change


def foreign_table(place: Place) -> list[str]:
    path = place.run / "01_data" / "train.parquet"
    pd.read_parquet(path).rename(columns={"user": "userId"}).to_parquet(path)
    return []


def codes_that_do_not_exist(place: Place) -> list[str]:
    path = place.run / "01_data" / "train.parquet"
    table = pd.read_parquet(path)
    table.loc[2, "item"] = 999
    table.to_parquet(path)
    return []


def other_model(place: Place) -> list[str]:
    path = place.run / "02_finetune" / "model.json"
    other = make_checkpoint(place.folder / "other", seed=1)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"language_model": str(other)}))
    return []


def parameters(*texts: str) -> Callable[[Place], list[str]]:
    return lambda place: [word for text in texts for word in ("-p", text)]


def offline(place: Place) -> list[str]:
    return ["-p", "02.language_model=acme/none-such-7b"]


# By name: the stage that finds the fault, what is done before, what the message says.
FAULTS: dict[str, tuple[str, Callable[[Place], list[str]], tuple[str, ...]]] = {
    "unknown option of reading": (
        "01_data",
        other_options,
        ("dataset 'files' has no option 'seperator'", "Its options: interactions_path", "separ"),
    ),
    "model id without network": (
        "02_finetune",
        offline,
        ("'acme/none-such-7b' is neither bundled (standin), nor a folder", "hf download"),
    ),
    "model folder that is absent": (
        "02_finetune",
        parameters("02.language_model=./nowhere"),
        ("nowhere' is neither bundled (standin), nor a folder here", "give the folder"),
    ),
    "pickle-only checkpoint": (
        "02_finetune",
        pickled,
        ("cannot be loaded from", "no file named model.safetensors"),
    ),
    "4-bit without CUDA": (
        "02_finetune",
        parameters("02.quantize=4bit"),
        ("cannot be loaded from",),
    ),
    "revision of a folder": (
        "02_finetune",
        parameters("02.revision=main"),
        ("is a folder on this machine, so revision 'main' means nothing", "leave the revision"),
    ),
    "loss that is no number": (
        "02_finetune",
        parameters("02.learning_rate=1.0e30", "02.epochs=4"),
        ("interactions: the loss became NaN at step", "lower the learning_rate"),
    ),
    "prompt and answer too long": (
        "04_attributes",
        parameters("04.max_new_tokens=1000000"),
        ("prompt 1 of 2 is too long for model", "1000000 for the answer, where 4096 fit"),
    ),
    "missing adapter": (
        "03_interactions",
        without("02_finetune/adapters/interactions"),
        ("adapters/interactions lacks adapter_config.json", "run the fine-tuning notebook first"),
    ),
    "damaged adapter": (
        "03_interactions",
        wreck("tiny/02_finetune/adapters/interactions/adapter_model.safetensors"),
        ("adapters/interactions cannot be put on model",),
    ),
    "adapter of another base model": (
        "03_interactions",
        other_model,
        ("adapters/attributes was trained on", "load that model or fine-tune again"),
    ),
    "foreign table with another schema": (
        "03_interactions",
        foreign_table,
        ("01_data/train.parquet: column 'user' is missing (it has userId, item, rating",),
    ),
    "table with codes that do not exist": (
        "03_interactions",
        codes_that_do_not_exist,
        ("train.parquet: row 2, column 'item' is 999, but there are 16 items",),
    ),
    "damaged table": (
        "03_interactions",
        wreck("tiny/01_data/items.parquet"),
        ("01_data/items.parquet is not a readable parquet file",),
    ),
    "damaged JSON": (
        "03_interactions",
        wreck("tiny/01_data/dataset.json", b'{"name": '),
        ("01_data/dataset.json is not valid JSON", "line 1 column"),
    ),
    "damaged answer cache": (
        "04_attributes",
        wreck("cache/answers.sqlite", b"this is no database, it is a poem" * 100),
        ("answer cache", "answers.sqlite is damaged", "delete it", "will be asked anew"),
    ),
    "file in place of the cache's folder": (
        "04_attributes",
        wreck("cache"),
        ("cannot make the folder", "runs/cache: File exists"),
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_that_a_notebook_finds(
    case: str, copy: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, prepare, words = FAULTS[case]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(copy.folder / "hub"))
    more = prepare(copy)
    before = copy.files()
    result = dallrec("run", "--run", "tiny", "--only", stage, *copy.options(), *more)
    holds(message(result), f"{stage}: ", *words)
    unfinished(copy, stage, before)


def unfinished(place: Place, stage: str, before: dict[str, bytes]) -> None:
    """A stage that failed has no manifest, no notebook and no new file; the others are whole."""
    after = place.files()
    new = {path for path, content in after.items() if before.get(path) != content}
    assert {path for path in new if "/instructions/" not in path} == set()
    lost = {path for path in before if path not in after}
    assert all(f"/{stage}" in path for path in lost), lost
    assert not (place.run / stage / "manifest.json").exists()
    assert not (place.run / "notebooks" / f"{stage}.ipynb").exists()
    assert not list(place.folder.rglob("*.partial*"))


@pytest.mark.parametrize("stage", ["01_data", "03_interactions", "04_attributes"])
def test_a_disk_that_fills_up(stage: str, copy: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(table: object, where: Path, **_: object) -> None:
        where.write_bytes(b"PAR1 and then the disk was full")
        full_disk()

    monkeypatch.setattr(pq, "write_table", half)
    before = copy.files()
    result = dallrec("run", "--run", "tiny", "--only", stage, "--force", *copy.options())
    holds(message(result), f"{stage}: cannot write", ".parquet: No space left on device")
    unfinished(copy, stage, before)


def test_a_disk_that_fills_up_while_an_adapter_is_written(
    copy: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dallrec_core.llm.adapters.write_json", full_disk)
    before = copy.files()
    options = [*copy.options(), "-p", "02.seed=1"]
    result = dallrec("run", "--run", "tiny", "--only", "02", *options)
    holds(message(result), "02_finetune: cannot write", "adapters/interactions: No space left on")
    unfinished(copy, "02_finetune", before)


@pytest.mark.parametrize("name", ["", "tiny", "tiny/04_attributes", "tiny/notebooks"])
def test_a_file_where_a_folder_should_be(
    name: str, copy: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "":
        monkeypatch.setenv("DALLREC_RUNS_DIR", str(tmp_path / "taken"))
        (tmp_path / "taken").touch()
    elif name == "tiny":
        monkeypatch.setenv("DALLREC_RUNS_DIR", str(tmp_path / "empty"))
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / "tiny").touch()
    else:
        wreck(name)(copy)
    only = ["--only", "04"] if "/" in name else []
    result = dallrec("run", "--run", "tiny", *copy.options(), *only)
    holds(message(result), "cannot write", {"": "taken/tiny", "tiny": "empty/tiny"}.get(name, name))
    assert not (copy.run / "04_attributes" / "manifest.json").exists()


def test_a_page_opened_by_hand_in_a_run_that_has_not_begun(tmp_path: Path) -> None:
    notebook = ROOT / "notebooks" / "04_attributes.ipynb"
    with pytest.raises(Exception) as caught:
        execute_notebook(notebook, tmp_path / "04.ipynb", {"run": "mine"})
    error = caught.value.__cause__
    assert isinstance(error, UserError)
    holds(str(error), "04_attributes needs 01_data, 02_finetune of run 'mine'", "dallrec run --run")


# --- answers that say nothing ---


def test_answers_no_better_than_guessing_add_nothing(copy: Place) -> None:
    def added() -> int:
        asked = pd.read_parquet(copy.run / "03_interactions" / "interactions.parquet")
        return int(asked["added"].sum())

    assert added() == 0  # the tiny model has random weights
    options = [*copy.options(), "-p", "03.confirm=false"]
    result = dallrec("run", "--run", "tiny", "--until", "03", *options)
    assert result.exit_code == 0 and added() > 0, result.output

"""The files around the library agree with each other: pins, addresses, commands, profiles."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from test_imports import FILES, imported_modules

import dallrec_core
from dallrec_core.chain import freshness
from dallrec_core.chain.parameters import profiles

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, SETUPTOOLS = PYPROJECT["project"], PYPROJECT["tool"]["setuptools"]
EXTRAS = PROJECT["optional-dependencies"]
LOCK = [
    Requirement(line)
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line and not line.startswith("#")
]
# Import names that differ from the distribution's.
DISTRIBUTION = {"sklearn": "scikit-learn", "yaml": "pyyaml"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(*lines: str) -> set[str]:
    return {normal(Requirement(line).name) for line in lines}


PINS = {normal(each.name): str(each.specifier).removeprefix("==") for each in LOCK}


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# --- versions ---


def test_the_lock_is_exact_names_no_host_and_fits_the_bounds() -> None:
    for requirement in LOCK:
        assert re.fullmatch(r"==[0-9][A-Za-z0-9.!]*", str(requirement.specifier)), requirement
    assert not re.search(r"https?:|index-url|find-links|nvidia", text("requirements.lock"))
    assert len(PINS) == len(LOCK) and PINS["torch"] == "2.13.0"
    for line in PROJECT["dependencies"] + EXTRAS["book"] + EXTRAS["test"]:
        wanted = Requirement(line)
        assert wanted.specifier.contains(Version(PINS[normal(wanted.name)])), line
    assert "jupyter-book>=1.0.4.post1,<2" in EXTRAS["book"]  # 2 ignores _config.yml


def test_the_conda_file_installs_the_lock_and_this_package() -> None:
    dependencies = yaml.safe_load(text("environment.yml"))["dependencies"]
    assert dependencies[0] == f"python {PROJECT['requires-python']}"
    assert dependencies[-1]["pip"] == ["-r requirements.lock", "-e ."]


def test_everything_imported_is_declared_and_nothing_else() -> None:
    declared = names(*PROJECT["dependencies"])
    optional = names(
        *(line for name in ("book", "gpu", "serve", "cluster") for line in EXTRAS[name])
    )
    top = {name.split(".")[0] for file in FILES for name in imported_modules(file)}
    others = top - set(sys.stdlib_module_names) - {"dallrec_core"}
    used = {normal(DISTRIBUTION.get(name, name)) for name in others}
    assert used - optional <= declared, "imported but not declared"
    # The kernel of the notebooks, and what transformers' Trainer needs, are not imported by name.
    assert declared - used <= {"ipykernel", "accelerate"}, "declared but not imported"


def test_every_package_is_installed_and_the_notebooks_with_them() -> None:
    made = {path.parent.relative_to(ROOT) for path in (ROOT / "dallrec_core").rglob("__init__.py")}
    packages = {".".join(path.parts) for path in made}
    assert set(SETUPTOOLS["packages"]) == packages | {"dallrec_core.notebooks"}
    assert SETUPTOOLS["package-dir"] == {"dallrec_core.notebooks": "notebooks"}
    kinds = {Path(pattern).suffix for pattern in SETUPTOOLS["package-data"]["dallrec_core"]}
    # what comes along with the library is part of every key
    assert kinds - {".md", ".typed"} | {".py"} == freshness.COMPUTING


def test_version_and_licence_agree() -> None:
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["version"] == dallrec_core.__version__
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in text("LICENSE")
    assert citation["preferred-citation"]["doi"] == "10.1007/s44443-025-00158-4"


# --- addresses ---


def repository() -> str:
    return yaml.safe_load(text("_config.yml"))["repository"]["url"]


SLUG = re.compile(r"(?:github\.com|githubusercontent\.com)/(?:github/)?([\w.-]+/[\w.-]+)")
SITE = re.compile(r"([\w-]+)\.github\.io/([\w.-]+)")
OTHERS = {"zzerrrro/DALLRec", "akBear23/VoteGCL", "zygmuntz/goodbooks-10k"}
"""Repositories of other people that our pages may link to."""


def written() -> list[Path]:
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    paths = [ROOT / name for name in listed.stdout.splitlines()] or list(ROOT.glob("*.*"))
    kinds = {".md", ".ipynb", ".toml", ".cff", ".yml"}
    return [path for path in paths if path.suffix in kinds and path.is_file()]


def test_badges_and_links_use_the_address_of_the_config() -> None:
    slug = repository().removeprefix("https://github.com/")
    for path in written():
        content = path.read_text(encoding="utf-8")
        found = SLUG.findall(content.replace("google.com/github/", "github.com/"))
        found += ["/".join(parts) for parts in SITE.findall(content)]
        strangers = {each.rstrip(".").removesuffix(".git") for each in found} - OTHERS - {slug}
        assert not strangers, f"{path.name} links to {strangers}; _config.yml says {slug}"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *sorted(
    str(path.relative_to(ROOT)) for path in (ROOT / "book").glob("*.md")
)])  # fmt: skip
def test_places_that_pages_name_exist(page: str) -> None:
    ours = r"`((?:book|benchmarks|dallrec_core|notebooks|tests|tools)/[\w./]*)`"
    named = re.findall(ours, text(page))
    assert [place for place in named if not (ROOT / place).exists()] == []


def test_the_page_about_a_real_model_says_what_its_table_shows() -> None:
    table = pd.read_csv(ROOT / "book" / "real_curve.csv", index_col="who answers")
    bounds = table["95 % interval"].str.extract(r"(.*) to (.*)").astype(float)
    more, counting = (
        table[name].str.extract(r"\((.*) to (.*)\)").astype(float)
        for name in ("more than as it came", "more than counting")
    )
    page, tuned = text("book/real.md"), [f"SmolLM2 after {n} examples" for n in ("256", "1,024")]
    untuned, few = "SmolLM2 as it came", [f"SmolLM2 after {n} examples" for n in ("16", "64")]
    assert "no better than a coin" in page and "barely above one, and sixty-four not" in page
    assert bounds.loc[untuned, 0] < 0.5 < bounds.loc[untuned, 1]
    assert bounds.loc[few[1], 0] < 0.5 < bounds.loc[few[0], 0] < 0.52
    assert (bounds.loc[tuned, 0] > 0.55).all() and (more.loc[tuned, 0] > 0).all()
    assert "about as far as the counting rule" in page
    assert (counting.loc[[untuned, *few, tuned[0]], 1] < 0).all()
    assert counting.loc[tuned[1], 0] < 0 < counting.loc[tuned[1], 1]
    assert counting.loc["the item's mean rating", 1] < 0 < counting.loc["oracle", 0]
    earlier = pd.read_csv(ROOT / "book" / "real_repeats.csv")
    assert "not detectably better than counting" in page and len(earlier) == 2
    assert (earlier["95 % interval"].str[:5].astype(float) > 0.55).all()
    assert (earlier["more than counting"].str.extract(r"\((.*) to")[0].astype(float) < 0).all()


def test_the_page_about_a_real_model_says_what_recommenders_gain() -> None:
    found, higher = {}, {}
    for ending in ("", "_unlimited"):
        table = pd.read_csv(ROOT / "book" / f"real_gains{ending}.csv", index_col=1, dtype=str)
        found[ending] = table = table.iloc[:-1, 1:]
        higher[ending] = table.map(lambda cell: "higher" in cell).groupby(level=0).sum()
    page = text("book/real.md")
    assert "Nothing is gained that could be detected" in page and not higher[""].any(axis=None)
    best = found[""][found[""].index.str.contains("liked_only, the best control")]
    assert len(best) > 4 and best["preference@20"].str.contains("lower").all()
    assert "Two recommenders come a little closer" in page
    ours = higher["_unlimited"].filter(like="dallrec", axis="index")
    assert ours.loc["dallrec over base"].tolist() == [0, 0, 2]
    assert ours.drop("dallrec over base").sum().sum() == 0
    assert higher["_unlimited"].loc["oracle over base", "preference@20"] > 4
    asked, sure, added = pd.read_csv(ROOT / "book" / "real_passed.csv").to_dict("records")
    assert sure["pairs"] > asked["pairs"] / 5 and sure["viewers"] < asked["viewers"] / 8
    assert added["pairs"] < sure["pairs"] / 8
    liked = pd.read_csv(ROOT / "book" / "real_added_unlimited.csv", index_col=0)["really liked"]
    assert liked["added"] < liked["asked"]


def test_the_page_says_of_hidden_items_what_its_table_shows() -> None:
    table = pd.read_csv(ROOT / "book" / "hidden.csv").fillna("")
    asked = table["added pairs"].str.startswith("among those asked")
    backbones = ["MMGCN", "GRCN", "MMSSL", "LightGCN"]
    found = table.set_index("added pairs")[backbones].map(lambda text: text.partition(" ")[2])
    assert asked.sum() == 3 and (found[asked.to_numpy()] == "↑").all(axis=None)
    features = found.loc[""].to_numpy()
    assert (features[2:, 1] == "↑").all() and (features[:, [0, 2, 3]] == "").all()
    page = text("book/real.md")
    assert "a coin deals them as well" in page and "MMGCN and MMSSL features alone make no" in page


def test_the_page_about_movielens_says_what_its_tables_show() -> None:
    runs, means, effects, liked = (
        pd.read_csv(ROOT / "book" / f"movielens_{name}.csv")
        for name in ("runs", "means", "effects", "liked")
    )
    page = text("book/movielens.md")
    low = runs["precision"].str.extract(r"\((.*) to")[0].astype(float)
    assert (runs[["beats guessing", "beats counting"]] == "no").all(axis=None)
    assert (low <= 0.5).all()
    assert "Nothing is gained" in page and "makes no detectable difference either" in page
    for table in (effects, liked):
        found = table.dropna(subset="finding")
        assert (found["finding"] == "lower").all() and (found["over"] == "popular").all()
        assert set(found["backbone"]) == {"NGCF", "LightGCN"}
        assert found["data"].str.endswith("\u00a05\u00a0%").all()
        assert set(table.loc[table["arm"] == "liked only", "over"]) == {"base"}
    over_base = effects[(effects["over"] == "base") & (effects["arm"] == "dallrec")]
    assert over_base["difference"].str.startswith("-").mean() > 0.8
    assert 0.25 < (means["coin"] <= means["dallrec"]).mean() < 0.75
    whole = means.set_index(["data", "backbone"])["base"]
    share = over_base.set_index(["data", "backbone"])["MDE"] / whole
    full = share.index.get_level_values("data").str.contains("100\u00a0%")
    thin = share.index.get_level_values("data").str.endswith("\u00a05\u00a0%")
    assert share[full].max() < 0.1 and share[thin].between(0.2, 0.35).all()


def test_the_tables_about_movielens_are_those_of_this_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import movielens

    (key,) = pd.read_csv(ROOT / "book" / "movielens_origin.csv", dtype=str)["key"]
    assert key == movielens.code_key(), "run: python tools/movielens.py --check"


# --- profiles, continuous integration and hooks ---


def test_the_profiles_fit_the_notebooks() -> None:
    found = {profile.name: profile for profile in profiles()}
    data = {"smoke", "ml-100k", "ml-1m", "book-crossing", "colab", "paper"}
    assert set(found) == data | {"real", "real-100k"}
    assert found["smoke"].parameters == {}
    assert all("memory_gib" in profile.needs for profile in found.values())


def test_ci_runs_the_readme_commands_on_every_python_and_tries_colab_weekly() -> None:
    jobs = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert {"run": ".ci/run"} in jobs["test"]["steps"]
    assert {"run": "make book"} in jobs["book"]["steps"]
    assert text(".ci/run").splitlines()[-1] == "make test"
    assert "DALLREC_ALONE: all" in text(".github/workflows/weekly.yml")
    assert all(re.search(rf"^make {word}\b", text("README.md"), re.M) for word in ("book", "test"))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("PYTHON=", "no Python 3.11"),
        ("PYTHON=/bin/false", "is not Python"),
        (f"PYTHON={sys.executable} GIB_NEEDED=999999", "of disk are free"),
    ],
)
def test_the_makefile_explains_what_is_missing(option: str, message: str, tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text(text(name))
    command = ["make", "book", *option.split(" ")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode and message in done.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("tools/*.py"), *ROOT.glob("benchmarks/*.py")]), ids=lambda p: p.stem
)
def test_what_stands_beside_the_library_finds_what_it_imports(path: Path) -> None:
    importlib.import_module(f"{path.parent.name}.{path.stem}")

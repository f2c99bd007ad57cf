"""The pages of the book that compute, what they need and make, and the folders they work in."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dallrec_core.errors import UserError

# ---------------------------------------------------------------- folders

PACKAGE = Path(__file__).resolve().parents[1]
"""Where the library is; an installed one holds a copy of the notebooks."""


def project_root() -> Path | None:
    """Return the nearest folder above the current one, or the package's, that holds the book."""
    folders = (Path.cwd(), *Path.cwd().parents, PACKAGE.parent)
    books = (f for f in folders if (f / "_config.yml").is_file() and (f / "notebooks").is_dir())
    return next(books, None)


def book_root() -> Path:
    """Return the folder of the book's sources, or the package with its copy of the notebooks.

    Raises:
        UserError: when there are no notebooks, neither here nor in the package.
    """
    root = project_root() or PACKAGE
    if not (root / "notebooks").is_dir():
        raise UserError(
            f"no notebooks at or above {Path.cwd()}; clone the repository and run this inside it"
        )
    return root


def notebooks_dir() -> Path:
    """Return the folder of the committed notebooks, in which they are executed."""
    return book_root() / "notebooks"


def runs_dir() -> Path:
    """Return the folder of all runs: `DALLREC_RUNS_DIR`, else `runs` beside the notebooks."""
    named = os.environ.get("DALLREC_RUNS_DIR")
    return Path(named).resolve() if named else (project_root() or Path.cwd()) / "runs"


def run_dir(run: str) -> Path:
    """Return the folder of one run.

    Raises:
        UserError: when the name could not be a folder of its own inside the runs.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", run) or run == "cache":
        raise UserError(
            f"'{run}' cannot name a run: use letters, digits, '.', '_' and '-' (and not 'cache')"
        )
    return runs_dir() / run


def cache_dir() -> Path:
    """Return the platform's folder for what can be fetched or made again."""
    import pooch

    return Path(pooch.os_cache("dallrec"))


def data_dir() -> Path:
    """Return the folder of data files: `DALLREC_DATA_DIR`, else the platform's cache folder."""
    named = os.environ.get("DALLREC_DATA_DIR")
    return Path(named).expanduser().resolve() if named else cache_dir()


# ---------------------------------------------------------------- pages

DEFAULT_RUN = "smoke"
"""The run that notebooks belong to when nobody says otherwise, and the profile that makes it."""


@dataclass(frozen=True)
class Page:
    """One notebook and what it promises to leave behind."""

    name: str
    "Name of the notebook without its suffix, and of the folder its artefacts go to."
    makes: tuple[str, ...]
    "Files and folders that exist once it has finished."
    needs: tuple[str, ...] = ()
    "Pages whose artefacts it reads, and all that those read, in running order."
    keeps: tuple[str, ...] = ()
    "Folders of content-keyed pieces that stay useful when parameters change."
    quick: Mapping[str, Any] = field(default_factory=dict)
    "Parameters of a quick version, for a later notebook that is opened by itself."
    data: str = ""
    """Files, by dataset and folder below the data folder, without which cells tagged `needs-data`
    are skipped; they are not downloaded unasked."""

    @property
    def notebook(self) -> str:
        """File name of the notebook."""
        return f"{self.name}.ipynb"

    def has_data(self) -> bool:
        """Tell whether the data it cannot do without, if any, are on this machine."""
        return not self.data or (data_dir() / self.data).is_dir()


_MODEL = ("01_data", "02_finetune")
_WRITTEN = (*_MODEL, "03_interactions", "04_attributes", "05_summaries")
_DATA = "train.parquet validation.parquet test.parquet items.parquet users.parquet dataset.json"
_TUNED = "model.json adapters instructions training_log.parquet evaluation.json contamination.json"

PAGES: tuple[Page, ...] = (
    Page("01_data", makes=(*_DATA.split(), "split_report.json")),
    Page(
        "02_finetune",
        needs=("01_data",),
        makes=tuple(_TUNED.split()),
        quick={"n_examples": 32, "held_out": 100, "epochs": 2, "curve_sizes": [], "probes": 50},
    ),
    Page("03_interactions", ("interactions.parquet",), needs=_MODEL, quick={"budget": 1000}),
    Page("04_attributes", ("attributes.parquet",), needs=_MODEL, quick={"max_items": 100}),
    Page("05_summaries", ("summaries.parquet",), needs=_MODEL, quick={"max_items": 100}),
    Page(
        "06_recommenders",
        needs=_WRITTEN,
        makes=("scores.parquet", "runs.parquet"),
        keeps=("trainings",),
        quick={"backbones": ["MF-BPR", "LightGCN"], "seeds": 2},
    ),
    Page(
        "07_analysis",
        needs=(*_WRITTEN, "06_recommenders"),
        makes=("headline.json",),
        keeps=("trainings",),
    ),
    Page("A1_published_split", makes=("findings.json",), data="published/movielens"),
    Page(
        "A2_released_edges",
        makes=("findings.json",),
        keeps=("trainings",),
        data="released-edges/amazon-scientific",
    ),
)
"""The chain, in the order in which it runs."""


def find_page(text: str) -> Page:
    """Return the page meant by `text`: "03_interactions", "03", "3" or "interactions".

    Raises:
        UserError: listing the pages when there is no such one.
    """
    for page in PAGES:
        number, _, word = page.name.partition("_")
        if text in (page.name, number, number.lstrip("0"), word, page.notebook):
            return page
    names = ", ".join(page.name for page in PAGES)
    raise UserError(f"there is no page '{text}'; the pages are {names}")


def missing(page: Page, run: str) -> list[str]:
    """Return what `page` should have made in `run` and is not there."""
    folder, made = run_dir(run) / page.name, page.makes if page.has_data() else ()
    return [name for name in made if not (folder / name).exists()]


def lacking(page: Page, run: str) -> list[Page]:
    """Return the pages that `page` needs and that have not run."""
    return [earlier for earlier in map(find_page, page.needs) if missing(earlier, run)]


def remedy(run: str, until: str = "") -> str:
    """Return the command that makes what a run lacks, for error messages."""
    command = f"dallrec run --run {run}" + (f" --until {until}" if until else "")
    given = "" if run == DEFAULT_RUN else ", with the --profile and -p it is made with"
    return f"run first: {command}{given}"


def require(page: Page, run: str, coming: Sequence[str] = ()) -> None:
    """Refuse to go on with `page` when pages that it needs have not run and are not `coming`.

    Raises:
        UserError: naming them, and the command that makes them.
    """
    absent = [earlier.name for earlier in lacking(page, run) if earlier.name not in coming]
    if absent:
        how = remedy(run, absent[-1][:2])
        raise UserError(f"{page.name} needs {', '.join(absent)} of run '{run}'; {how}")


def select(first: str | None, last: str | None, only: Sequence[str] = ()) -> list[str]:
    """Return the names of the pages to consider: those in `only`, else all from first to last.

    Raises:
        UserError: for a page that does not exist, or a choice that is empty.
    """
    if only:
        return [find_page(text).name for text in only]
    low = PAGES.index(find_page(first)) if first else 0
    high = PAGES.index(find_page(last)) if last else len(PAGES) - 1
    if low > high:
        raise UserError(f"--from {first} comes after --until {last}")
    return [page.name for page in PAGES[low : high + 1]]

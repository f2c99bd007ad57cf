"""Where things live: the numbered stages, their artefacts, and the folders of a run."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dallrec_core.errors import UserError

DEFAULT_RUN = "smoke"
"""The run that notebooks belong to when nobody says otherwise, and the profile that makes it."""


PACKAGE = Path(__file__).resolve().parent
"""Where the library is; an installed one holds a copy of the notebooks."""


@dataclass(frozen=True)
class Stage:
    """One numbered notebook and what it promises to leave behind."""

    name: str
    "Name of the notebook without its suffix, and of the folder its artefacts go to."
    needs: tuple[str, ...]
    "Stages whose artefacts it reads."
    makes: tuple[str, ...]
    "Files and folders that exist once it has finished."
    seconds: int
    "Seconds it takes with the smoke profile on two cores, for announcing."
    keeps: tuple[str, ...] = ()
    "Folders of content-keyed pieces that stay useful when parameters change."
    data: str = ""
    "Dataset without which the page shows next to nothing; it is not downloaded unasked."
    quick: Mapping[str, Any] = field(default_factory=dict)
    "Parameters of a quick version, for a later notebook that is opened by itself."

    @property
    def notebook(self) -> str:
        """File name of the notebook."""
        return f"{self.name}.ipynb"


STAGES: tuple[Stage, ...] = (
    Stage(
        "01_data",
        needs=(),
        makes=("train.parquet", "validation.parquet", "test.parquet", "items.parquet")
        + ("users.parquet", "dataset.json", "split_report.json"),
        seconds=8,
    ),
    Stage(
        "02_finetune",
        needs=("01_data",),
        makes=("model.json", "adapters", "instructions", "training_log.parquet", "evaluation.json")
        + ("contamination.json",),
        seconds=60,
        quick={"n_examples": 32, "held_out": 100, "epochs": 2, "curve_sizes": [], "probes": 50},
    ),
    Stage(
        "03_interactions",
        needs=("01_data", "02_finetune"),
        makes=("interactions.parquet",),
        seconds=20,
        quick={"budget": 1000},
    ),
    Stage(
        "04_attributes",
        needs=("01_data", "02_finetune"),
        makes=("attributes.parquet",),
        seconds=15,
        quick={"max_items": 100},
    ),
    Stage(
        "05_summaries",
        needs=("01_data", "02_finetune"),
        makes=("summaries.parquet",),
        seconds=20,
        quick={"max_items": 100},
    ),
    Stage(
        "06_recommenders",
        needs=("01_data", "02_finetune", "03_interactions", "04_attributes", "05_summaries"),
        makes=("scores.parquet", "runs.parquet"),
        seconds=180,
        keeps=("cells",),
        quick={"backbones": ["MF-BPR", "LightGCN"], "seeds": 2},
    ),
    Stage(
        "07_analysis",
        needs=("01_data", "02_finetune", "03_interactions", "04_attributes", "05_summaries")
        + ("06_recommenders",),
        makes=("headline.json",),
        seconds=70,
        keeps=("cells",),
    ),
    Stage("A1_published_split", needs=(), makes=("findings.json",), seconds=5, data="published"),
    Stage(
        "A2_released_edges",
        needs=(),
        makes=("findings.json",),
        seconds=5,
        keeps=("cells",),
        data="released-edges",
    ),
)
"""The chain, in the order in which it runs."""

ARTEFACTS: dict[str, dict[str, str]] = {
    "01_data": {name: "split" for name in ("train", "validation", "test", "held_back")}
    | {"items": "items", "users": "users", "truth": "truth"},
    "02_finetune": {"training_log": "training_log", "ledger": "ledger"},
    "03_interactions": {"interactions": "added", "zero_shot": "added"}
    | {"items": "items", "ledger": "ledger"},
    "04_attributes": {"attributes": "attributes", "ledger": "ledger"},
    "05_summaries": {"summaries": "summaries", "ledger": "ledger"},
    "06_recommenders": {"scores": "scores", "runs": "runs"},
    "07_analysis": {},
    "A1_published_split": {},
    "A2_released_edges": {"scores": "scores", "runs": "runs"},
}
"""Schema (a key of `artifacts.SCHEMAS`) of every table, by stage and table name."""


def find_stage(text: str) -> Stage:
    """Return the stage meant by `text`: "03_interactions", "03", "3" or "interactions".

    Raises:
        UserError: listing the stages when there is no such one.
    """
    for stage in STAGES:
        number, _, word = stage.name.partition("_")
        if text in (stage.name, number, number.lstrip("0"), word, stage.notebook):
            return stage
    names = ", ".join(stage.name for stage in STAGES)
    raise UserError(f"there is no stage '{text}'; the stages are {names}")


def upstream(stage: Stage) -> list[Stage]:
    """Return every stage that `stage` depends on, directly or not, in running order."""
    wanted = set(stage.needs)
    for earlier in reversed(STAGES):
        if earlier.name in wanted:
            wanted.update(earlier.needs)
    return [earlier for earlier in STAGES if earlier.name in wanted]


def project_root() -> Path | None:
    """Return the nearest folder above the current one, or the package's, that holds the book."""
    for folder in (Path.cwd(), *Path.cwd().parents, PACKAGE.parent):
        if (folder / "_config.yml").is_file() and (folder / "notebooks").is_dir():
            return folder
    return None


def book_root() -> Path:
    """Return the folder of the book's sources, or the package with its copy of the notebooks.

    Raises:
        UserError: when there are no notebooks, neither here nor in the package.
    """
    root = project_root() or (PACKAGE if (PACKAGE / "notebooks").is_dir() else None)
    if root is None:
        raise UserError(
            f"no notebooks at or above {Path.cwd()}; clone the repository and run this inside it"
        )
    return root


def runs_dir() -> Path:
    """Return the folder of all runs: `DALLREC_RUNS_DIR`, else `runs` beside the notebooks."""
    named = os.environ.get("DALLREC_RUNS_DIR")
    return Path(named).resolve() if named else (project_root() or Path.cwd()) / "runs"


def answers_path() -> Path:
    """Return the path of the cache of language models' answers that all runs share."""
    return runs_dir() / "cache" / "answers.sqlite"


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


def remedy(run: str, until: str = "") -> str:
    """Return the command that makes what a run lacks, for error messages."""
    command = f"dallrec run --run {run}" + (f" --until {until}" if until else "")
    given = "" if run == DEFAULT_RUN else ", with the --profile and -p it is made with"
    return f"run first: {command}{given}"


def missing(stage: Stage, run: str) -> list[str]:
    """Return what `stage` should have made in `run` and is not there."""
    folder = run_dir(run) / stage.name
    return [name for name in stage.makes if not (folder / name).exists()]


def select(first: str | None, last: str | None, only: Sequence[str] = ()) -> list[str] | None:
    """Return the names of the stages to consider, or None for all.

    Raises:
        UserError: for a stage that does not exist, or a choice that is empty or contradicts itself.
    """
    if only and (first or last):
        raise UserError("--only cannot be combined with --from or --until")
    if only:
        return [find_stage(text).name for text in only]
    if not first and not last:
        return None
    low = STAGES.index(find_stage(first)) if first else 0
    high = STAGES.index(find_stage(last)) if last else len(STAGES) - 1
    if low > high:
        raise UserError(f"--from {first} comes after --until {last}")
    return [stage.name for stage in STAGES[low : high + 1]]

"""What a notebook holds in its hand: typed reading and writing of artefacts, and its provenance."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from dallrec_core.chain import artefacts, freshness
from dallrec_core.chain.machine import device, peak_mib
from dallrec_core.chain.pages import DEFAULT_RUN, Page, find_page, missing, remedy, upstream
from dallrec_core.chain.parameters import check_notebook, page_parameters
from dallrec_core.chain.places import answers_path, run_dir
from dallrec_core.chain.run import CHAIN, locked, run_chain
from dallrec_core.errors import UserError


@dataclass(frozen=True)
class OpenPage:
    """A page at work inside a run; made by `begin`."""

    page: Page
    "The page in the chain's list."
    run: str
    "Name of the run."
    began: float = field(default_factory=time.monotonic)
    "Reading of the monotonic clock at the start, in seconds."

    @property
    def name(self) -> str:
        """Name of the page, e.g. "03_interactions"."""
        return self.page.name

    @property
    def folder(self) -> Path:
        """Folder of this page's artefacts."""
        return run_dir(self.run) / self.name

    def path(self, name: str) -> Path:
        """Return the path of a file or folder that this page writes."""
        return self.folder / name

    def input(self, page: str) -> Path:
        """Return the folder of an upstream page's artefacts.

        Raises:
            UserError: when this page does not declare that it reads them.
        """
        name = find_page(page).name
        if name not in (*self.page.needs, self.name):
            raise UserError(f"{self.name} does not declare {name} among its needs (pages.PAGES)")
        return run_dir(self.run) / name

    def has(self, page: str, name: str) -> bool:
        """Tell whether an upstream page left the file `name`, e.g. "truth.parquet"."""
        return (self.input(page) / name).exists()

    def read(self, page: str, table: str) -> pd.DataFrame:
        """Read a table of an upstream page, checked against its schema.

        Raises:
            UserError: when it is absent or does not fit.
        """
        path = self.input(page) / f"{table}.parquet"
        return artefacts.read_table(path, _schema(find_page(page), table))

    def read_json(self, page: str, name: str) -> Any:
        """Read a JSON artefact of an upstream page (`name` without its suffix)."""
        return artefacts.read_json(self.input(page) / f"{name}.json")

    def write(self, table: str, frame: pd.DataFrame) -> None:
        """Write a table of this page, checked against its schema.

        Raises:
            UserError: when it does not fit, or cannot be written.
        """
        schema = _schema(self.page, table)
        artefacts.write_table(frame, self.path(f"{table}.parquet"), schema)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON artefact of this page (`name` without its suffix)."""
        artefacts.write_json(value, self.path(f"{name}.json"))

    def cache(self) -> Path:
        """Return the path of the answer cache that all runs share."""
        return answers_path()

    def provenance(self, seed: int) -> pd.DataFrame:
        """Return what made this page, and leave its costs in `costs.json`.

        Rows: run, seed, commit, versions, device, input digests, wall time. All but the last are
        the same for every run of the same commit on the same kind of machine.
        """
        seconds = time.monotonic() - self.began
        costs = {"seconds": round(seconds, 1), "peak_mib": round(peak_mib()), "device": device()}
        artefacts.write_json(costs, self.path(freshness.COSTS))
        rows = {"run": self.run, "seed": str(seed), "commit": freshness.commit()}
        rows |= {"device": device(), "Python": platform.python_version()}
        rows |= {name: freshness.distribution_version(name) for name in freshness.VERSIONED}
        for name in self.page.needs:
            rows[f"input {name}"] = freshness.short_digest(find_page(name), self.run)
        rows["wall time"] = f"{seconds:.1f} s"
        return pd.DataFrame({"value": rows.values()}, index=pd.Index(rows, name="provenance"))


def _schema(page: Page, table: str) -> str:
    if table not in page.tables:
        known = ", ".join(page.tables)
        raise UserError(f"{page.name} has no table '{table}'; pages.PAGES lists {known}")
    return page.tables[table]


def begin(page: str, names: dict[str, Any]) -> OpenPage:
    """Start a notebook: make sure that its inputs are there and that its folder can be written.

    In the default run, missing inputs are made by a quick version of the notebooks before this
    one. Parameters that Papermill handed over as text become what their annotations say.

    Args:
        page: name of this notebook, e.g. "03_interactions".
        names: its variables, `globals()`; the parameters in it are checked, and changed in place.

    Raises:
        UserError: when inputs of another run are missing, the run is being worked on, or a
            parameter is not of its type or out of bounds.
    """
    opened = OpenPage(find_page(page), names.get("run", DEFAULT_RUN))
    check_notebook(opened.page, names)
    run = opened.run
    by_hand = os.environ.get(CHAIN) != f"{run}/{opened.name}"
    lacking = [earlier for earlier in upstream(opened.page) if missing(earlier, run)]
    if lacking and (run != DEFAULT_RUN or not by_hand):
        listing = ", ".join(earlier.name for earlier in lacking)
        how = remedy(run, lacking[-1].name[:2])
        raise UserError(f"{opened.name} needs {listing} of run '{run}'; {how}")
    if lacking:
        _run_missing(lacking, run)
    if by_hand:
        with locked(run):
            opened.path(freshness.MANIFEST).unlink(missing_ok=True)
            artefacts.write_json({"key": "by hand"}, opened.path(freshness.STARTED))
    return opened


def _run_missing(lacking: Sequence[Page], run: str) -> None:
    for page in lacking:
        known = page_parameters(page)
        quick = {name: value for name, value in page.quick.items() if name in known}
        listing = ", ".join(f"{name}={value}" for name, value in quick.items())
        print(f"{page.name} has not run yet: running it now{listing and f', quickly: {listing}'}")
        run_chain(run, [{page.name: quick}], only=[page.name], say=lambda _: None)
    print("`dallrec run` makes all of them in full")


def table(values: Mapping[str, Any], name: str = "value") -> pd.DataFrame:
    """Return counts and figures as a table of one column; nested names are joined by a dot."""
    flat = pd.json_normalize(dict(values)).astype(object).iloc[0]
    cells = [f"{v:,.4g}" if isinstance(v, float) else f"{v:,}" for v in flat]
    labels = [str(label).replace("_", " ") for label in flat.index]
    return pd.DataFrame({name: cells}, index=pd.Index(labels, name=""))

"""What a notebook holds in its hand: typed reading and writing of artefacts, and its provenance."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from dallrec_core.chain import artefacts, freshness, pages
from dallrec_core.chain.pages import Page, find_page, run_dir
from dallrec_core.chain.parameters import check, own_parameters
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
        return artefacts.read_table(self.input(page) / f"{table}.parquet", table)

    def read_json(self, page: str, name: str) -> Any:
        """Read a JSON artefact of an upstream page (`name` without its suffix)."""
        return artefacts.read_json(self.input(page) / f"{name}.json")

    def write(self, table: str, frame: pd.DataFrame) -> None:
        """Write a table of this page, checked against its schema.

        Raises:
            UserError: when it does not fit, or cannot be written.
        """
        artefacts.write_table(frame, self.path(f"{table}.parquet"), table)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON artefact of this page (`name` without its suffix)."""
        artefacts.write_json(value, self.path(f"{name}.json"))

    def cache(self) -> Path:
        """Return the path of the answer cache that all runs share."""
        return pages.runs_dir() / "cache" / "answers.sqlite"

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
        rows |= {name: metadata.version(name) for name in freshness.VERSIONED}
        for name in self.page.needs:
            rows[f"input {name}"] = freshness.short_digest(find_page(name), self.run)
        rows["wall time"] = f"{seconds:.1f} s"
        return pd.DataFrame({"value": rows.values()}, index=pd.Index(rows, name="provenance"))


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
    opened = OpenPage(find_page(page), names.get("run", pages.DEFAULT_RUN))
    given = {name: names[name] for name in own_parameters(opened.page) if name in names}
    names.update(check(opened.page, given))
    run = opened.run
    by_hand = os.environ.get(CHAIN) != f"{run}/{opened.name}"
    absent = pages.lacking(opened.page, run)
    if absent and by_hand and run == pages.DEFAULT_RUN:
        _run_quickly(absent, run)
    pages.require(opened.page, run)
    if by_hand:
        with locked(run):
            opened.path(freshness.MANIFEST).unlink(missing_ok=True)
            artefacts.write_json({"key": "by hand"}, opened.path(freshness.STARTED))
    return opened


def _run_quickly(absent: Sequence[Page], run: str) -> None:
    for page in absent:
        listing = ", ".join(f"{name}={value}" for name, value in page.quick.items())
        print(f"{page.name} has not run yet: running it now{listing and f', quickly: {listing}'}")
        run_chain(run, [{page.name: dict(page.quick)}], only=[page.name], say=lambda _: None)
    print("`dallrec run` makes all of them in full")


def table(values: Mapping[str, Any], name: str = "value") -> pd.DataFrame:
    """Return counts and figures as a table of one column; nested names are joined by a dot."""
    flat = pd.json_normalize(dict(values)).astype(object).iloc[0]
    cells = [f"{v:,.4g}" if isinstance(v, float) else f"{v:,}" for v in flat]
    labels = [str(label).replace("_", " ") for label in flat.index]
    return pd.DataFrame({name: cells}, index=pd.Index(labels, name=""))


def peak_mib() -> float:
    """Return the largest resident memory of this process so far, in MiB.

    On Linux `ru_maxrss` starts at the peak of the process that started this one, so every small
    child of a large parent looks large; the kernel's own status has no such inheritance.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def device() -> str:
    """Return the device that torch computes on here: the GPU's name, or "cpu"."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return "cpu"

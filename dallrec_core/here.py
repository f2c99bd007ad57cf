"""What a notebook holds in its hand: typed reading and writing of artefacts, and its provenance."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.core.getipython import get_ipython
from IPython.display import Markdown, display

from dallrec_core import artifacts, keys
from dallrec_core.datasets.download import ensure, is_here
from dallrec_core.datasets.origins import folder_of
from dallrec_core.errors import UserError
from dallrec_core.layout import ARTEFACTS, Stage, answers_path, find_stage, run_dir
from dallrec_core.memory import device, peak_mib


@dataclass(frozen=True)
class Here:
    """A stage at work inside a run; made by `stages.begin`."""

    stage: Stage
    "The stage that is running."
    run: str
    "Name of the run."
    began: float = field(default_factory=time.monotonic)
    "Reading of the monotonic clock at the start, in seconds."

    @property
    def folder(self) -> Path:
        """Folder of this stage's artefacts."""
        return run_dir(self.run) / self.stage.name

    def path(self, name: str) -> Path:
        """Return the path of a file or folder that this stage writes."""
        return self.folder / name

    def input(self, stage: str) -> Path:
        """Return the folder of an upstream stage's artefacts.

        Raises:
            UserError: when this stage does not declare that it reads them.
        """
        name = find_stage(stage).name
        if name not in (*self.stage.needs, self.stage.name):
            raise UserError(
                f"{self.stage.name} does not declare {name} among its needs (layout.STAGES)"
            )
        return run_dir(self.run) / name

    def has(self, stage: str, name: str) -> bool:
        """Tell whether an upstream stage left the file `name`, e.g. "truth.parquet"."""
        return (self.input(stage) / name).exists()

    def read(self, stage: str, table: str) -> pd.DataFrame:
        """Read a table of an upstream stage, checked against its schema.

        Raises:
            UserError: when it is absent or does not fit.
        """
        folder = self.input(stage)
        return artifacts.read_table(folder / f"{table}.parquet", _schema(folder.name, table))

    def read_json(self, stage: str, name: str) -> Any:
        """Read a JSON artefact of an upstream stage (`name` without its suffix)."""
        return artifacts.read_json(self.input(stage) / f"{name}.json")

    def write(self, table: str, frame: pd.DataFrame) -> None:
        """Write a table of this stage, checked against its schema.

        Raises:
            UserError: when it does not fit, or cannot be written.
        """
        schema = _schema(self.stage.name, table)
        artifacts.write_table(frame, self.path(f"{table}.parquet"), schema)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON artefact of this stage (`name` without its suffix)."""
        artifacts.write_json(value, self.path(f"{name}.json"))

    def needs_data(self, download: bool = False) -> None:
        """End the page here, with a note, where its dataset is not on this machine.

        The cells below this one then do nothing, but for the one with the provenance, and the
        artefacts say why. To be called last in its cell.

        Args:
            download: fetch what is missing instead.

        Raises:
            UserError: outside of a notebook, or when what is asked for cannot be fetched.
        """
        name = self.stage.data
        if download:
            ensure(folder_of(name))
        if is_here(name):
            return
        number = self.stage.name.partition("_")[0]
        note = (
            f"Not computed here, because the files of `{folder_of(name)}` are not on this machine. "
            f"`dallrec data {name}` fetches and verifies them; then run `dallrec run --only "
            f"{number}` again. `DALLREC_DATA_DIR` names a folder that has them already, and the "
            "parameter `download` fetches them from within this page."
        )
        shell = get_ipython()
        if shell is None:
            raise UserError(note)
        for made in self.stage.makes:
            self.write_json(made.removesuffix(".json"), {"skipped": note})
        shell.input_transformers_cleanup.append(_only_provenance)
        display(Markdown(f"**{note}**"))

    def cache(self) -> Path:
        """Return the path of the answer cache that all runs share.

        Raises:
            UserError: when its folder cannot be made.
        """
        path = answers_path()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the folder {path.parent}: {error.strerror}") from error
        return path

    def provenance(self, seed: int) -> pd.DataFrame:
        """Return what made this page, and leave its costs in `costs.json`.

        Rows: run, seed, commit, versions, device, input digests, wall time. All but the last are
        the same for every run of the same commit on the same kind of machine.
        """
        seconds = time.monotonic() - self.began
        self.write_json(
            "costs",
            {"seconds": round(seconds, 1), "peak_mib": round(peak_mib()), "device": device()},
        )
        rows = {"run": self.run, "seed": str(seed), "commit": keys.commit(), "device": device()}
        rows["Python"] = platform.python_version()
        rows |= {name: keys.distribution_version(name) for name in keys.VERSIONED}
        for name in self.stage.needs:
            rows[f"input {name}"] = keys.short_digest(find_stage(name), self.run)
        rows["wall time"] = f"{seconds:.1f} s"
        return pd.DataFrame({"value": rows.values()}, index=pd.Index(rows, name="provenance"))


def _only_provenance(lines: list[str]) -> list[str]:
    return lines if any(".provenance(" in line for line in lines) else []


def table(values: Mapping[str, Any], name: str = "value") -> pd.DataFrame:
    """Return counts and figures as a table of one column; nested names are joined by a dot."""
    flat = dict(_flat(values))
    shown = [f"{v:,.4g}" if isinstance(v, float) else f"{v:,}" for v in flat.values()]
    return pd.DataFrame({name: shown}, index=pd.Index(flat, name=""))


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        label = f"{above}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{label}.")
        else:
            yield label, value


def _schema(stage: str, table: str) -> str:
    known = ARTEFACTS[stage]
    if table not in known:
        raise UserError(
            f"{stage} has no table '{table}'; layout.ARTEFACTS lists {', '.join(known)}"
        )
    return known[table]

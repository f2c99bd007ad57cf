"""Generated pages: what each notebook took and on what, and what each profile needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import nbformat
import pandas as pd

from dallrec_core.chain import artefacts, freshness
from dallrec_core.chain.pages import PAGES, Page
from dallrec_core.chain.places import run_dir
from dallrec_core.chain.profiles import profiles
from dallrec_core.llm.ledger import COUNTS, ledger_table

_HEAD = """\
# Status of this build

The notebooks of this book were executed by Papermill before the pages were built. This page is
written from the metadata that Papermill and the stages left.

"""


def status_page(run: str) -> str:
    """Return the status page of a run as Markdown: times, slowest cells, versions, inputs."""
    executed = [stage for stage in PAGES if _notebook(stage, run).is_file()]
    parts = [_HEAD, _summary(executed, run), _times(executed, run), _ledger(executed, run)]
    return "\n".join([*parts, _inputs(executed, run)])


def profile_table(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the profiles as a Markdown table: what they run, on what, and what that took.

    Args:
        measured: `notebooks/profiles/measured.json`: for each profile its minutes, peak_mib,
            machine, date and commit.
    """
    rows = []
    for profile in profiles():
        took = measured.get(profile.name)
        cost = "not measured yet"
        if took:
            cost = (
                f"{took['minutes']:.0f} min, {took['peak_mib'] / 1024:.1f} GiB ({took['machine']})"
            )
        rows.append((f"`{profile.name}`", profile.description, profile.hardware, cost))
    return _table(["profile", "what it runs", "what it needs", "measured"], rows)


def _notebook(stage: Page, run: str) -> Any:
    return run_dir(run) / "notebooks" / stage.notebook


def _summary(stages: Sequence[Page], run: str) -> str:
    manifests = [m for stage in stages if (m := freshness.read_manifest(stage, run))]
    total = sum(manifest["seconds"] for manifest in manifests)
    facts = {
        "run": run,
        "commit": _joined(m["commit"] for m in manifests),
        "seed": _joined(m["parameters"].get("seed", "") for m in manifests),
        "device": _joined(_costs(stage, run).get("device", "") for stage in stages),
        "Python": _joined(m["python"] for m in manifests),
        **{
            name: _joined(m["parts"]["versions"][name] for m in manifests)
            for name in freshness.VERSIONED
        },
        "notebooks in all": f"{total:.0f} s",
    }
    return _table(["", "this build"], facts.items())


def _joined(values: Iterable[Any]) -> str:
    return ", ".join(sorted({str(value) for value in values if str(value)})) or "unknown"


def _times(stages: Sequence[Page], run: str) -> str:
    rows = []
    for stage in stages:
        notebook = nbformat.read(_notebook(stage, run), as_version=4)
        manifest = freshness.read_manifest(stage, run) or {}
        seconds = notebook.metadata.get("papermill", {}).get("duration") or 0.0
        link = f"[{stage.name}](../notebooks/{stage.name})"
        peak = _costs(stage, run).get("peak_mib", "")
        slowest = _slowest(notebook)
        rows.append((link, f"{seconds:.1f}", *slowest, peak, _minute(manifest)))
    head = ["notebook", "seconds", "slowest cell", "its seconds", "peak MiB", "finished (UTC)"]
    return "\n## Time and memory per notebook\n\n" + _table(head, rows)


def _ledger(stages: Sequence[Page], run: str) -> str:
    """What the language model cost, task by task, and all of it."""
    files = [run_dir(run) / stage.name / "ledger.parquet" for stage in stages]
    tables = [artefacts.read_table(file, "ledger") for file in files if file.is_file()]
    if not tables:
        return ""
    whole = pd.concat(tables, ignore_index=True)
    rows = [
        (stage, task, *counts)
        for stage, (task, *counts) in zip(
            whole["stage"], ledger_table(whole).itertuples(), strict=True
        )
    ]
    total = whole[list(COUNTS)].sum()
    sums = [f"{total[column]:,}" for column in COUNTS]
    rows.append(("all", "", *sums, f"{whole['seconds'].sum():.1f}", "", ""))
    note = (
        "\n## Cost of the language model\n\nTokens were read (in) and written (out), or saved: by "
        "encoding a shared beginning once, and by answers that earlier questions had left in the "
        "cache. Memory is the largest up to then.\n\n"
    )
    return note + _table(["notebook", "task", *ledger_table(whole).columns], rows)


def _minute(manifest: Mapping[str, Any]) -> str:
    return str(manifest.get("finished", "by hand"))[:16].replace("T", " ")


def _slowest(notebook: Any) -> tuple[str, str]:
    """Return the heading above the slowest cell, and that cell's seconds."""
    heading, best = "", ("", 0.0)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            headings = [line for line in cell.source.splitlines() if line.startswith("#")]
            heading = headings[-1].lstrip("# ") if headings else heading
        seconds = cell.metadata.get("papermill", {}).get("duration") or 0.0
        best = max(best, (heading, seconds), key=lambda pair: pair[1])
    return best[0].replace("|", " "), f"{best[1]:.1f}"


def _inputs(stages: Sequence[Page], run: str) -> str:
    rows = [
        (stage.name, f"`{freshness.short_digest(stage, run)}`", f"`{_key(stage, run)}`")
        for stage in stages
    ]
    note = (
        "\n## Content of the artefacts\n\nEqual digests mean equal results, times left out. "
        "The key covers code, parameters, library, inputs and versions.\n\n"
    )
    return note + _table(["stage", "content digest", "key"], rows)


def _key(stage: Page, run: str) -> str:
    return freshness.actual_key(stage, run)[:12]


def _costs(stage: Page, run: str) -> dict[str, Any]:
    return freshness.read_json_or_none(run_dir(run) / stage.name / "costs.json") or {}


def _table(head: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"

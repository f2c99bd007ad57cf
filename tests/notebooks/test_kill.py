"""Killed at random moments, the run goes on from there and ends as if nothing had happened."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import nbformat
import papermill
import psutil
import pyarrow.parquet as pq
import pytest
from llm_support import make_checkpoint
from no_kernel import execute_notebook
from safetensors import safe_open
from second_run import ROOT, SMALL
from tiny_book import write_book, write_page

from dallrec_core.chain import freshness
from dallrec_core.chain.pages import PAGES, Page
from dallrec_core.cli import main

CHAIN = [page for page in PAGES if not page.data]
LONGEST = 3.0
"""Seconds after the start of a page until which it is killed."""
KILLS = 4
"""Pages that are killed once; which ones is drawn anew each time."""

# A run is a fork of one process that has imported everything, which is quicker than a new one.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["dallrec_core.cli", "dallrec_core.plots", "dallrec_core.llm.finetune", "papermill", "peft",
     "sklearn.metrics", "statsmodels.api", "transformers.trainer"]
)  # fmt: skip

FIRST_PAGES = {
    "02.n_examples": 8, "02.held_out": 16, "02.epochs": 2, "02.curve_sizes": "[4]",
    "02.probes": 8, "02.probed_users": 8, "03.attributes_first": "false", "03.budget": 60,
    "03.confirm": "nothing",  # the answers of a model this small confirm nothing
    "04.max_items": 6, "04.max_new_tokens": 6, "04.fact_tokens": 6,
    "05.max_items": 40, "05.max_new_tokens": 6,
}  # fmt: skip


def dallrec(runs: Path, log: Path, *arguments: str) -> None:
    """Enter the command in this process, with every notebook in it instead of in a kernel."""
    papermill.execute_notebook = execute_notebook
    os.environ["DALLREC_RUNS_DIR"] = str(runs)
    os.chdir(ROOT)
    sys.stdout = sys.stderr = log.open("w", encoding="utf-8", buffering=1)
    main(arguments)


def start(runs: Path, model: Path) -> tuple[ForkServerProcess, Path]:
    """Start the small chain; return its process and where it writes what it says."""
    small = FIRST_PAGES | SMALL | {"02.language_model": model}
    options = [word for name, value in small.items() for word in ("-p", f"{name}={value}")]
    log = runs.with_suffix(".log")
    log.write_text("")
    arguments = (runs, log, "run", "--until", CHAIN[-1].name, *options)
    process = FORKS.Process(target=dallrec, args=arguments)
    process.start()
    return process, log


def kill_within(process: ForkServerProcess, log: Path, page: Page, delay: float) -> None:
    """Kill the command `delay` seconds after it has begun with the page, or found it fresh."""
    while not re.search(rf"^{page.name} +(running|fresh)", log.read_text(), re.MULTILINE):
        assert process.is_alive(), log.read_text()
        time.sleep(0.02)
    time.sleep(delay)
    process.kill()
    process.join()


def finish(process: ForkServerProcess, log: Path) -> str:
    """Wait for the end of the command and return what it said."""
    process.join(timeout=900)
    assert process.exitcode == 0, log.read_text()
    return log.read_text()


OPEN: dict[str, Callable[[Path], object]] = {
    ".parquet": pq.read_table,
    ".json": lambda path: json.loads(path.read_text()),
    ".jsonl": lambda path: [json.loads(line) for line in path.read_text().splitlines()],
    ".ipynb": lambda path: nbformat.validate(nbformat.read(path, as_version=4)),
    ".safetensors": lambda path: safe_open(path, "np").keys(),
}
"""How readers open a file; one that is half-written cannot be opened."""


def answers(runs: Path) -> dict[str, str]:
    with sqlite3.connect(runs / "cache" / "answers.sqlite") as store:
        return dict(store.execute("SELECT key, value FROM answers").fetchall())


@pytest.mark.slow
def test_killed_in_pages_drawn_at_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # a process with threads cannot be forked
    killed, left_alone = tmp_path / "killed", tmp_path / "left alone"
    model = make_checkpoint(tmp_path / "model", places=4096)
    undisturbed = start(left_alone, model)
    seed = time.time_ns() % 1000
    print(f"pages and moments drawn with seed {seed}")  # shown when the test fails
    moments = random.Random(seed)
    places = sorted(moments.sample(range(len(CHAIN)), KILLS))
    for page in (CHAIN[place] for place in places):
        kill_within(*start(killed, model), page, moments.uniform(0, LONGEST))
        for path in killed.rglob("*"):
            if path.suffix in OPEN and ".partial" not in str(path):
                OPEN[path.suffix](path)
    assert finish(*start(killed, model)).count(" fresh") >= places[-1]
    finish(*undisturbed)
    found = {}
    for runs in (killed, left_alone):
        monkeypatch.setenv("DALLREC_RUNS_DIR", str(runs))
        found[runs] = {page.name: freshness.digests(page, "smoke") for page in CHAIN}
    assert found[killed] == found[left_alone]
    assert answers(killed) == answers(left_alone)
    left = [path for path in (killed / "smoke").rglob("*") if ".partial" in path.name]
    left += [*killed.rglob("started.json"), *killed.rglob("*.checkpoint")]
    assert not left


@pytest.mark.parametrize("how", ["orphan", "interrupt"])
def test_a_kernel_does_not_outlive_the_command(tmp_path: Path, how: str) -> None:
    root = write_book(tmp_path)
    write_page(root / "notebooks", "02_finetune", "page.path('begun').touch(); time.sleep(600)")
    process = subprocess.Popen(
        [sys.executable, "-m", "dallrec_core.cli", "run"],
        cwd=root,
        env=os.environ | {"DALLREC_RUNS_DIR": str(root / "runs")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # a job in the background of a script would hand down that Ctrl-C is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not (root / "runs/smoke/02_finetune/begun").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    kernels = psutil.Process(process.pid).children(recursive=True)
    process.kill() if how == "orphan" else process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=120)[0]
    assert not psutil.wait_procs(kernels, timeout=20)[1], "a kernel is still running"
    assert output.count("done in") == 1 and "Traceback" not in output
    if how == "interrupt":
        assert process.returncode == 130 and "the same command continues" in output
    assert not (root / "runs/smoke/02_finetune/manifest.json").exists()
    assert not (root / "runs/smoke/notebooks/02_finetune.ipynb").exists()

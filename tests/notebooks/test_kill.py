"""Killed in every stage, the run goes on from there and ends as if nothing had happened.

One run is left alone (in one process, without kernels, to be quick). Another, with the same
parameters, is killed once in each of the seven stages, at the points where work could be lost or
done twice, and is started again each time.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from safetensors import safe_open
from second_run import ROOT

from dallrec_core.cli import main
from dallrec_core.layout import Stage, find_stage

# Read by Python at its start, in every kernel: notes calls of a few functions, and stops for good
# after the one that the environment names, so that the process can be killed just there.
HOOK = """
import importlib.util, os, sys, time
from pathlib import Path

WATCHED = {
    "pyarrow.parquet": "write_table",
    "dallrec_core.llm.adapters": "mark_complete",
    "dallrec_core.llm.cache": "AnswerCache.put_many",
    "dallrec_core.training": "_Run._save",
    "dallrec_core.statistics": "compare",
}
STOP = os.environ.get("STOP_AFTER", "")
seen = []


def watch(module, dotted):
    owner, _, name = dotted.rpartition(".")
    owner = getattr(module, owner) if owner else module
    original = getattr(owner, name)

    def watched(*values, **options):
        result = original(*values, **options)
        note(dotted, values)
        return result

    setattr(owner, name, watched)


def note(dotted, values):
    stage = os.environ["DALLREC_CHAIN"].rpartition("/")[2]
    call = f"{stage}:{dotted}"
    seen.append(call)
    keys = ",".join(values[1]) if dotted == "AnswerCache.put_many" else ""
    with open(os.environ["CALLS"], "a") as file:
        file.write(f"{call} {keys}\\n")
    if STOP == f"{call}:{seen.count(call)}":
        if dotted == "write_table":  # as if killed in the middle of the file
            os.truncate(values[1], os.path.getsize(values[1]) // 2)
        Path(os.environ["CALLS"] + stage).touch()
        time.sleep(600)


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in WATCHED:
            return None
        sys.meta_path.remove(Finder)
        spec = importlib.util.find_spec(name)
        sys.meta_path.insert(0, Finder)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            watch(module, WATCHED[name])

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder)
"""

# Runs every notebook in the process of the command.
NO_KERNELS = """
import papermill
from no_kernel import execute_notebook
papermill.execute_notebook = execute_notebook
from dallrec_core.cli import main
main()
"""

# After which call of which function each stage is killed.
POINTS = {
    "01_data": "write_table:3",  # in the middle of the third table
    "02_finetune": "mark_complete:3",  # the second adapter has had the first of two epochs
    "03_interactions": "AnswerCache.put_many:2",
    "04_attributes": "AnswerCache.put_many:1",  # genres are answered, facts are not
    "05_summaries": "AnswerCache.put_many:1",
    "06_recommenders": "_Run._save:3",  # the first training is finished, the second is under way
    "07_analysis": "compare:1",
}
LAST = list(POINTS)[-1]  # the appendices are pages of their own, and nothing depends on them
ORPHANED = "03_interactions"  # only `dallrec` itself is killed: the kernel has to notice
INTERRUPTED = "05_summaries"  # Ctrl-C

SMALL = {
    "02.n_examples": 8,
    "02.held_out": 16,
    "02.epochs": 2,
    "02.curve_sizes": "[4]",
    "02.probes": 8,
    "02.probed_users": 8,
    "03.attributes_first": "false",  # page 4 is killed while it writes them
    "03.budget": 60,
    "03.confirm": "false",  # the answers of a model this small confirm nothing
    "04.max_items": 6,
    "04.max_new_tokens": 6,
    "04.fact_tokens": 6,
    "05.max_items": 40,
    "05.max_new_tokens": 6,
    "06.backbones": "[MF-BPR, LightGCN, MMSSL]",
    "06.references": "[Popularity]",
    "06.arms": "[base, dallrec, self]",
    "06.seeds": 1,
    "06.epochs": 6,
    "06.jobs": 1,
    "07.resamples": 50,
    "07.trials": 1,
    "07.fractions": "[1.0]",
    "07.surest": "[0.5]",
    "07.caps": "[5]",
    "07.qualities": "[0.7]",
}


class Chain:
    """`dallrec run` in a folder of runs of its own."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.runs = folder / "runs"
        self.run = self.runs / "smoke"
        self.calls = folder / "calls"
        self.hook = folder / "hook"
        self.hook.mkdir(parents=True)
        (self.hook / "sitecustomize.py").write_text(HOOK)
        small = SMALL | {"02.language_model": model}
        self.options = [word for name in small for word in ("-p", f"{name}={small[name]}")]

    def start(self, stop_after: str = "", kernels: bool = True) -> subprocess.Popen[str]:
        folders = [str(self.hook), str(ROOT / "tests" / "unit"), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "DALLREC_RUNS_DIR": str(self.runs),
            "PYTHONPATH": os.pathsep.join(folders).rstrip(os.pathsep),
            "CALLS": str(self.calls),
            "STOP_AFTER": stop_after,
            "OMP_NUM_THREADS": "1",
        }
        how = ["-m", "dallrec_core.cli"] if kernels else ["-c", NO_KERNELS]
        return subprocess.Popen(
            [sys.executable, *how, "run", "--until", LAST, *self.options],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # a job in the background of a script would hand down that Ctrl-C is ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def wait_for_stop(self, stage: Stage, process: subprocess.Popen[str]) -> None:
        marker = self.calls.with_name(self.calls.name + stage.name)
        deadline = time.monotonic() + 240
        while not marker.exists():
            if process.poll() is not None:
                pytest.fail(f"it ended before it could be killed: {process.communicate()[0]}")
            assert time.monotonic() < deadline, f"{stage.name} has not come to its point"
            time.sleep(0.05)

    def count(self) -> Counter[str]:
        """How often each function was called in each stage."""
        return Counter(line.split()[0] for line in self.calls.read_text().splitlines())

    def asked(self) -> list[str]:
        """Keys of all questions that were put to the model, in order."""
        lines = [line.split() for line in self.calls.read_text().splitlines()]
        return [key for line in lines if len(line) == 2 for key in line[1].split(",")]

    def answers(self) -> dict[str, str]:
        with sqlite3.connect(self.runs / "cache" / "answers.sqlite") as store:
            return dict(store.execute("SELECT key, value FROM answers").fetchall())

    def says(self, *arguments: str) -> str:
        """What a command prints that needs no kernel."""
        environment = {"DALLREC_RUNS_DIR": str(self.runs)}
        result = CliRunner().invoke(main, arguments, env=environment)
        assert result.exit_code == 0, result.output
        return result.output


def make_model(folder: Path) -> Path:
    from llm_support import make_checkpoint

    make_checkpoint(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}))
    return folder


def kill(process: subprocess.Popen[str], how: str) -> str:
    """End the command as `how` says and return what it had printed."""
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    if how == "interrupt":
        process.send_signal(signal.SIGINT)
    else:
        for member in tree[:1] if how == "orphan" else tree:
            member.kill()
    output = process.communicate(timeout=600)[0]
    gone, alive = psutil.wait_procs(tree, timeout=20)
    assert not alive, f"still running after {how}: {alive}"
    return output


def whole(path: Path) -> Any:
    """Open a file the way its readers do; one that is half-written cannot be opened."""
    match path.suffix:
        case ".parquet":
            return pq.read_table(path)
        case ".json":
            return json.loads(path.read_text(encoding="utf-8"))
        case ".jsonl":
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        case ".ipynb":
            return nbformat.validate(nbformat.read(path, as_version=4))
        case ".safetensors":
            return safe_open(path, "np").keys()


def check_what_is_left(chain: Chain, stage: Stage) -> None:
    for path in chain.runs.rglob("*"):
        if path.is_file() and ".partial" not in str(path):
            whole(path)
    assert not (chain.run / stage.name / "manifest.json").exists()
    assert not (chain.run / "notebooks" / stage.notebook).exists()


@pytest.mark.slow
def test_killed_in_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    model = make_model(tmp_path / "model")
    left_alone, killed = (Chain(tmp_path / name, model) for name in ("left alone", "killed"))
    undisturbed = left_alone.start(kernels=False)
    for number, stage in enumerate(map(find_stage, POINTS)):
        process = killed.start(f"{stage.name}:{POINTS[stage.name]}")
        killed.wait_for_stop(stage, process)
        how = {ORPHANED: "orphan", INTERRUPTED: "interrupt"}.get(stage.name, "kill")
        output = kill(process, how)
        assert output.count(" fresh") == max(0, number - 1), output
        assert "Traceback" not in output and "error" not in output
        if how == "interrupt":
            assert process.returncode == 130 and "the same command continues" in output
        check_what_is_left(killed, stage)
    last = killed.start()
    output = last.communicate(timeout=900)[0]
    assert last.returncode == 0 and output.count(" fresh") == len(POINTS) - 1, output
    assert undisturbed.wait(timeout=900) == 0, undisturbed.communicate()[0]
    compare(killed, left_alone)


def compare(killed: Chain, left_alone: Chain) -> None:
    plan = killed.says("run", "--dry-run", "--until", LAST, *killed.options).splitlines()
    assert len(plan) == len(POINTS) and all(line.endswith(" fresh") for line in plan)
    assert killed.says("digests") == left_alone.says("digests")
    # No question was asked twice, and every answer is the same to the last bit.
    assert len(killed.asked()) == len(set(killed.asked())) == len(killed.answers())
    assert killed.answers() == left_alone.answers()
    # No epoch of an adapter and no look of a recommender was repeated.
    for work in ("02_finetune:mark_complete", "06_recommenders:_Run._save"):
        assert killed.count()[work] == left_alone.count()[work] > 0
    leftovers = [path for path in killed.run.rglob("*") if ".partial" in path.name]
    leftovers += [*killed.run.rglob("started.json"), *killed.run.rglob("*.checkpoint")]
    assert not leftovers

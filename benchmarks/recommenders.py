"""Measure the recommenders on MovieLens-1M: quality, time and memory, on one thread.

    DALLREC_DATA_DIR=… python benchmarks/recommenders.py --json results.json
    python benchmarks/recommenders.py --quick                  # within ten minutes, not final
    python benchmarks/recommenders.py --only LightGCN limits --json results.json
    python benchmarks/recommenders.py --peers PYTHON [PYTHON …]   # other libraries' environments

Data: the authors' released `train.txt`, a random tenth of each user's rows held out for validation;
the test file is not read. Each part runs in a process of its own. Times are CPU seconds, but run it
on a quiet machine all the same: whoever shares caches and memory is felt.

The JSON holds, by backbone, `valid_recall@20` (weights with the best validation nDCG@20),
`seconds_per_epoch` (training alone), `cpu_seconds_to_target` (training until Recall@20 is first
seen at its target, null if never) and `peak_mib` (of the whole process); and `evaluation`,
`limits`, `peers` and `growth`, whose modules say what they hold. The file is rewritten after each
part. With --only it keeps what it had of other parts.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import growth, peers, ranking
from benchmarks.backbones import REFERENCES, TARGETS, TRAINED
from benchmarks.process import call, plain, say
from dallrec_core.chain.artefacts import write_json

BACKBONES = (*REFERENCES, *TRAINED)
PARTS = ("limits", "evaluation", *BACKBONES, "peers", "growth")
"""In the order in which they run."""
OTHERS = ("evaluation", "limits", "peers", "growth")

QUICK: dict[str, dict[str, Any]] = {
    "backbone": {"epochs": 2},
    "peers": {"cap_seconds": 20.0},
    "growth": {"steps": 6, "seconds": 15.0},
}
"""What --quick changes."""


class Results:
    """What is measured so far, on disk after every change."""

    def __init__(self, path: Path | None, keep: bool) -> None:
        self.path = path
        self.table: dict[str, Any] = {}
        if keep and path is not None and path.is_file():
            self.table = json.loads(path.read_text(encoding="utf-8"))
        for name in OTHERS:
            self.table.setdefault(name, {})

    def put(self, name: str, value: dict[str, Any]) -> None:
        """Set a part's result, in the order of the report, and write the file."""
        table = self.table | {name: plain(value)}
        order = [name for name in (*BACKBONES, *OTHERS) if name in table]
        self.table = {name: table[name] for name in order}
        if self.path is not None:
            write_json(self.table, self.path)


def run(
    file: str,
    parts: list[str],
    results: Results,
    *,
    quick: bool = False,
    pythons: list[str] | None = None,
    sizes: tuple[int, ...] = growth.SIZES,
) -> list[str]:
    """Measure `parts` on the data in `file`; return those that failed."""
    mark = {"quick": True} if quick else {}
    options = QUICK if quick else dict.fromkeys(QUICK, {})

    def backbone(name: str) -> None:
        made = call("backbones:measure", file=file, name=name, **options["backbone"])
        results.put(name, made | mark)

    def grown() -> None:
        made: dict[str, Any] = {name: {} for name in growth.BACKBONES}
        for size in [size for size in sizes if not quick or size <= 10_000_000]:
            with tempfile.TemporaryDirectory() as folder:
                data = str(Path(folder) / "synthetic.npz")
                about = call("data:synthetic", path=data, interactions=size)
                for name in growth.BACKBONES:
                    point = call("growth:measure", file=data, name=name, **options["growth"])
                    made[name][f"{size / 1e6:g}M"] = about | point | mark
                    growth.ratios(made[name])
                    results.put("growth", made)

    def others() -> None:
        if not pythons:
            say("peers: none, because no environment is named with --peers")
        results.put("peers", peers.measure(file, pythons or [], **options["peers"]))

    steps: dict[str, Callable[[], None]] = {
        "limits": lambda: results.put("limits", call("limits:measure", file=file)),
        "evaluation": lambda: results.put("evaluation", call("ranking:measure", file=file)),
        "peers": others,
        "growth": grown,
    }
    failed = []
    for part in parts:
        say(f"--- {part}")
        try:
            steps[part]() if part in steps else backbone(part)
        except RuntimeError as error:  # the other parts can still be measured
            say(f"{part}: {error}")
            failed.append(part)
    return failed


def report(table: dict[str, Any]) -> str:
    """Return the results as text."""
    lines = [f"{'':12}  R@20   target   s/epoch   s to target   peak MiB   epochs (best)"]
    for name in (name for name in BACKBONES if "valid_recall@20" in table.get(name, {})):
        row = table[name]
        target = TARGETS.get(name, (None,))[0]
        lines.append(
            f"{name:12}  {row['valid_recall@20']:.4f} {_number(target, 7, 3)} "
            f"{_number(row['seconds_per_epoch'], 9, 3)} "
            f"{_number(row['cpu_seconds_to_target'], 13, 1)} {row['peak_mib']:10.0f}   "
            f"{row['epochs']} ({row['best_epoch']}){'  quick' if row.get('quick') else ''}"
        )
    for name, row in table["peers"].items():
        lines.append(
            f"{name:12}  {row['valid_recall@20']:.4f} {'':7} {row['seconds_per_epoch']:9.3f} "
            f"{_number(row['cpu_seconds_to_target'], 13, 1)} {row['peak_mib']:10.0f}   "
            f"{row['epochs']}, best after {row['cpu_seconds']:.1f} s"
            f"{', capped' if row['capped'] else ''}"
        )
    if table["evaluation"]:
        lines.append(f"evaluation: {ranking.summary(table['evaluation'])}")
    if limits := table["limits"]:
        layer = limits["graph_layer_measured_seconds"] / limits["graph_layer_seconds"]
        lines.append(
            f"limits: copy {limits['copy_gb_per_s']:.1f} GB/s, GEMM "
            f"{limits['gemm_gflop_per_s']:.0f} GFLOP/s; BPR epoch {limits['bpr_epoch_seconds']:.3f}"
            f" s; graph layer {limits['graph_layer_seconds'] * 1e3:.1f} ms (measured {layer:.1f}x)"
        )
    for name, points in table["growth"].items():
        shown = [
            f"{size}: {point['seconds_per_interaction'] * 1e6:.2f} us per interaction "
            f"({point['ratio']:.2f}x; a random row {point['row_ratio']:.1f}x), "
            f"{point['peak_mib']:,.0f} MiB"
            for size, point in points.items()
        ]
        lines.append(f"growth of {name}: {'; '.join(shown)}")
    return "\n".join(lines)


def _number(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{width}.{digits}f}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status is 1 when something failed or a list was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="NAME", default=list(PARTS))
    parser.add_argument("--skip", nargs="+", choices=PARTS, metavar="NAME", default=[])
    parser.add_argument("--quick", action="store_true", help="few epochs; quality is not final")
    parser.add_argument("--peers", nargs="+", metavar="PYTHON", help="their interpreters")
    options = parser.parse_args(arguments)
    # an ended run must not leave its measuring process behind
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parts = [part for part in PARTS if part in options.only and part not in options.skip]
    results = Results(options.json, keep=len(options.only) < len(PARTS))
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "data.npz")
        say("data:", call("data:prepare", path=file))
        failed = run(file, parts, results, quick=options.quick, pythons=options.peers)
    print(report(results.table))
    if options.quick:
        print("--quick: trained for few epochs, so qualities and times to targets are not final.")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed or results.table["evaluation"].get("lists_wrong") else 0


if __name__ == "__main__":
    sys.exit(main())

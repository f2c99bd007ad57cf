"""Measure how fast a language model is tuned on questions about users, on the processor.

    python benchmarks/finetune.py --json results.json
    python benchmarks/finetune.py --dtype bfloat16       # where the processor multiplies it
    python benchmarks/finetune.py --quick                # few steps, noisier
    python benchmarks/finetune.py --threads 1            # in CPU seconds, on a busy machine

**Ours** is the trainer of `finetune`: the eight questions of a step are about one user, whose
history is read once. **Padded** is transformers' `Trainer` with an example per row, padded on the
right, as it comes. Both train the same adapter on SmolLM2, with the same batch size and optimiser;
the first step of each is not timed.

The JSON holds `speedup_vs_padded` (examples per second), `share_of_matmul` (of the machine's speed
of matrix products in that number format, measured in the same process) and `loss_difference`
(between the two, on the same examples).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.asking import clock, gemm_rate, questions
from benchmarks.process import call, plain
from dallrec_core.chain.artefacts import write_json
from dallrec_core.llm.adapters import AnswerTrainer, answer_loss
from dallrec_core.llm.examples import Collate, encode_examples
from dallrec_core.llm.finetune import LoraSettings, _arguments, with_lora
from dallrec_core.llm.load import load, quiet

PER_USER = 8
"""Questions about one user, which are one step."""
SETTINGS = LoraSettings(batch_size=PER_USER, epochs=1)


class Clock(TrainerCallback):
    """Notes when each step ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **kwargs: Any) -> None:
        """Look at the clock."""
        self.ends.append(clock())

    @property
    def seconds(self) -> float:
        """Seconds of a step, the first left out."""
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


def measure(
    *, name: str = "smollm2", steps: int, padded_steps: int, threads: int, dtype: str
) -> dict[str, Any]:
    """Time both ways of tuning.

    Args:
        name: of the model.
        steps: of our trainer, timed, with eight examples each.
        padded_steps: of the other.
        threads: of the processor.
        dtype: number format of the model's weights.
    """
    torch.set_num_threads(threads)
    lm = load(name, device="cpu", dtype=dtype)
    prompts = questions(1 + max(steps, padded_steps), PER_USER)
    examples = [
        {"instruction": prompt.text, "output": ("yes", "no")[i % 2]}
        for i, prompt in enumerate(prompts)
    ]
    rows = encode_examples(lm, examples, "benchmark")
    model = with_lora(lm, SETTINGS)
    alone, shared = Collate(lm.pad_id), Collate(lm.pad_id, share=True)
    peak = gemm_rate(dtype=lm.dtype)
    with tempfile.TemporaryDirectory() as folder, quiet():

        def trained(kind: type[Trainer], n: int, **options: Any) -> tuple[Trainer, float]:
            watch = Clock()
            arguments = _arguments(lm, SETTINGS, Path(folder), evaluate=False)
            arguments.max_steps, arguments.save_strategy = n + 1, "no"
            made = kind(
                model, arguments, train_dataset=rows[: PER_USER * (n + 1)], callbacks=[watch],
                **options,
            )  # fmt: skip
            made.remove_callback(PrinterCallback)
            made.train()
            return made, watch.seconds

        ours, seconds = trained(
            AnswerTrainer, steps, data_collator=shared, compute_loss_func=answer_loss
        )
        padded, padded_seconds = trained(Trainer, padded_steps, data_collator=alone)
        with torch.no_grad():
            losses = [
                float(trainer.compute_loss(model, collate(rows[:PER_USER])))
                for trainer, collate in ((ours, shared), (padded, alone))
            ]
    peak = max(peak, gemm_rate(dtype=lm.dtype))
    weights = sum(p.numel() for p in model.parameters() if p.ndim == 2)
    head = lm.model.get_output_embeddings().weight.numel()
    inner = weights - (1 if lm.model.config.tie_word_embeddings else 2) * head
    steps_of = [shared(rows[i : i + PER_USER]) for i in range(0, len(rows), PER_USER)]
    tokens = sum(int((step["owners"] >= 0).sum()) for step in steps_of) / len(steps_of)
    answers = sum(label >= 0 for label in rows[0]["labels"]) * PER_USER
    # forward, and backward to the activations: the weights themselves stay as they are
    operations = 2 * 2.0 * (inner * tokens + head * answers)
    return {
        "threads": threads,
        "dtype": dtype,
        "examples_per_second": PER_USER / seconds,
        "padded_per_second": PER_USER / padded_seconds,
        "speedup_vs_padded": padded_seconds / seconds,
        "share_of_matmul": operations / seconds / peak,
        "matmul_gflop_per_s": peak / 1e9,
        "loss_difference": abs(losses[0] - losses[1]),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status is 1 when the losses differ by more than 1e-4."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--quick", action="store_true", help="few steps; noisier")
    threads = torch.get_num_threads()
    parser.add_argument("--threads", type=int, default=threads, help="[default: %(default)s]")
    parser.add_argument("--dtype", default="float32", help="[default: %(default)s]")
    options = parser.parse_args(arguments)
    steps = {"steps": 3, "padded_steps": 1} if options.quick else {"steps": 12, "padded_steps": 4}
    row = call("finetune:measure", threads=options.threads, dtype=options.dtype, **steps)
    print(
        f"SmolLM2 ({row['dtype']}, {row['threads']} threads): {row['examples_per_second']:.2f} "
        f"examples/s; padded {row['padded_per_second']:.2f} ({row['speedup_vs_padded']:.1f}x); "
        f"{row['share_of_matmul']:.0%} of {row['matmul_gflop_per_s']:.0f} GFLOP/s; losses within "
        f"{row['loss_difference']:.1e}"
    )
    names = ("speedup_vs_padded", "share_of_matmul", "loss_difference")
    if options.json:
        write_json(plain({name: row[name] for name in names}), options.json)
    return 0 if row["loss_difference"] <= (1e-4 if row["dtype"] == "float32" else 1e-1) else 1


if __name__ == "__main__":
    sys.exit(main())

"""transformers' Trainer, taught to learn answers only, to show progress and to mark checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from dallrec_core.chain.progress import progress
from dallrec_core.errors import UserError
from dallrec_core.llm.adapters import mark_complete
from dallrec_core.llm.examples import IGNORED, Buckets
from dallrec_core.llm.ledger import usage
from dallrec_core.llm.load import head_on, processes
from dallrec_core.llm.packing import visible


class AnswerTrainer(Trainer):
    """Batches examples that begin alike; computes logits only where an answer is to be learnt."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Buckets:
        rows = self.train_dataset if train_dataset is None else train_dataset
        # whole steps, so that small batches, one after another or in several processes, equal a
        # large one; the trainer's own `group_by_length` takes other examples for each such split
        step = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return Buckets(rows, step * self.args.world_size, self.args.seed)

    def compute_loss(
        self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Run the model, with its output layer on the answers, and return the loss."""
        if "owners" in inputs:
            owners = inputs.pop("owners")
            inputs["attention_mask"] = visible(owners, owners.shape[1])
            usage().tokens_in += int((owners >= 0).sum())
        else:
            usage().tokens_in += int(inputs["attention_mask"].sum())
        learnt = inputs["labels"][:, 1:] != IGNORED
        bare = self.accelerator.unwrap_model(model)
        with head_on(bare, lambda hidden: hidden[:, :-1][learnt].unsqueeze(0)):
            return super().compute_loss(model, inputs, *args, **kwargs)


def answer_loss(
    outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Cross-entropy per answer token.

    Args:
        outputs: whose `logits` `[1, n, V]` belong to the n answer tokens, row by row.
        labels: `[B, T]` with `IGNORED` at all other tokens.
        num_items_in_batch: answer tokens of the whole step, where it has several batches.
    """
    wanted = labels[:, 1:][labels[:, 1:] != IGNORED]
    total = torch.nn.functional.cross_entropy(outputs.logits[0].float(), wanted, reduction="sum")
    return total / (len(wanted) if num_items_in_batch is None else num_items_in_batch)


class Watch(TrainerCallback):
    """Shows progress, stops a diverging run, and marks checkpoints that are whole.

    Args:
        task: the word for what is learnt, for the progress bar and messages.
        patience: stop after so many epochs without a lower held-out loss; 0 never.
    """

    def __init__(self, task: str, patience: int = 0) -> None:
        self.task, self.patience = task, patience
        self.bar: Iterator[int] = iter(())

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the progress bar."""
        todo = range(state.global_step, state.max_steps if state.is_world_process_zero else 0)
        self.bar = progress(todo, total=len(todo), desc=f"tuning {self.task}", unit="steps")

    def on_step_end(self, *_: Any, **kwargs: Any) -> None:
        """Move the progress bar."""
        next(self.bar, None)

    def on_train_end(self, *_: Any, **kwargs: Any) -> None:
        """Close the progress bar."""
        next(self.bar, None)  # past the last step
        self.bar = iter(())  # stopped before it

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop when the held-out loss has not fallen for a while.

        The trainer's own log is read, which is part of every checkpoint, so a run that is continued
        stops where it would have stopped. (`EarlyStoppingCallback` would count the measurement with
        which a continued run begins as one without progress.)
        """
        # by step, because a continued run measures the step where it begins once more
        found = {e["step"]: e["eval_loss"] for e in state.log_history if "eval_loss" in e}
        losses = [loss for step, loss in found.items() if step > 0]
        best = losses.index(min(losses)) if losses else 0
        if self.patience and len(losses) - 1 - best >= self.patience:
            control.should_training_stop = True

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop when a loss is not a number."""
        logs = kwargs.get("logs") or {}
        if any(logs.get(name, 0.0) != logs.get(name, 0.0) for name in ("loss", "eval_loss")):
            raise UserError(
                f"{self.task}: the loss became NaN at step {state.global_step}; lower the "
                "learning_rate, or train as float32"
            )

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Mark the checkpoint: every file of it is written, by every process."""
        processes().wait_for_everyone()
        if state.is_world_process_zero:
            mark_complete(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")

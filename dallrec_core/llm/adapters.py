"""How an adapter is trained: what transformers' Trainer is taught, and the folder it works in.

The trainer learns answers only, and reads once what examples have in common. Its folder is
continued after a kill, and moved into place whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock, Timeout
from transformers import Trainer, TrainerCallback, TrainerState

from dallrec_core.chain.artefacts import read_json, read_table, write_json, write_table
from dallrec_core.chain.progress import progress
from dallrec_core.errors import UserError
from dallrec_core.llm.checkpoints import ADAPTER_RECORD
from dallrec_core.llm.examples import IGNORED, Buckets
from dallrec_core.llm.ledger import usage
from dallrec_core.llm.load import processes
from dallrec_core.llm.packing import head_on, visible

_COMPLETE = "complete"  # marks a checkpoint that was written to its end
_LOCK = "lock"
_LOG_FILE = "training_log.parquet"

# ---------------------------------------------------------------- the trainer


class AnswerTrainer(Trainer):
    """Batches examples that begin alike; computes logits only where an answer is to be learnt."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Buckets:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        # whole steps, so that small batches, one after another or in several processes, equal a
        # large one; the trainer's own `group_by_length` takes other examples for each such split
        step = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return Buckets(rows, step * self.args.world_size, self.args.seed)

    def compute_loss(
        self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Run the model, with its output layer on the answers, and return the loss."""
        owners = inputs.pop("owners", None)
        counts = usage()
        read = inputs["attention_mask"] if owners is None else owners >= 0
        counts.tokens_in += int(read.sum())
        if owners is not None:
            inputs["attention_mask"] = visible(owners, owners.shape[1])
            others = owners.amax(dim=1) - 1  # that share what the first has read
            counts.saved_by_prefix += int((others * (owners == 0).sum(dim=1)).sum())
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

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
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

    def on_evaluate(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
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

    def on_log(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Stop when a loss is not a number."""
        logs = kwargs.get("logs") or {}
        if any(logs.get(name, 0.0) != logs.get(name, 0.0) for name in ("loss", "eval_loss")):
            raise UserError(
                f"{self.task}: the loss became NaN at step {state.global_step}; lower the "
                "learning_rate, or train as float32"
            )

    def on_save(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Mark the checkpoint: every file of it is written, by every process."""
        processes().wait_for_everyone()
        if state.is_world_process_zero:
            (Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / _COMPLETE).touch()


# ---------------------------------------------------------------- the folder


def finished_log(out: Path, record: Mapping[str, Any]) -> pd.DataFrame | None:
    """The training log of the adapter in `out` when it was made by an equal call, else None."""
    noted = out / ADAPTER_RECORD  # written last: what `publish` made is whole, or not there
    if not noted.exists() or read_json(noted).get("key") != record["key"]:
        return None
    return read_table(out / _LOG_FILE, "training_log")


@contextmanager
def workplace(out: Path, record: dict[str, Any]) -> Iterator[Path]:
    """Let one call at a time work on `out`, in the folder `<out>.partial`.

    A kill or an interrupt leaves the folder, for an equal call to continue. It is removed when its
    work is done or fails. Processes that were launched together count as one call, for which the
    first holds the lock and cleans up.

    Raises:
        UserError: when another process is at work, the disk is full, or the folder cannot be
            written.
    """
    group, partial = processes(), out.with_name(out.name + ".partial")
    lock = FileLock(partial / _LOCK, timeout=0)
    try:
        if group.is_main_process:
            partial.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            _prepare(partial, record)
        group.wait_for_everyone()
        yield partial
        group.wait_for_everyone()  # none goes on before the adapter is there
    except Timeout as error:
        raise UserError(
            f"another process is tuning {out}; wait for it, or start them with `accelerate launch`"
        ) from error
    except Exception as error:
        if lock.is_locked:
            shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError):
            raise UserError(f"cannot write {out}: {error.strerror or error}") from error
        raise
    finally:
        lock.release()


def _prepare(partial: Path, record: dict[str, Any]) -> None:
    """Empty the folder unless an equal call was interrupted in it."""
    previous = partial / ADAPTER_RECORD
    if previous.exists() and read_json(previous) == record:
        return
    for old in partial.iterdir():
        if old.name != _LOCK:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    write_json(record, previous)


def last_checkpoint(partial: Path) -> str | None:
    """The newest checkpoint that was written to its end."""
    done = [p.parent for p in partial.glob(f"checkpoint-*/{_COMPLETE}")]
    return str(max(done, key=lambda p: int(p.name.split("-")[1]))) if done else None


def publish(
    model: Any, name: str, log: pd.DataFrame, record: dict[str, Any], partial: Path, out: Path
) -> None:
    """Write a finished adapter inside `partial`, then move it to `out` in one step.

    Args:
        model: the PEFT model.
        name: of the base model, as the user gave it.
        log: the training log, schema `training_log`.
        record: what is kept beside the adapter: its base, settings and key.
        partial: of `workplace`; it is removed.
        out: the adapter's folder; an older one is replaced.
    """
    final = partial / "final"
    # The folder of a bundled model differs between machines; its name does not.
    config = model.peft_config["default"]
    config.base_model_name_or_path, config.revision = name, None
    model.save_pretrained(str(final), save_embedding_layers=False)
    (final / "README.md").unlink(missing_ok=True)
    # PEFT writes sets in the order of their hashes, which differs from run to run.
    written = final / "adapter_config.json"
    content = sorted(read_json(written).items())
    write_json({k: sorted(v) if isinstance(v, list) else v for k, v in content}, written)
    write_table(log, final / _LOG_FILE, "training_log")
    write_json(record, final / ADAPTER_RECORD)
    if out.exists():
        shutil.rmtree(out)
    final.replace(out)
    shutil.rmtree(partial)

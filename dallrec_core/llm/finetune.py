"""Teach a language model a task with LoRA (Hu et al. 2022) on a few dozen Alpaca examples.

The loss covers the answer and its end token only; the prompt is read but not learnt. A killed
run continues from its last epoch and ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import PrinterCallback, TrainingArguments, set_seed

from dallrec_core.errors import UserError
from dallrec_core.llm import adapters
from dallrec_core.llm.examples import Collate, Example, check_examples, encode_examples
from dallrec_core.llm.ledger import usage
from dallrec_core.llm.load import LanguageModel, load, processes, quiet
from dallrec_core.llm.packing import can_share

_LOG_ROWS = 200  # losses are logged at most


@dataclass(frozen=True)
class LoraSettings:
    """How an adapter is trained."""

    rank: int = 8
    """Inner dimension of the adapter."""
    alpha: float = 16
    """The adapter's product is scaled by alpha / rank."""
    target_modules: str | list[str] = "all-linear"
    """Layers that get an adapter, by name."""
    epochs: int = 5
    """Passes over the examples."""
    learning_rate: float = 2e-4
    """Peak of AdamW's rate: linear warm-up over 5 % of the steps, then a cosine to zero."""
    batch_size: int = 8
    """Examples per forward pass."""
    gradient_accumulation: int = 1
    """Forward passes per step."""
    patience: int = 0
    """Stop after so many epochs without a lower held-out loss, and keep the epoch with the lowest;
    0 trains to the end and keeps the last. Without held-out examples it does nothing."""
    seed: int = 0
    """Of the initial adapter and the order of examples."""


def with_lora(lm: LanguageModel, settings: LoraSettings) -> Any:
    """Return the model of `lm` with untrained adapters in it, ready to be trained."""
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=0.0,  # one core would draw its numbers for a quarter of each step
        target_modules=settings.target_modules,
        task_type="CAUSAL_LM",
    )
    plain = lm.model if lm.quantize == "none" else prepare_model_for_kbit_training(lm.model)
    return get_peft_model(plain, config)


def finetune(
    model_name: str,
    examples: Sequence[Example],
    out: Path,
    settings: LoraSettings | None = None,
    *,
    task: str,
    held_out: Sequence[Example] = (),
    device: str = "auto",
    dtype: str = "auto",
    quantize: str = "none",
    revision: str | None = None,
) -> pd.DataFrame:
    """Train a LoRA adapter and save it, with its settings beside it, in the folder `out`.

    The work happens in `<out>.partial`, which is left behind by a kill and continued by the next
    call with the same model, examples and settings. An adapter that such a call already finished
    is not trained again.

    Processes that `accelerate launch` or `torchrun` started train one adapter together: every step
    reads `batch_size` examples in each of them, and the first alone writes the adapter, in a folder
    that all must see. It is the adapter of one process with that many times the batch size, as long
    as the examples fill the steps (a step that lacks some repeats others).

    Args:
        model_name: as for `load.load`.
        examples: Alpaca records to learn.
        out: folder of the adapter; one that was trained otherwise is replaced.
        settings: how to train; None for the defaults.
        task: name of the task, for the log and messages.
        held_out: Alpaca records whose loss is measured before training and after every epoch.
        device: as for `load.load`; one process uses one GPU.
        dtype: as for `load.load`.
        quantize: `4bit` trains the adapter on NF4 weights (QLoRA, Dettmers et al. 2023).
        revision: as for `load.load`.

    Returns:
        The training log by schema `training_log`: task, step, epoch, loss, eval_loss.

    Raises:
        UserError: for bad examples or settings, a model that does not load, a diverging loss, or
            a folder that cannot be written.
    """
    settings = settings or LoraSettings()
    if not examples:
        raise UserError(f"{task}: there are no training examples")
    check_examples(examples, task)
    check_examples(held_out, f"{task}, held out")
    lm = load(model_name, device=device, dtype=dtype, quantize=quantize, revision=revision)
    train = encode_examples(lm, examples, task)
    held = encode_examples(lm, held_out, f"{task}, held out")
    record = _record(lm, task, settings, examples, held_out)
    usage().questions += len(examples)
    done = adapters.finished_log(out, record)
    if done is not None:
        return done
    with adapters.workplace(out, record) as partial, quiet():
        set_seed(settings.seed)
        trainer = adapters.AnswerTrainer(
            model=with_lora(lm, settings),
            args=_arguments(lm, settings, partial, evaluate=bool(held)),
            data_collator=Collate(lm.pad_id, share=can_share(lm)),
            train_dataset=train,  # type: ignore[arg-type]
            eval_dataset=held or None,  # type: ignore[arg-type]
            compute_loss_func=adapters.answer_loss,
            callbacks=[adapters.Watch(task, settings.patience)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=adapters.last_checkpoint(partial))
        log = _log_frame(task, trainer.state.log_history)
        if trainer.is_world_process_zero():
            adapters.publish(trainer.model, lm.name, log, record, partial, out)
    return log


def _record(
    lm: LanguageModel, task: str, settings: LoraSettings, *parts: Sequence[Example]
) -> dict[str, Any]:
    """What is written beside an adapter; its `key` is equal for calls that ask for the same one."""
    record = {
        "base": {"name": lm.name, "revision": lm.revision, "identity": lm.checkpoint.identity},
        "dtype": str(lm.dtype).removeprefix("torch."),
        "quantize": lm.quantize,
        "task": task,
        "settings": asdict(settings),
        "examples": len(parts[0]),
        "held_out": len(parts[1]),
    }
    if processes().num_processes > 1:
        record["processes"] = processes().num_processes  # part of the batch size
    data = [[dict(example) for example in part] for part in parts]
    text = json.dumps([record, data], sort_keys=True)
    return record | {"key": hashlib.sha256(text.encode()).hexdigest()}


def _arguments(
    lm: LanguageModel, settings: LoraSettings, partial: Path, *, evaluate: bool
) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(partial),
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,  # below 1 it is a share of all steps
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=max(settings.batch_size, 16),
        gradient_accumulation_steps=settings.gradient_accumulation,
        seed=settings.seed,
        eval_strategy="epoch" if evaluate else "no",
        eval_on_start=evaluate,
        prediction_loss_only=True,
        save_strategy="epoch",
        save_total_limit=2,  # the best one is never removed
        load_best_model_at_end=evaluate and settings.patience > 0,  # by the held-out loss
        logging_steps=1 / _LOG_ROWS,  # a share of all steps, too
        logging_nan_inf_filter=False,
        bf16=lm.device.type == "cuda" and lm.dtype == torch.bfloat16,
        fp16=lm.device.type == "cuda" and lm.dtype == torch.float16,
        use_cpu=lm.device.type == "cpu",
        remove_unused_columns=False,
        label_names=["labels"],
        disable_tqdm=True,
        report_to="none",
    )
    # Several visible GPUs would otherwise be wrapped in DataParallel, which changes the batch.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _log_frame(task: str, history: list[dict[str, float]]) -> pd.DataFrame:
    """One row per logged step; a step that was both trained and evaluated has both losses."""
    columns = {"step": "int32", "epoch": "float32", "loss": "float32", "eval_loss": "float32"}
    frame = pd.DataFrame(history).reindex(columns=list(columns))
    frame = frame.dropna(subset=["loss", "eval_loss"], how="all").fillna({"epoch": 0.0})
    frame = frame.groupby("step", as_index=False).last().astype(columns)
    frame.insert(0, "task", task)
    return frame

"""LoRA fine-tuning: learns, repeats to the byte, resumes, and refuses bad examples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from llm_support import tiny_checkpoint, tiny_model

from dallrec_core.chain import progress
from dallrec_core.errors import UserError
from dallrec_core.llm import adapters
from dallrec_core.llm.adapters import AnswerTrainer, answer_loss
from dallrec_core.llm.examples import IGNORED, Buckets, Collate, encode_examples, instruction_text
from dallrec_core.llm.finetune import LoraSettings, _arguments, finetune, with_lora
from dallrec_core.llm.ledger import Ledger
from dallrec_core.llm.load import load, render
from dallrec_core.llm.score import p_yes

EXAMPLES = [
    {"instruction": f"Question {i}. Answer for {name}", "input": " ", "output": word}
    for i, (name, word) in enumerate([("Heat", "yes"), ("Fargo", "no")] * 12)
]
WRONG = [e | {"output": ("no", "yes")[i % 2]} for i, e in enumerate(EXAMPLES[:4])]
QUICK = LoraSettings(epochs=3, learning_rate=1e-2, batch_size=8)
WEIGHTS = "adapter_model.safetensors"


def tune(out: Path, settings: LoraSettings = QUICK, **options: Any) -> pd.DataFrame:
    options = {"task": "toy", "device": "cpu", "held_out": EXAMPLES[:4]} | options
    return finetune(str(tiny_checkpoint()), EXAMPLES, out, settings, **options)


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def own_loss(examples: list[dict[str, str]], adapter: Path | None = None) -> float:
    """The model's own loss on one batch."""
    lm = load(str(tiny_checkpoint()), device="cpu", adapter=adapter)
    batch = Collate(lm.pad_id)(encode_examples(lm, examples, "toy"))
    with torch.inference_mode():
        return float(lm.model(**batch).loss)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    out = tmp_path_factory.mktemp("adapters") / "toy"
    return out, tune(out)


def test_the_loss_falls_and_the_answers_follow(tmp_path: Path) -> None:
    log = tune(tmp_path / "a", LoraSettings(epochs=10, learning_rate=1e-2))
    held = log["eval_loss"].dropna()
    assert len(held) == 11 and held.iloc[-1] < 0.3 * held.iloc[0]
    assert held.iloc[0] == pytest.approx(own_loss(EXAMPLES[:4]), rel=1e-5)  # before training
    lm = load(str(tiny_checkpoint()), device="cpu", adapter=tmp_path / "a")
    chances = p_yes(lm, [instruction_text(e) for e in EXAMPLES], ["yes"], ["no"])
    assert chances[::2].min() > chances[1::2].max()


def test_folder_holds_adapter_settings_and_log(tuned: tuple[Path, pd.DataFrame]) -> None:
    out, log = tuned
    assert [p.name for p in out.parent.iterdir()] == ["toy"]
    files = {"adapter_config.json", WEIGHTS, "finetune.json", "training_log.parquet"}
    assert {p.name for p in out.iterdir()} == files
    record = json.loads((out / "finetune.json").read_text())
    assert record["settings"]["learning_rate"] == 1e-2 and record["examples"] == 24
    assert list(log.columns) == ["task", "step", "epoch", "loss", "eval_loss"]
    assert log["step"].tolist() == list(range(10)) and log["eval_loss"].notna().sum() == 4


def test_same_seed_same_bytes_and_nothing_printed_but_progress(
    tuned: tuple[Path, pd.DataFrame], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, log = tuned
    again = tune(tmp_path / "again")
    printed = capfd.readouterr()
    assert progress.LINE.sub("", printed.out) == printed.err == ""
    assert digests(tmp_path / "again") == digests(out)
    pd.testing.assert_frame_equal(again, log)
    tune(tmp_path / "other", LoraSettings(epochs=3, learning_rate=1e-2, seed=1))
    assert digests(tmp_path / "other")[WEIGHTS] != digests(out)[WEIGHTS]


@dataclass
class _Killer:
    """Stands for `progress` and is interrupted when no steps are left."""

    left: int

    def __call__(self, iterable: Iterable[int], **options: Any) -> Iterator[int]:
        for step in iterable:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield step


@pytest.mark.parametrize(("steps", "left"), [(1, 9), (5, 6)])
def test_interrupted_run_continues_to_the_same_bytes(
    steps: int, left: int, tuned: tuple[Path, pd.DataFrame], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "toy"
    monkeypatch.setattr(adapters, "progress", _Killer(steps))
    with pytest.raises(KeyboardInterrupt):
        tune(out)
    assert not out.exists() and (tmp_path / "toy.partial").exists()
    half = tmp_path / "toy.partial" / "checkpoint-6"  # killed while it was being written
    half.mkdir()
    (half / WEIGHTS).write_bytes(b"half")
    counter = _Killer(100)
    monkeypatch.setattr(adapters, "progress", counter)
    log = tune(out)
    assert 100 - counter.left == left
    assert digests(out) == digests(tuned[0])
    pd.testing.assert_frame_equal(log, tuned[1])
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]


def test_only_one_call_works_on_an_adapter(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write .*file/a: "):
        tune(tmp_path / "file" / "a")
    (tmp_path / "file").unlink()
    partial = tmp_path / "toy.partial"
    partial.mkdir()
    (partial / "of-the-other").touch()
    with FileLock(partial / "lock"):
        with pytest.raises(UserError, match="another process is tuning .*toy"):
            tune(tmp_path / "toy")
        assert (partial / "of-the-other").exists()
    tune(tmp_path / "toy", LoraSettings(epochs=1))
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_finished_adapter_is_not_trained_again(
    tuned: tuple[Path, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters, "AnswerTrainer", None)
    pd.testing.assert_frame_equal(tune(tuned[0]), tuned[1])
    with pytest.raises(TypeError):  # other settings do train
        tune(tuned[0], LoraSettings(epochs=4))


@pytest.mark.parametrize("chat", [True, False])
def test_labels_cover_the_answer_and_its_end_only(chat: bool) -> None:
    for given, text in ((" ", "Do."), ("This", "Do.\nThis"), (None, "Do.")):
        assert instruction_text({"instruction": "Do.", "input": given, "output": "x"}) == text
    lm = tiny_model(chat=chat)
    (row,) = encode_examples(lm, EXAMPLES[:1], "toy")
    prompt = lm.encode([render(lm, EXAMPLES[0]["instruction"])])[0]
    answer = [*lm.encode_answer("yes"), lm.tokenizer.eos_token_id]
    assert row["input_ids"] == prompt + answer
    assert row["labels"] == [IGNORED] * len(prompt) + answer
    # What is learnt stands where scoring and generation look for it.
    assert row["input_ids"][:-1] == lm.encode([render(lm, EXAMPLES[0]["instruction"]) + "yes"])[0]


def test_an_epoch_holds_every_example_once_and_batches_those_that_begin_alike() -> None:
    rows = [{"input_ids": [0] * (20 + i), "alike": i % 25} for i in range(200)]
    sampler = Buckets(rows, 8, seed=0)
    first = np.reshape(list(sampler), (25, 8))
    sampler.set_epoch(1)
    second = np.reshape(list(sampler), (25, 8))
    assert sorted(first.flat) == sorted(second.flat) == list(range(200))
    assert (first != second).any() and all(len(set(batch % 25)) == 1 for batch in first)


ABOUT_USERS = [
    {
        "instruction": f"{user} viewers liked {'Heat (1995) (Crime); ' * (3 + user)}. Film {item}?",
        "output": ("yes", "no", "No, not that")[(user + item) % 3],
    }
    for item in range(4)  # the users' questions stand apart in the file
    for user in range(4)
    if item <= user
]


def test_a_shared_row_gives_the_loss_and_gradients_of_rows_of_their_own(tmp_path: Path) -> None:
    lm = tiny_model()
    rows = encode_examples(lm, ABOUT_USERS, "toy")
    assert len({row["alike"] for row in rows}) == 4
    found = []
    for share in (True, False):
        batch = Collate(lm.pad_id, share=share)(rows)
        assert len(batch["input_ids"]) == (4 if share else len(rows))
        torch.manual_seed(0)
        settings = LoraSettings()
        trainer = AnswerTrainer(
            model=with_lora(load(str(tiny_checkpoint()), device="cpu"), settings),
            args=_arguments(lm, settings, tmp_path, evaluate=False),
            compute_loss_func=answer_loss,
        )
        for name, weight in trainer.model.named_parameters():
            if "lora_B" in name:  # zeros, and the gradients of the other half would be zero, too
                torch.nn.init.normal_(weight, std=0.1)
        with Ledger("toy").task("toy") as counts:
            loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        named = trainer.model.named_parameters()
        grads = {name: p.grad for name, p in named if p.grad is not None}
        found.append((loss.item(), grads, counts.tokens_in))
    (loss, grads, read), (expected, others, alone) = found
    assert loss == pytest.approx(expected, abs=1e-4) and read < 0.6 * alone
    assert len(grads) == len(others) == 28
    for name, grad in grads.items():
        assert grad.abs().max() > 1e-3
        torch.testing.assert_close(grad, others[name], atol=1e-4, rtol=1e-4)


def test_early_stopping_keeps_the_best_epoch_and_survives_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what is held out contradicts what is learnt, so its loss falls first and rises then
    settings = LoraSettings(epochs=12, learning_rate=1e-2, patience=2)
    log = tune(tmp_path / "whole", settings, held_out=WRONG)
    losses = log["eval_loss"].dropna().tolist()[1:]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 2 < 12
    assert own_loss(WRONG, tmp_path / "whole") == pytest.approx(losses[best], rel=1e-4)
    monkeypatch.setattr(adapters, "progress", _Killer(len(log) - 3))
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "half", settings, held_out=WRONG)
    monkeypatch.undo()
    pd.testing.assert_frame_equal(tune(tmp_path / "half", settings, held_out=WRONG), log)
    assert digests(tmp_path / "half")[WEIGHTS] == digests(tmp_path / "whole")[WEIGHTS]
    unwatched = tune(tmp_path / "a", LoraSettings(epochs=3, patience=1), held_out=())
    assert unwatched["step"].max() == 9  # to the end


@pytest.mark.parametrize(
    ("examples", "settings", "message"),
    [
        ([], {}, "toy: there are no training examples"),
        ([EXAMPLES[0], {"instruction": "a"}], {}, "toy: example 2, field 'output': Field required"),
        ([{"instruction": "a", "output": " "}], {}, "example 1, field 'output': .*it is empty"),
        ([EXAMPLES[0] | {"input": 3}], {}, "field 'input': .* valid string"),
        (
            [EXAMPLES[0], EXAMPLES[0] | {"instruction": "word " * 300}],
            {},
            "toy: shorten example 2 to 256 tokens",
        ),
        (EXAMPLES, {"learning_rate": 1e30}, "loss became NaN at step .* lower the learning_rate"),
    ],
)
def test_what_cannot_be_learnt_is_explained_and_leaves_nothing(
    examples: list[dict[str, Any]], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    lora = LoraSettings(epochs=4, **settings)
    with pytest.raises(UserError, match=message):
        finetune(str(tiny_checkpoint()), examples, tmp_path / "a", lora, task="toy", device="cpu")
    assert list(tmp_path.iterdir()) == []

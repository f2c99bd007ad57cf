"""Train the stand-in from nothing: `python -m tools.standin.train --out FOLDER`.

Everything is seeded and runs on one thread, so the same machine gives the same weights: about 43
minutes on one core. Training resumes from `FOLDER/state.pt` at the last finished stage; the
checkpoint is `FOLDER/checkpoint`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from tools.standin.curriculum import PAGES, Stage, Streams
from tools.standin.dialogues import Style, dialogues
from tools.standin.network import batch_loss, make_model, pack
from tools.standin.shelf import books, films, invented
from tools.standin.texts import lessons
from tools.standin.tokenizer import Encoder, save, train_tokenizer

SEED = 7
VOCABULARY = 4096
SHAPE = {"width": 64, "layers": 3, "heads": 2, "hidden": 192}
LOG_EVERY = 50


class _Recorder:
    """Stands in for the encoder and keeps the texts instead of encoding them."""

    user = assistant = end = pad = 0

    def __init__(self) -> None:
        self.texts: list[str] = []

    def ids(self, text: str) -> list[int]:
        self.texts.append(text)
        return [0]


def tokenizer() -> PreTrainedTokenizerFast:
    """Train the tokenizer on the text that the lessons would use."""
    recorder, rng = _Recorder(), np.random.default_rng([SEED, 3])
    style = Style(default=0.02, paper=0.02)
    for shelf in (films(), books(), invented(films(), 400, rng), invented(books(), 200, rng)):
        list(dialogues(recorder, shelf, 300, 10**6, 1.0, style))
        for _ in range(3):
            list(lessons(recorder, shelf, rng))
    words = {g for s in (films(), books()) for genres in s.genres for g in genres}
    words |= {str(year) for year in range(1900, 2026)} | {"yes", "no", "Yes", "No", "None"}
    often = [f"{word}|{word} {word}" for word in sorted(words)] * 500
    return train_tokenizer(recorder.texts + often, VOCABULARY)


def _rate(stage: Stage, step: int) -> float:
    start, end = stage.rate
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / stage.steps)))
    return (end + (start - end) * cosine) * min(1.0, (step + 1) / 50)


def _step(model, optimiser, streams: Streams, pad: int) -> list[float]:
    losses = []
    optimiser.zero_grad(set_to_none=True)
    for rows in (streams.dialogues(), streams.texts()):
        if rows:
            loss = batch_loss(model, pack(rows, pad))
            loss.backward()
            losses.append(loss.item())
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return losses


def export(model: LlamaForCausalLM, words: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the checkpoint as transformers reads it."""
    model.generation_config.update(
        do_sample=False, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id
    )
    model.save_pretrained(folder)
    save(words, folder)


def _train_stage(model, optimiser, encoder: Encoder, stage: Stage, number: int) -> None:
    streams, started, losses = Streams(encoder, stage, SEED + number), time.monotonic(), []
    last = max(stage.steps, stage.most)
    every = 4 * LOG_EVERY if stage.facts else LOG_EVERY
    for step in range(1, last + 1):
        for group in optimiser.param_groups:
            group["lr"] = _rate(stage, step - 1)
        losses.append(_step(model, optimiser, streams, encoder.pad))
        if step % every == 0 or step == last:
            mean, losses = np.mean(losses, axis=0).round(3).tolist(), []
            seconds = round(time.monotonic() - started)
            line = {"stage": stage.name, "step": step, "seconds": seconds, "loss": mean}
            print(json.dumps(line), flush=True)
            if step >= stage.steps and mean[0] < stage.until:
                break


def main() -> None:
    """Train all stages and write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="work folder")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    started = out / "checkpoint" / "tokenizer.json"
    words = AutoTokenizer.from_pretrained(started.parent) if started.exists() else tokenizer()
    encoder = Encoder(words)
    model = make_model(len(words), **SHAPE, pad=encoder.pad, end=encoder.end, seed=SEED)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    state, first = out / "state.pt", 0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        first = saved["stage"]
    for number, stage in enumerate(PAGES[first:], start=first):
        _train_stage(model, optimiser, encoder, stage, number)
        saved = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
        torch.save(saved | {"stage": number + 1}, state.with_suffix(".partial"))
        state.with_suffix(".partial").replace(state)
        export(model, words, out / "checkpoint")


if __name__ == "__main__":
    main()

"""Train the stand-in from nothing: `python -m tools.standin.train --out FOLDER`.

Everything is seeded and runs on one thread, so the same machine gives the same weights: about 43
minutes on one core. Training resumes from `FOLDER/state.pt` at the last finished stage; the
checkpoint is `FOLDER/checkpoint`.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from tools.standin.curriculum import PAGES, Stage, Streams
from tools.standin.dialogues import Style, dialogues
from tools.standin.network import batch_loss, make_model, pack
from tools.standin.probe import Log
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
    """Write the checkpoint as transformers reads it; the folder changes in one rename."""
    partial = folder.with_name(folder.name + ".partial")
    model.generation_config.update(
        do_sample=False, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id
    )
    model.save_pretrained(partial)
    save(words, partial)
    folder.mkdir(parents=True, exist_ok=True)
    for path in partial.iterdir():
        path.chmod(0o644)
        path.replace(folder / path.name)
    partial.rmdir()


def _train_stage(model, optimiser, encoder, stage: Stage, number: int, probe: Log, log) -> None:
    streams, started, losses = Streams(encoder, stage, SEED + number), time.monotonic(), []
    last = max(stage.steps, stage.most)
    for step in range(last):
        for group in optimiser.param_groups:
            group["lr"] = _rate(stage, step)
        losses.append(_step(model, optimiser, streams, encoder.pad))
        if (step + 1) % (4 * LOG_EVERY if stage.facts else LOG_EVERY) == 0 or step + 1 == last:
            line = {
                "stage": stage.name,
                "step": step + 1,
                "seconds": round(time.monotonic() - started),
                "loss": np.mean(losses, axis=0).round(3).tolist(),
                **probe(model),
            }
            done = step + 1 >= stage.steps and line["loss"][0] < stage.until
            losses = []
            log.write(json.dumps(line) + "\n")
            log.flush()
            print(line, flush=True)
            if done:
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
    probe = Log(encoder)
    with (out / "log.jsonl").open("a") as log:
        for number, stage in enumerate(PAGES[first:], start=first):
            _train_stage(model, optimiser, encoder, stage, number, probe, log)
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "stage": number + 1,
                },
                state,
            )
            shutil.copy(state, out / f"after-{stage.name}.pt")
            export(model, words, out / "checkpoint")


if __name__ == "__main__":
    main()

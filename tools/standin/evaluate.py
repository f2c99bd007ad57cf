"""Print every figure of the model card: `python -m tools.standin.evaluate [--model FOLDER]`.

Before and after LoRA on 64 examples per task, drawn from the embedded dataset's training split as
notebook 02 draws them. About three minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from dallrec_core.augmentation import TrainingView, attributes, interactions, summaries
from dallrec_core.augmentation.answers import parse_genres
from dallrec_core.augmentation.prompts import genres_prompt, summary_prompt
from dallrec_core.data.matinee import HELD_OUT, catalogue, load_matinee
from dallrec_core.data.splits import split
from dallrec_core.llm.finetune import LoraSettings, finetune
from dallrec_core.llm.generate import generate
from dallrec_core.llm.load import load
from tools.standin.probe import Probe
from tools.standin.tokenizer import Encoder
from tools.standin.wordings import INTERACTION_DEFAULT, INTERACTION_PAPER

PACKAGED = Path(__file__).parents[2] / "dallrec_core" / "llm" / "standin"
UNKNOWN = (
    {"title": "Jumanji", "year": 1995, "attributes": "Adventure|Children's|Fantasy"},
    {"title": "Waiting to Exhale", "year": 1995, "attributes": "Comedy|Drama"},
    {"title": "Sudden Death", "year": 1995, "attributes": "Action"},
)
"""Films outside the catalogue, as MovieLens shows them."""
BOOKS = (
    {"title": "Emma", "author": "Jane Austen", "year": 1815, "attributes": None},
    {"title": "Dune", "author": "Frank Herbert", "year": 1965, "attributes": "Science Fiction"},
    {"title": "The Kitchen God's Wife", "author": "Amy Tan", "year": 1991, "attributes": None},
)
"""Books in and outside the training text."""


def training_data(seed: int = 0) -> TrainingView:
    """The training view of the embedded dataset, as the notebooks see it."""
    dataset = load_matinee()
    train = split(dataset, "random", seed).train
    sizes = dataset.like_threshold, dataset.n_users, dataset.n_items
    return TrainingView("matinee", "movie", "genres", *sizes, train, dataset.items)


def preference(encoder: Encoder, model) -> dict[str, float]:
    """AUC by kind of question, held-out or known films, and wording."""
    out = {}
    for kind, decided in (("decided", True), ("pipeline", False)):
        probe = Probe(encoder, decided, viewers=400)
        for films, held_out in (("held-out", True), ("known", False)):
            default, paper = INTERACTION_DEFAULT["movie"], INTERACTION_PAPER["movie"]
            out[f"{kind} {films} default"] = probe.auc(model, held_out, default)
            out[f"{kind} {films} paper"] = probe.auc(model, held_out, paper)
            out |= {f"{kind} {films} {k}": v for k, v in probe.rules(held_out).items()}
    return {key: round(value, 3) for key, value in out.items()}


def genre_scores(lm, data: TrainingView) -> dict[str, float]:
    """Micro-F1 of the full genre set, from prompts that show one, by whether the film is known."""
    truth = catalogue().set_index("film_id")["genres"]
    films = data.items["item_id"].astype(int)
    rows = [{**row, "attributes": row["attributes"].split("|")[0]} for row in data.rows]
    prompts = [genres_prompt("movie", row, "default", attribute="genres") for row in rows]
    answers = [
        parse_genres(g.text, data.vocabulary).values
        for g in generate(lm, prompts, max_new_tokens=24)
    ]
    out = {}
    for name, held_out in (("known films", False), ("held-out films", True)):
        hits = said = true = shown = 0
        for film, row, answer in zip(films, rows, answers, strict=True):
            if (film in HELD_OUT) == held_out:
                right = set(truth[film].split("|"))
                hits += len(right & set(answer))
                said += len(set(answer))
                true += len(right)
                shown += row["attributes"] in right
        out[f"genre micro-F1, {name}"] = round(2 * hits / max(1, said + true), 3)
        out[f"genre micro-F1 of the one shown, {name}"] = round(2 * shown / (shown + true), 3)
    return out


def summaries_of(lm, data: TrainingView) -> list[str]:
    """Summaries of some films and books."""
    rows = [("movie", data.rows[i]) for i in (3, 40, 200)] + [("movie", r) for r in UNKNOWN]
    rows += [("book", r) for r in BOOKS]
    prompts = [summary_prompt(noun, row, "default") for noun, row in rows]
    return [g.text for g in generate(lm, prompts, max_new_tokens=80)]


def book_genres(lm) -> list[str]:
    """The genres that the model gives to some books."""
    prompts = [genres_prompt("book", row, "default", attribute="genres") for row in BOOKS]
    return [g.text for g in generate(lm, prompts, max_new_tokens=24)]


TASKS = {
    interactions: lambda lm, data: preference(Encoder(lm.tokenizer), lm.model),
    attributes: lambda lm, data: {**genre_scores(lm, data), "books": book_genres(lm)},
    summaries: lambda lm, data: {"texts": summaries_of(lm, data)},
}
"""What is measured of each task."""


def main() -> None:
    """Measure before and after fine-tuning and print one JSON line per figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=PACKAGED)
    folder = parser.parse_args().model
    torch.set_num_threads(1)
    name, data = str(folder), training_data()
    plain = load(name)
    size = (folder / "model.safetensors").stat().st_size
    parameters = sum(p.numel() for p in plain.model.parameters())
    print(json.dumps({"parameters": parameters, "bytes": size}))
    settings = LoraSettings(epochs=5, learning_rate=1e-3)
    with tempfile.TemporaryDirectory() as work:
        for module, measure in TASKS.items():
            task = module.__name__.rpartition(".")[2]
            examples = module.instructions(data, module.parts(data, 64, 0, 0).examples)
            print(json.dumps({task: "before", **measure(plain, data)}))
            log = finetune(name, examples, Path(work) / task, settings, task=task)
            loss = np.round(log["loss"].dropna().to_numpy()[[0, -1]], 3).tolist()
            tuned = load(name, adapter=Path(work) / task)
            print(json.dumps({task: "after", "loss": loss, **measure(tuned, data)}))


if __name__ == "__main__":
    main()

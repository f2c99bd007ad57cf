"""The packaged stand-in: loads offline, reads any text, half understands a preference question."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

import dallrec_core
from dallrec_core.augmentation.prompts import NO_WORDS, YES_WORDS, interaction_prompt
from dallrec_core.data.matinee import HELD_OUT, catalogue
from dallrec_core.llm.generate import generate
from dallrec_core.llm.load import load
from dallrec_core.llm.score import p_yes
from tools.matinee.viewers import simulate
from tools.standin import train
from tools.standin.dialogues import preference_row
from tools.standin.tokenizer import Encoder
from tools.standin.wordings import INTERACTION_DEFAULT

FOLDER = Path(dallrec_core.__file__).parent / "llm" / "standin"
TEXTS = (
    "Heat (1995) (Action|Crime|Thriller)",
    "żółw 🎬 日本語 l'été",
    "  two  spaces\n\ttab ",
    "",
    "\x00\r\n",
    "ABC-123_x'y’z;…",
    "<b>&amp;</b>",
)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)


def chat(tokenizer, text: str) -> str:
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
    )


def test_is_a_small_ordinary_llama():
    model = AutoModelForCausalLM.from_pretrained(FOLDER, local_files_only=True)
    assert type(model) is LlamaForCausalLM
    assert (FOLDER / "model.safetensors").stat().st_size <= 16 * 2**20
    assert all(torch.isfinite(p).all() for p in model.parameters())
    for path in FOLDER.glob("*.json"):  # names no machine
        assert "/work" not in path.read_text() and "/tmp" not in path.read_text()
    assert "auto_map" not in json.loads((FOLDER / "config.json").read_text())


def test_any_text_survives_the_tokenizer(tokenizer):
    assert [tokenizer.decode(tokenizer(text).input_ids) for text in TEXTS] == list(TEXTS)


def decided_questions(viewers: int) -> tuple[list[str], list[bool]]:
    """Questions on held-out films, of viewers whose eight likes and dislikes are decided."""
    films = catalogue()
    names = [f"{t} ({y}) ({g})" for t, y, g in films[["title", "year", "genres"]].to_numpy()]
    held_out = films["film_id"].isin(HELD_OUT).to_numpy()
    rng, ratings = np.random.default_rng(0), simulate(films, viewers, 515).ratings
    prompts, answers = [], []
    for row in ratings:
        shown = [
            rng.permutation(np.flatnonzero(~held_out & which))[:8] for which in (row >= 4, row == 1)
        ]
        lists = [[names[k] for k in part] for part in shown]
        for liked, which in ((True, row >= 4), (False, row == 1)):
            for k in rng.permutation(np.flatnonzero(held_out & which))[:2]:
                prompts.append(interaction_prompt("movie", *lists, names[k]).text)
                answers.append(liked)
    return prompts, answers


def test_preference_is_half_understood_before_tuning():
    prompts, answers = decided_questions(60)
    score, liked = p_yes(load("standin", device="cpu"), prompts, YES_WORDS, NO_WORDS), answers
    assert len(liked) > 150
    assert roc_auc_score(liked, score) >= 0.60


def test_what_it_writes_makes_sense_and_ends():
    task = "Movie: Heat (1995). Known genres: Action. List up to three genres of this movie."
    (answer,) = generate(load("standin", device="cpu"), [task], max_new_tokens=24)
    assert "Crime" in answer.text and not answer.truncated


def test_what_made_it_makes_the_same_tokens_and_asks_as_the_book_does(tokenizer):
    made = json.loads(train.tokenizer().backend_tokenizer.to_str())
    assert made["model"] == json.loads((FOLDER / "tokenizer.json").read_text())["model"]
    likes, target = ["Heat (1995) (Crime)", "Up (2009)"], "Alien (1979) (Horror)"
    wording = INTERACTION_DEFAULT["movie"]
    row = preference_row(Encoder(tokenizer), wording, likes, [], [target], [True])
    asked = chat(tokenizer, interaction_prompt("movie", likes, [], target).text)
    assert tokenizer.decode(row.shared + row.pieces[0].tokens) == asked + "yes<|end|>"

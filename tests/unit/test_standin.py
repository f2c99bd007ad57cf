"""The packaged stand-in: loads offline, reads any text, half understands a preference question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_data import matinee
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

import dallrec_core
from dallrec_core.augmentation import Asker, interactions
from dallrec_core.augmentation.prompts import interaction_prompt
from dallrec_core.data.matinee import HELD_OUT
from dallrec_core.llm.generate import generate
from dallrec_core.llm.load import load
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


def test_preference_is_half_understood_before_tuning():
    data, _ = matinee()
    unread = data.items["item_id"].isin(map(str, HELD_OUT)).to_numpy()  # kept from its texts
    pairs = data.train[unread[data.train["item"]]].sample(400, random_state=0)
    asked = pairs.assign(liked=pairs["rating"] >= 3)
    figures, _ = interactions.evaluate(Asker(load("standin", device="cpu")), data, asked)
    assert figures["auc"] >= 0.60


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

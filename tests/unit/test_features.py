"""From items to texts to vectors: whole values, determinism, empty texts, kinds of encoder."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from llm_support import tiny_checkpoint, tiny_model
from threadpoolctl import threadpool_limits
from tiny_data import books, movies
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from dallrec_core.augmentation.features import composed, encode, given, open_encoder, tfidf, written
from dallrec_core.errors import UserError
from dallrec_core.llm.embed import load_encoder, mean_states, of_language_model

WORDS = "a film about the war and love in space crime night city river gold stone house".split()
LONG = [" ".join(WORDS[i : i + 2 + i % 7]) for i in range(len(WORDS) - 2)]


SMALL = {"vocab_size": 40, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
BERT = BertConfig(**SMALL, num_hidden_layers=2, max_position_embeddings=32, initializer_range=0.5)
SHORT = BertConfig(**SMALL, num_hidden_layers=1, max_position_embeddings=6)
ROBERTA = RobertaConfig(**SMALL, num_hidden_layers=1, max_position_embeddings=8, pad_token_id=0)


def checkpoint(folder: Path, kind: type = BertModel, config: Any = BERT) -> Path:
    """Write a small random encoder with a word tokenizer."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", *WORDS]
    vocabulary = {word: i for i, word in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {f"{name.strip('[]').lower()}_token": name for name in names[:5]}
    torch.manual_seed(0)
    kind(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("bert"))


def lengths(matrix: np.ndarray) -> np.ndarray:
    return np.linalg.norm(matrix, axis=1)


# ---------------------------------------------------------------- words

DATA = movies()
GIVEN = given(DATA).documents


def values(*rows: tuple[Any, ...]) -> pd.DataFrame:
    """Rows item, field, value[, parsed]; all written."""
    full = [(*row[:3], "written", row[2], row[3] if len(row) > 3 else True) for row in rows]
    return pd.DataFrame(full, columns=["item", "field", "value", "origin", "raw", "parsed"])


def summaries(*rows: tuple[int, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["item", "summary"])
    return frame.assign(tokens=9, truncated=False)


def test_given_values_stay_whole_and_facts_keep_their_field() -> None:
    assert list(GIVEN) == ["attributes", "summary"]
    facts = ("director: Director 4", "country: USA", "language: English")
    assert GIVEN["attributes"][4] == ("Film-Noir", "Horror", *facts)
    assert GIVEN["attributes"][6] == ("Sci-Fi",)
    assert GIVEN["summary"][4] == "Film 04 (1954). Film 04 is good. It runs long."
    assert GIVEN["summary"][6] == "Film 06 (1956)."
    assert {len(documents) for documents in GIVEN.values()} == {DATA.n_items}
    of_books = given(books()).documents  # have authors, and nothing else here
    assert of_books["attributes"][1] == ("author: Author 1",)
    assert of_books["summary"][1] == "Volume 01 by Author 1 (1991)."


def test_written_values_come_after_the_given_ones_and_summaries_in_any_order() -> None:
    table = values(
        (6, "genres", "Drama"),
        (6, "genres", "Sci-Fi"),  # given already
        (6, "genres", "Drama"),  # twice
        (6, "director", "Somebody"),
        (7, "genres", ""),  # nothing new
        (8, "genres", "Horror!", False),  # unreadable
    )
    table.loc[len(table)] = (9, "genres", "War", "given", "", True)  # a given row
    rows = summaries((4, "A film. It is long."), (5, " "), (2, "Two."))
    made = written(DATA, table, rows)
    assert made.documents["attributes"][6] == ("Sci-Fi", "Drama", "director: Somebody")
    assert made.documents["attributes"][7:] == GIVEN["attributes"][7:]
    assert made.documents["summary"][2] == "Film 02 (1952). Two."
    kept = "Film 04 (1954). Film 04 is good. It runs long."
    assert made.documents["summary"][4] == f"{kept} A film. It is long."
    assert made.documents["summary"][5:] == GIVEN["summary"][5:]  # an empty answer is no summary
    kinds = ("items with something written", "items left as given", "items with nothing at all")
    for name, changed in (("attributes", 1), ("summary", 2)):
        counts = [made.counts[f"{name}: {kind}"] for kind in kinds]
        assert counts == [changed, DATA.n_items - changed, 0]
    assert made.documents == written(DATA, table, rows[::-1]).documents


def test_a_template_writes_where_there_is_no_text_and_says_nothing_new() -> None:
    made = composed(DATA).documents
    assert made["attributes"] == GIVEN["attributes"]
    for item, (text, before) in enumerate(zip(made["summary"], GIVEN["summary"], strict=True)):
        has_text = isinstance(DATA.rows[item]["text"], str)
        assert text.startswith(before) and (text == before) == has_text
    new = "Film 06 is a sci-fi movie from 1956. People who enjoy sci-fi may like it."
    assert made["summary"][6] == f"Film 06 (1956). {new}"


def test_tables_of_other_data_are_refused() -> None:
    with pytest.raises(UserError, match="summaries: row 1, column 'item' is 40, but there are 40"):
        written(DATA, values(), summaries((0, "x."), (40, "y.")))


# ---------------------------------------------------------------- TF-IDF


def test_a_value_is_one_token_whatever_it_looks_like() -> None:
    sets = [("Sci-Fi",), ("Film-Noir",), ("Sci", "Fi"), ("sci-fi ",), ("Film Noir",)]
    rows = encode({"attributes": sets}).vectors["attributes"]
    cosine = rows @ rows.T
    assert cosine[0, 3] == pytest.approx(1)  # case and spaces do not count
    assert cosine[0, 2] == cosine[1, 4] == cosine[0, 1] == 0
    assert (rows != 0).any(axis=0).sum() == 5  # sci-fi, film-noir, sci, fi, film noir
    words = encode({"summary": ["a Sci-Fi film", "some fi"]}).vectors["summary"]
    assert words[0] @ words[1] > 0  # running text is cut into words


def test_the_width_never_depends_on_the_texts() -> None:
    """So arms have models of equal size and equal initial weights."""
    for documents in ([("a",), ("b",)], LONG * 20, [""] * 3, []):
        assert encode({"x": documents}).vectors["x"].shape == (len(documents), 64)
    many = [f"word{i} word{i + 1} word{i * i % 97}" for i in range(150)]
    for n, dim in ((150, 8), (150, 149), (5, 10)):
        rows = encode({"x": many[:n]}, partial(tfidf, dim=dim)).vectors["x"]
        assert rows.shape == (n, dim) and np.allclose(lengths(rows), 1)
    marks = encode({"x": ["!!!", "gold"]})  # not empty, but without a word
    assert marks.counts["x: rows of zeros"] == 1


SCRIPT = """
import sys, hashlib
from dallrec_core.augmentation.features import encode, open_encoder
texts = [f"word{i} word{i + 1} word{i * i % 97} and more" for i in range(400)]
digests = []
for seed in (0, 1):
    rows = encode({"x": texts, "y": [(t,) for t in texts]}, open_encoder("tfidf", seed)).vectors
    digests.append(hashlib.sha256(rows["x"].tobytes() + rows["y"].tobytes()).hexdigest())
"""


def test_tfidf_is_the_same_to_the_byte_on_any_number_of_threads() -> None:
    here: dict[str, Any] = {}
    with threadpool_limits(1):
        exec(SCRIPT, here)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    done = subprocess.run(
        [sys.executable, "-c", f"{SCRIPT}\nprint(*digests, 'torch' in sys.modules)"],
        env=os.environ | {"PYTHONHASHSEED": "2", **dict.fromkeys(names, "2")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    *digests, needs_torch = done.stdout.split()
    assert digests == here["digests"] and len(set(digests)) == 2
    assert needs_torch == "False"


# ---------------------------------------------------------------- what all encoders share


@pytest.mark.parametrize("kind", ["tfidf", "encoder", "lm"])
def test_rows_have_length_one_and_empty_ones_are_zero_and_counted(encoder: Path, kind: str) -> None:
    name = {"tfidf": "tfidf", "encoder": str(encoder), "lm": f"lm:{tiny_checkpoint()}"}[kind]
    documents = {"x": ["war and love", "", "  ", "gold", ""], "none": ["", ""], "no": []}
    documents |= {"y": [(), ("gold",), (" ",), ("a", "b"), ()], "same": ["love, city"] * 3}
    documents["same"][1] = ("love", "city")  # values are joined
    made = encode(documents, open_encoder(name))
    assert lengths(made.vectors["x"]) == pytest.approx([1, 0, 0, 1, 0])
    assert lengths(made.vectors["y"]) == pytest.approx([0, 1, 0, 1, 0])
    assert made.vectors["x"].dtype == np.float32 and made.vectors["x"].flags.c_contiguous
    assert made.counts["x: rows of zeros"] == made.counts["y: rows of zeros"] == 3
    assert made.counts["x: texts cut short"] == 0
    assert not made.vectors["none"].any() and made.counts["none: rows of zeros"] == 2
    assert np.allclose(made.vectors["same"], made.vectors["same"][0])
    assert made.vectors["no"].shape == (0, made.vectors["same"].shape[1])


# ---------------------------------------------------------------- encoders of Hugging Face


def test_the_mean_is_over_the_tokens_of_the_text(encoder: Path) -> None:
    vectors, cut = mean_states(load_encoder(str(encoder)), LONG)
    model = BertModel.from_pretrained(encoder).eval()
    reader = load_encoder(str(encoder)).tokenizer
    for text, vector in zip(LONG, vectors, strict=True):
        with torch.inference_mode():
            states = model(**reader(text, return_tensors="pt")).last_hidden_state
        assert np.allclose(vector, states[0].mean(dim=0), atol=1e-5)
    assert cut == 0 and vectors.dtype == np.float32


@pytest.mark.parametrize("kind", ["encoder", "lm"])
def test_padding_takes_no_part(encoder: Path, kind: str) -> None:
    known = of_language_model(tiny_model()) if kind == "lm" else load_encoder(str(encoder))
    one, some, all_ = (mean_states(known, LONG, batch_tokens=n)[0] for n in (1, 30, 10**6))
    assert np.abs(one - some).max() < 1e-5 and np.abs(one - all_).max() < 1e-5
    assert np.abs(one[0] - one[1]).max() > 1e-2  # and texts differ
    assert np.abs(mean_states(known, LONG[::-1])[0][::-1] - one).max() < 1e-5


@pytest.mark.parametrize(
    ("kind", "config", "room"), [(BertModel, SHORT, 6), (RobertaModel, ROBERTA, 7)]
)
def test_long_texts_are_cut_and_counted(tmp_path: Path, kind: type, config: Any, room: int) -> None:
    """RoBERTa's positions begin behind the one of the padding."""
    reader = load_encoder(str(checkpoint(tmp_path, kind, config)))
    assert reader.max_tokens == room
    kept = " ".join(WORDS[: room - 2])  # one token begins a text and one ends it
    vectors, cut = mean_states(reader, [kept, f"{kept} in the city", "war"])
    assert cut == 1 and np.allclose(vectors[0], vectors[1], atol=1e-6)
    assert not np.allclose(vectors[0], vectors[2], atol=1e-6)
    made = encode({"x": [" ".join(WORDS)]}, open_encoder(str(tmp_path)))
    assert made.counts["x: texts cut short"] == 1


def test_a_masked_model_is_an_encoder_without_its_head_and_pooler(tmp_path: Path) -> None:
    checkpoint(tmp_path, BertForMaskedLM)
    rows = encode({"x": LONG}, open_encoder(str(tmp_path))).vectors["x"]
    assert rows.shape == (len(LONG), 16) and np.allclose(lengths(rows), 1)


# ---------------------------------------------------------------- the language model itself


def test_states_are_the_last_ones_and_the_first_token_does_not_count() -> None:
    lm = tiny_model()
    reader = of_language_model(lm)
    ids = torch.tensor(lm.tokenizer(["crime yes no"])["input_ids"])
    with torch.inference_mode():
        states = lm.model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
    assert np.allclose(mean_states(reader, ["crime yes no"])[0][0], states.mean(dim=0), atol=1e-5)
    begun = reader._replace(skip=int(ids[0, 0]))
    found = mean_states(begun, ["crime yes no"])[0][0]
    assert np.allclose(found, states[1:].mean(dim=0), atol=1e-5)
    alone = lm.decode([int(ids[0, 0])])
    if len(lm.tokenizer(alone)["input_ids"]) == 1:  # nothing would be left: it counts after all
        assert mean_states(begun, [alone])[0].any()

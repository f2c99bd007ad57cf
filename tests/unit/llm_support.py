"""A tiny random Llama with a byte-level BPE tokenizer, made once per test process."""

from __future__ import annotations

import multiprocessing
import socket
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dallrec_core.llm.load import LanguageModel, load

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CORPUS = [
    "A viewer liked: Heat (1995) (Action|Crime|Thriller). Answer yes or no.",
    "Movie: Fargo (1996). Known genres: Crime. List up to three genres. yes no Yes No",
]


def make_checkpoint(
    folder: Path, *, width: int = 32, seed: int = 0, chat: bool = True, places: int = 256
) -> Path:
    """Write a random two-layer Llama and its tokenizer to `folder`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    ends = {"eos_token": "<|end|>", "pad_token": "<|pad|>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **ends)
    if chat:
        fast.chat_template = TEMPLATE
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=places,
        tie_word_embeddings=True, pad_token_id=fast.pad_token_id, bos_token_id=None,
        eos_token_id=fast.eos_token_id,
        initializer_range=0.3,  # answers must differ clearly between prompts
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


FOLDER = tempfile.TemporaryDirectory(prefix="dallrec-llm-")
"""Of this process, removed at its end."""


def tiny_checkpoint(*, width: int = 32, seed: int = 0, chat: bool = True) -> Path:
    """The tiny checkpoint; do not change its files."""
    folder = Path(FOLDER.name) / f"tiny-{width}-{seed}-{chat}"
    return folder if folder.exists() else make_checkpoint(folder, width=width, seed=seed, chat=chat)


@cache
def tiny_model(*, chat: bool = True) -> LanguageModel:
    """The tiny model, loaded once; do not change it."""
    return load(str(tiny_checkpoint(chat=chat)), device="cpu")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Keep torch from using threads of this process, which its forks would not have."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def side_by_side(work: Callable[..., object], *calls: tuple[object, ...]) -> None:
    """Run `work` in a fork for each tuple of arguments, all at the same time."""
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=work, args=arguments, daemon=True) for arguments in calls]
    for child in children:
        child.start()
    for child in children:
        child.join(300)
    assert {child.exitcode for child in children} == {0}


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

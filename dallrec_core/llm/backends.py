"""Where the model of a run is asked: loaded here, or behind an address."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dallrec_core.llm.models import LanguageModel, load
from dallrec_core.llm.served import ServedModel, connect

_say = cache(print)
"""Prints each different line once: a page opens its model many times."""


def open_model(
    chosen: Mapping[str, Any], task: str, adapter: Path | None, llm_backend: str = ""
) -> LanguageModel | ServedModel:
    """Load the chosen model with its adapter, or connect to the server that has it.

    Args:
        chosen: `language_model`, `revision` and `quantize`, as page 2 noted them; and its
            `llm_backend`, if it asked a served model, which then has no adapters.
        task: name of the adapter's task. A server that lists a model of this name (vLLM:
            `--lora-modules`) is asked for it, any other for `language_model`.
        adapter: folder of the adapter, for a model that is loaded here.
        llm_backend: address of a server; empty for that of page 2, if any.

    Raises:
        UserError: as `models.load` and `served.connect` do.
    """
    name, revision = chosen["language_model"], chosen["revision"]
    address = llm_backend or chosen.get("llm_backend", "")
    if not address:
        return load(name, adapter=adapter, quantize=chosen["quantize"], revision=revision or None)
    lm = connect(address, [task, name] if llm_backend else [name], revision=revision)
    _say(f"asking '{lm.name}' at {address}; p(yes) is read from "
         f"{'log-probabilities' if lm.logprobs else 'the text: 1 or 0'}")  # fmt: skip
    return lm

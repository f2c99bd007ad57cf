"""Parameters of notebooks: their types and bounds, overridden by profiles and the command line.

Papermill itself only warns about a parameter that the notebook does not have, and accepts any type;
here both are errors that list what there is, before anything has run or been cleared away.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, ConfigDict, Field, ValidationError, create_model

from dallrec_core.chain.pages import PAGES, Page, find_page
from dallrec_core.chain.places import notebooks_dir
from dallrec_core.errors import UserError

Overrides = dict[str, dict[str, Any]]
"""Parameter values by page and name."""

# ---------------------------------------------------------------- what values may be


def _must(be: Callable[[Any], bool], words: str) -> AfterValidator:
    """Return a check that refuses what is not so; `words` say what the value should be."""

    def check(value: Any) -> Any:
        if not be(value):
            raise ValueError(words)
        return value

    return AfterValidator(check)


def _is_encoder(text: str) -> bool:
    slip = text != "tfidf" and difflib.get_close_matches(text.lower(), ["tfidf"])
    return not slip and text not in ("", "lm", "lm:")


Encoder = Annotated[str, _must(
    _is_encoder,
    "'tfidf', 'lm:' and a language model such as 'lm:standin', or the folder or Hugging Face id of "
    "a text encoder such as 'sentence-transformers/all-MiniLM-L6-v2'",
)]  # fmt: skip
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Several = Annotated[int, Field(ge=2)]
Seed = Annotated[int, Field(ge=0, le=2_000_000_000)]  # fits 32 bits with those that follow it
Backbone = Literal[
    "MF-BPR", "NMF", "NGCF", "LightGCN", "MMGCN", "GRCN", "MMSSL", "Popularity", "ItemKNN", "EASE"
]
OwnBackbone = Annotated[str, Field(pattern=r"^[\w.]+:\w+$"), _must(
    lambda text: importlib.util.find_spec(text.partition(":")[0]) is not None,
    "'module:Class' of a module that Python finds; put the folder of its file on PYTHONPATH",
)]  # fmt: skip
_DIFFERENT = _must(lambda values: len(set(values)) == len(values), "a list without repetitions")
_WITH_BASE = _must(lambda arms: "base" in arms, "a list with 'base'")
Backbones = Annotated[list[Backbone | OwnBackbone], _DIFFERENT]
Arm = Literal[
    "base", "dallrec", "interactions", "attributes", "summaries", "random", "popular", "self",
    "text_knn", "zero_shot", "oracle", "shuffled", "constant", "noise", "given_text",
]  # fmt: skip

TYPES: dict[str, Any] = {
    "seed": Seed,
    "dataset": Literal[
        "matinee", "ml-100k", "ml-1m", "book-crossing", "published", "published-book",
        "released-edges", "files",
    ],
    "split": Literal["random", "temporal", "leave_one_out", "published"],
    "train_fraction": Annotated[float, Field(gt=0, le=1)],
    "noun": Literal["movie", "book"],
    "quantize": Literal["none", "4bit"],
    "dtype": Literal["auto", "float32", "bfloat16", "float16"],
    "wording": Literal["default", "paper"],
    "n_examples": Several,
    "02_finetune.epochs": Positive,
    "learning_rate": Annotated[float, Field(gt=0, allow_inf_nan=False)],
    "curve_sizes": list[Several],
    "strategy": Literal["candidates", "cold_items", "paper"],
    "calibration_method": Literal["temperature", "isotonic", "none"],
    "max_share": Annotated[float, Field(ge=0, allow_inf_nan=False)],
    "base": Literal["EASE", "ItemKNN", "Popularity"],
    "backbones": Annotated[Backbones, Field(min_length=1)],
    "references": Backbones,
    "arms": Annotated[list[Arm], _DIFFERENT, _WITH_BASE],
    "seeds": Annotated[int, Field(ge=1, le=1000)],
    "encoder": Encoder,
    "top_k": Annotated[int, Field(ge=1, le=100)],
}  # fmt: skip
"""By name, or by page and name, where the annotation in a notebook allows too much.

:meta hide-value:
"""
TYPES |= dict.fromkeys(("precision", "hard_negatives"), Share)
TYPES |= dict.fromkeys(
    ("lora_rank", "batch_size", "gradient_accumulation", "per_user", "budget"), Positive
)
TYPES |= dict.fromkeys(("max_new_tokens", "fact_tokens"), Positive)
TYPES |= dict.fromkeys(("epochs", "patience", "held_out", "min_interactions"), Count)
TYPES |= dict.fromkeys(("max_items", "max_per_user", "jobs"), Count)


@dataclass(frozen=True)
class Parameter:
    """One assignment of a parameters cell."""

    name: str
    "Its name."
    kind: str
    'Its type as annotated, e.g. "list[str]".'
    default: Any
    "Its literal value."
    comment: str
    "The comment behind it."

    @property
    def type(self) -> Any:
        """The annotated type itself."""
        return eval(self.kind)  # from our own notebooks, whose code is executed anyway


def read_parameters(notebook: Path) -> dict[str, Parameter]:
    """Return the parameters of a notebook by name, as Papermill reads them.

    Raises:
        UserError: when the file is absent, no notebook, or has a parameter that is no literal.
    """
    import papermill

    try:
        return {
            name: Parameter(
                name, p["inferred_type_name"], ast.literal_eval(p["default"]), p["help"]
            )
            for name, p in papermill.inspect_notebook(notebook).items()
        }
    except FileNotFoundError as error:
        raise UserError(f"{notebook} does not exist") from error
    except Exception as error:  # nbformat, json, ast: whatever is wrong with the file
        raise UserError(f"{notebook} is not a notebook with parameters: {error}") from error


def page_parameters(page: Page) -> dict[str, Parameter]:
    """Return the parameters of a page's notebook."""
    return read_parameters(notebooks_dir() / page.notebook)


def check(page: Page, values: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse values that the page's notebook does not have, or that no run could use.

    Args:
        page: the page.
        values: some of its parameters.

    Returns:
        The same values.

    Raises:
        UserError: saying what there is, or what the value should be.
    """
    known = {name: p for name, p in page_parameters(page).items() if name != "run"}
    fields: dict[str, Any] = {
        name: (TYPES.get(f"{page.name}.{name}") or TYPES.get(name) or p.type, p.default)
        for name, p in known.items()
    }
    model = create_model(page.name, __config__=ConfigDict(extra="forbid", strict=True), **fields)
    try:
        return model.model_validate(values).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise UserError(_explain(page, known, error)) from error


def _explain(page: Page, known: Mapping[str, Parameter], error: ValidationError) -> str:
    """Say in one line what is wrong with the first value that pydantic refuses."""
    problems = error.errors()
    # of a union's complaints, the one of our own check says most
    first = next((p for p in problems if p["type"] == "value_error"), problems[0])
    name, value = str(first["loc"][0]), first["input"]
    if name == "run":
        return "name the run with --run, not as a parameter"
    if first["type"] == "extra_forbidden":
        listing = "; ".join(f"{p.name}: {p.kind} = {p.default!r}" for p in known.values())
        return f"{page.name} has no parameter '{name}'{guess(name, known)}. It has {listing}"
    said = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if first["type"] == "literal_error":
        said += guess(str(value), re.findall(r"'([^']+)'", said))
    if first["type"] == "float_type" and isinstance(value, str):
        said += " (YAML reads 1e-4 as text, write 1.0e-4)"
    return f"{page.name}.{name} should be {said}, but is {value!r}"


def guess(word: str, words: Iterable[str]) -> str:
    """Return a question whether the nearest of `words` is meant; nothing when none is near."""
    near = difflib.get_close_matches(word, list(words), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


# ---------------------------------------------------------------- where values come from


def as_path(name: str, text: str) -> Path | None:
    """Return the absolute path that a text parameter names; None where it is no path.

    A parameter whose name ends in `_path` holds one; others do if the text begins with "." or "~",
    or has a slash and names something that exists (a Hugging Face id has a slash, too).
    """
    path = Path(text).expanduser()
    named = name.endswith("_path") or text.startswith((".", "~")) or ("/" in text and path.exists())
    return path.resolve() if text and named else None


def from_text(text: str, parameter: Parameter) -> Any:
    """Read a value that was typed as text: YAML, or the text itself where a string is wanted."""
    if parameter.kind == "str":
        return str(as_path(parameter.name, text) or text.strip("\"'"))
    try:
        value = yaml.safe_load(text)
        return float(value) if parameter.kind == "float" and isinstance(value, str) else value
    except (yaml.YAMLError, ValueError):
        return text


def parse_overrides(texts: Iterable[str]) -> Overrides:
    """Turn `page.name=value` texts (or `seed=value`, for every page) into checked values.

    Raises:
        UserError: naming the text that cannot be read, or the parameter that does not exist.
    """
    found: Overrides = {}
    for text in texts:
        target, equals, value = text.partition("=")
        *prefix, name = target.strip().split(".", 1)
        if not equals or not (prefix or name == "seed"):
            raise UserError(f"'{text}' is not 'page.name=value', e.g. 06_recommenders.seeds=5")
        for page in map(find_page, prefix or [page.name for page in PAGES]):
            parameter = page_parameters(page).get(name, Parameter(name, "str", "", ""))
            parsed = check(page, {name: from_text(value.strip(), parameter)})
            found.setdefault(page.name, {}).update(parsed)
    return found


def check_notebook(page: Page, names: dict[str, Any]) -> None:
    """Check a notebook's parameters; turn those that `papermill -p` gave as text into their types.

    Args:
        page: the page.
        names: the variables of the notebook; parameters among them are changed in place.

    Raises:
        UserError: for a value that is not of its type or out of bounds.
    """
    known = page_parameters(page)
    given = {name: names[name] for name in known if name in names and name != "run"}
    for name, value in given.items():
        if isinstance(value, str) and known[name].kind != "str":
            given[name] = from_text(value, known[name])
    names.update(check(page, given))


def resolve(page: Page, *layers: Overrides) -> dict[str, Any]:
    """Return every parameter of a page except `run`: defaults, then each layer over them."""
    values = {name: p.default for name, p in page_parameters(page).items() if name != "run"}
    for layer in layers:
        values.update(layer.get(page.name, {}))
    return values

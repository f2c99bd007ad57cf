"""Parameters of notebooks: their types and bounds, overridden by profiles and the command line.

Papermill itself only warns about a parameter that the notebook does not have, and accepts any type;
here both are errors that list what there is, before anything has run or been cleared away.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeInt, PositiveInt

from dallrec_core.chain.pages import PAGES, Page, find_page, notebooks_dir
from dallrec_core.errors import UserError

Overrides = dict[str, dict[str, Any]]
"""Parameter values by page and name."""

# ---------------------------------------------------------------- what values may be


def _with_base(arms: list[str]) -> list[str]:
    if "base" not in arms:
        raise ValueError("a list with 'base', with which arms are compared, is wanted")
    return arms


# the bundled one, a language model, or the Hugging Face id or folder of a text encoder
Encoder = Literal["tfidf"] | Annotated[str, Field(pattern="^lm:.|/")]
Share = Annotated[float, Field(ge=0, le=1)]
Several = Annotated[int, Field(ge=2)]
Seed = Annotated[int, Field(ge=0, le=2_000_000_000)]  # fits 32 bits with those that follow it
Backbone = Literal[
    "MF-BPR", "NMF", "NGCF", "LightGCN", "MMGCN", "GRCN", "MMSSL", "Popularity", "ItemKNN", "EASE"
]
OwnBackbone = Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]  # module:Class
Arm = Literal[
    "base", "dallrec", "interactions", "attributes", "summaries", "random", "popular", "self",
    "liked_only", "liked_dallrec", "liked_counting", "text_knn", "coin", "counting",
    "counting_written", "zero_shot", "oracle", "shuffled", "constant", "noise", "given_text",
    "true_attributes",
]  # fmt: skip

TYPES: dict[str, Any] = {
    "seed": Seed,
    "dataset": Literal[
        "matinee", "book-crossing", "published", "published-book", "released-edges", "files",
        "ml-100k", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m", "ml-latest", "ml-latest-small",
        "lastfm-2k", "amazon-2023", "goodbooks-10k",
    ],
    "split": Literal["random", "temporal", "leave_one_out", "hidden_items", "published"],
    "train_fraction": Annotated[float, Field(gt=0, le=1)],
    "quantize": Literal["none", "4bit"],
    "dtype": Literal["auto", "float32", "bfloat16", "float16"],
    "wording": Literal["default", "paper"],
    # written into every run, so without a user, a password or a key
    "llm_backend": Annotated[str, Field(pattern="^(https?://[^@?]+)?$")],
    "n_examples": Several,
    "02_finetune.epochs": PositiveInt,
    "learning_rate": Annotated[float, Field(gt=0, allow_inf_nan=False)],
    "curve_sizes": list[Several],
    "strategy": Literal["candidates", "cold_items", "paper"],
    "calibration_method": Literal["temperature", "isotonic", "none"],
    "confirm": Literal["guessing", "counting", "nothing"],
    "max_share": Annotated[float, Field(ge=0, allow_inf_nan=False)],
    "base": Literal["EASE", "ItemKNN", "Popularity"],
    "backbones": Annotated[list[Backbone | OwnBackbone], Field(min_length=1)],
    "references": list[Backbone | OwnBackbone],
    "arms": Annotated[list[Arm], AfterValidator(_with_base)],
    "seeds": Annotated[int, Field(ge=1, le=1000)],
    "encoder": Encoder,
    "top_k": Annotated[int, Field(ge=1, le=100)],
}  # fmt: skip
"""By name, or by page and name, where the annotation in a notebook allows too much.

:meta hide-value:
"""
_AT_LEAST_ONE = (
    "lora_rank", "batch_size", "gradient_accumulation", "per_user", "budget", "max_new_tokens",
    "fact_tokens",
)  # fmt: skip
_NONE_OR_MORE = (
    "epochs", "patience", "held_out", "min_interactions", "max_items", "max_per_user", "jobs",
)  # fmt: skip
TYPES |= dict.fromkeys(("precision", "hard_negatives"), Share)
TYPES |= dict.fromkeys(_AT_LEAST_ONE, PositiveInt)
TYPES |= dict.fromkeys(_NONE_OR_MORE, NonNegativeInt)


@dataclass(frozen=True)
class Parameter:
    """One assignment of a parameters cell."""

    name: str
    kind: str
    'Its type as annotated, e.g. "list[str]".'
    default: Any
    "Its literal value."
    comment: str
    "The comment behind it."


def page_parameters(page: Page) -> dict[str, Parameter]:
    """Return the parameters of a page's notebook by name, as Papermill reads them.

    Raises:
        UserError: when the file is absent, no notebook, or has a parameter that is no literal.
    """
    import papermill

    notebook = notebooks_dir() / page.notebook

    def read(name: str, inferred_type_name: str, default: str, help: str) -> Parameter:
        return Parameter(name, inferred_type_name, ast.literal_eval(default), help)

    try:
        return {name: read(**found) for name, found in papermill.inspect_notebook(notebook).items()}
    except Exception as error:  # nbformat, json, ast: whatever is wrong with the file
        raise UserError(f"{notebook} is not a notebook with parameters: {error}") from error


def own_parameters(page: Page) -> dict[str, Parameter]:
    """Return the parameters of a page's notebook but for `run`, which says where results go."""
    return {name: p for name, p in page_parameters(page).items() if name != "run"}


def check(page: Page, values: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse values that the page's notebook does not have, or that no run could use.

    Args:
        page: the page.
        values: some of its parameters; texts, as Papermill and the command line give them, become
            what the annotations say.

    Returns:
        The same values.

    Raises:
        UserError: saying what there is, or what the value should be.
    """
    known = own_parameters(page)
    fields: dict[str, Any] = {}
    for name, parameter in known.items():
        bounded = TYPES.get(f"{page.name}.{name}") or TYPES.get(name)
        kind = bounded or eval(parameter.kind)  # our own notebook, whose code is executed anyway
        fields[name] = Annotated[kind, BeforeValidator(partial(from_text, parameter))], None
    strict = pydantic.ConfigDict(extra="forbid", strict=True)
    model = pydantic.create_model(page.name, __config__=strict, **fields)
    try:
        return model.model_validate(values).model_dump(exclude_unset=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = f"{page.name}.{first['loc'][0]}"
        if first["type"] == "extra_forbidden":
            listing = "; ".join(f"{p.name}: {p.kind} = {p.default!r}" for p in known.values())
            near = "".join(get_close_matches(str(first["loc"][0]), known, 1))
            said = f"there is no parameter {place}" + (f"; did you mean {near}?" if near else ".")
            raise UserError(f"{said} {page.name} has {listing}") from error
        raise UserError(f"{place}: {first['msg']}, but it is {first['input']!r}") from error


# ---------------------------------------------------------------- where values come from


def as_path(name: str, text: str) -> Path | None:
    """Return the absolute path that a text parameter names; None where it is no path.

    A parameter whose name ends in `_path` holds one; others do if the text begins with "." or "~",
    or has a slash and names something that exists (a Hugging Face id has a slash, too).
    """
    path = Path(text).expanduser()
    named = name.endswith("_path") or text.startswith((".", "~")) or ("/" in text and path.exists())
    return path.resolve() if text and named else None


def from_text(parameter: Parameter, value: Any) -> Any:
    """Read a value that was given as text: YAML, or the text itself where a string is wanted."""
    if not isinstance(value, str):
        return value
    if parameter.kind == "str":
        return str(as_path(parameter.name, value) or value)
    try:
        found = yaml.safe_load(value)
        return float(found) if parameter.kind == "float" and isinstance(found, str) else found
    except (yaml.YAMLError, ValueError):
        return value


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
            parsed = check(page, {name: value.strip().strip("\"'")})
            found.setdefault(page.name, {}).update(parsed)
    return found


def resolve(page: Page, *layers: Overrides) -> dict[str, Any]:
    """Return every parameter of a page except `run`: defaults, then each layer over them."""
    values = {name: p.default for name, p in own_parameters(page).items()}
    for layer in layers:
        values |= layer.get(page.name, {})
    return values


# ---------------------------------------------------------------- profiles


class Profile(pydantic.BaseModel):
    """Parameters of several notebooks for a kind of data or machine: a YAML file."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    name: str
    "Name of the profile, and of the run it makes."
    description: str
    "What it does, in one sentence."
    hardware: str
    "The machine it is meant for, in words."
    needs: dict[str, float] = {}
    "The same in numbers: memory_gib, disk_gib, gpu_gib."
    parameters: Overrides
    "Values by page and parameter."


def profiles() -> list[Profile]:
    """Return the profiles that come with the book, those with the smallest needs first."""
    needs = ("gpu_gib", "memory_gib", "disk_gib")
    loaded = [load_profile(str(path)) for path in (notebooks_dir() / "profiles").glob("*.yml")]
    return sorted(loaded, key=lambda profile: [profile.needs.get(need, 0) for need in needs])


def load_profile(name: str) -> Profile:
    """Load a profile by name, or by the path of a YAML file, and check all its parameters.

    Raises:
        UserError: when it does not exist, is not readable, or sets what no notebook has.
    """
    path, folder = Path(name), notebooks_dir() / "profiles"
    if path.suffix not in (".yml", ".yaml"):
        path = folder / f"{name}.yml"
        if not path.is_file():
            ours = ", ".join(sorted(each.stem for each in folder.glob("*.yml")))
            raise UserError(f"there is no profile '{name}'; there are {ours}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        profile = Profile.model_validate({"name": path.stem, **content})
        checked = [(find_page(key), values) for key, values in profile.parameters.items()]
        parameters = {page.name: check(page, values) for page, values in checked}
    except (OSError, yaml.YAMLError, ValueError, TypeError, UserError) as error:
        raise UserError(f"profile {path}: {' '.join(str(error).split())}") from error
    return profile.model_copy(update={"parameters": parameters})

"""Parameters of notebooks: read from the tagged cell, overridden by profiles and the command line.

Papermill itself only warns about a parameter that the notebook does not have, and accepts any type;
here both are errors that list what there is.
"""

from __future__ import annotations

import ast
import difflib
import io
import json
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dallrec_core import limits
from dallrec_core.errors import UserError
from dallrec_core.layout import STAGES, Stage, book_root, find_stage

_PLAIN = {"int": int, "float": (int, float), "str": str, "bool": bool, "None": type(None)}

Overrides = dict[str, dict[str, Any]]


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


def code_cells(notebook: Path) -> list[tuple[str, list[str]]]:
    """Return source and tags of each code cell.

    Raises:
        UserError: when the file is absent or no notebook.
    """
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        return [("".join(cell["source"]), cell["metadata"].get("tags", [])) for cell in code]
    except FileNotFoundError as error:
        raise UserError(f"{notebook} does not exist") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{notebook} is not a notebook: {error!r}") from error


def read_parameters(notebook: Path) -> dict[str, Parameter]:
    """Return the parameters of a notebook by name.

    Raises:
        UserError: when there is not exactly one parameters cell of typed literals.
    """
    cells = [source for source, tags in code_cells(notebook) if "parameters" in tags]
    if len(cells) != 1:
        raise UserError(f"{notebook.name} has {len(cells)} cells tagged 'parameters', not one")
    comments = _comments(cells[0])
    found = {}
    for node in ast.parse(cells[0]).body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            raise UserError(
                f"{notebook.name}: parameters line {node.lineno} is not 'name: type = literal'"
            )
        name = node.target.id
        default = ast.literal_eval(node.value) if node.value else None
        comment = comments.get(node.end_lineno or node.lineno, "")
        found[name] = Parameter(name, ast.unparse(node.annotation), default, comment)
    return found


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}


def fits(value: Any, kind: str) -> bool:
    """Tell whether `value` is of the annotated type `kind` (an int passes for a float)."""
    return _fits(value, ast.parse(kind, mode="eval").body)


def _fits(value: Any, node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return _fits(value, node.left) or _fits(value, node.right)
    if isinstance(node, ast.Subscript):
        return _fits_inside(value, node)
    kind = ast.unparse(node)
    if isinstance(value, bool) and kind != "bool":
        return False
    kinds: dict[str, Any] = {**_PLAIN, "list": list, "dict": dict}
    return isinstance(value, kinds[kind])


def _fits_inside(value: Any, node: ast.Subscript) -> bool:
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if ast.unparse(node.value) == "dict" and isinstance(value, dict):
        return all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    return isinstance(value, list) and all(_fits(element, inner[0]) for element in value)


def stage_parameters(stage: Stage) -> dict[str, Parameter]:
    """Return the parameters of a stage's notebook."""
    return read_parameters(book_root() / "notebooks" / stage.notebook)


def check(stage: Stage, values: Mapping[str, Any]) -> None:
    """Refuse values that the stage's notebook does not have, or of another type.

    Raises:
        UserError: listing the valid parameters, with the closest one suggested.
    """
    known = stage_parameters(stage)
    for name, value in values.items():
        if name not in known or name == "run":
            raise UserError(_unknown(stage, name, known))
        parameter = known[name]
        if not fits(value, parameter.kind):
            hint = ""
            if parameter.kind == "float" and isinstance(value, str):
                hint = "; YAML reads 1e-4 as text, write 1.0e-4"
            raise UserError(
                f"{stage.name}.{name} should be {parameter.kind}, like {parameter.default!r}, "
                f"but is {type(value).__name__} {value!r}{hint}"
            )
        limits.check(stage.name, name, value)


def read_texts(stage: Stage, names: dict[str, Any]) -> None:
    """Turn parameters that `papermill -p` handed over as text into what their annotations say.

    Args:
        stage: the stage, for messages.
        names: the variables of the notebook, with their `__annotations__`; changed in place.

    Raises:
        UserError: for a value that is not of its type.
    """
    for name, kind in names.get("__annotations__", {}).items():
        text = kind.__name__ if isinstance(kind, type) else str(kind)
        if isinstance(names.get(name), str) and text != "str":
            names[name] = value = _parse(names[name], text, name)
            if not fits(value, text):
                raise UserError(f"{stage.name}.{name} should be {text}, but is {value!r}")


def _unknown(stage: Stage, name: str, known: Mapping[str, Parameter]) -> str:
    if name == "run":
        return "name the run with --run, not as a parameter"
    near = difflib.get_close_matches(name, known, n=1)
    guess = f" (did you mean '{near[0]}'?)" if near else ""
    listing = "; ".join(
        f"{p.name}: {p.kind} = {p.default!r}" for p in known.values() if p.name != "run"
    )
    return f"{stage.name} has no parameter '{name}'{guess}. It has {listing}"


def parse_overrides(texts: Iterable[str]) -> Overrides:
    """Turn `stage.name=value` texts (or `seed=value`, for every stage) into checked values.

    Values are YAML; where the parameter is a string they are taken as they stand.

    Raises:
        UserError: naming the text that cannot be read, or the parameter that does not exist.
    """
    found: Overrides = {}
    for text in texts:
        target, equals, value = text.partition("=")
        prefix, dot, name = target.strip().partition(".")
        if not equals or (not dot and prefix != "seed"):
            raise UserError(f"'{text}' is not 'stage.name=value', e.g. 06_recommenders.seeds=5")
        for stage in [find_stage(prefix)] if dot else STAGES:
            key = name if dot else prefix
            known = stage_parameters(stage)
            parsed = _parse(value.strip(), known[key].kind, key) if key in known else value
            check(stage, {key: parsed})
            found.setdefault(stage.name, {})[key] = parsed
    return found


def _parse(text: str, kind: str, name: str) -> Any:
    if kind == "str":
        path = Path(text).expanduser()
        is_path = (
            name.endswith("_path") or text.startswith((".", "~")) or ("/" in text and path.exists())
        )
        return str(path.resolve()) if text and is_path else text.strip("\"'")
    try:
        value = yaml.safe_load(text)
        return float(value) if kind == "float" and isinstance(value, str) else value
    except (yaml.YAMLError, ValueError):
        return text


def resolve(stage: Stage, *layers: Overrides) -> dict[str, Any]:
    """Return every parameter of a stage except `run`: defaults, then each layer over them."""
    values = {name: p.default for name, p in stage_parameters(stage).items() if name != "run"}
    for layer in layers:
        values.update(layer.get(stage.name, {}))
    return values

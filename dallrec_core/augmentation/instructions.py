"""Instruction files in Alpaca form: one JSON object a line with instruction, input and output."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from dallrec_core.artifacts import atomic
from dallrec_core.errors import UserError

FIELDS = ("instruction", "input", "output")


def record(instruction: str, output: str, wording: str = "default") -> dict[str, str]:
    """One Alpaca record; the authors' files hold a single space as input."""
    return {
        "instruction": instruction,
        "input": " " if wording == "paper" else "",
        "output": output,
    }


def write_instructions(records: Iterable[Mapping[str, str]], path: Path) -> Path:
    """Write records as JSON lines, whole or not at all."""
    lines = [json.dumps({f: r[f] for f in FIELDS}, ensure_ascii=False) + "\n" for r in records]
    with atomic(Path(path)) as partial:
        partial.write_text("".join(lines), encoding="utf-8")
    return Path(path)


def read_instructions(path: Path) -> list[dict[str, str]]:
    """Read JSON lines.

    Raises:
        UserError: naming the line and the field that is missing, empty or not text.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    lines = enumerate(text.split("\n"), start=1)  # not splitlines: text may hold U+2028
    return [_parse(line, f"{path}, line {number}") for number, line in lines if line.strip()]


def _parse(line: str, where: str) -> dict[str, str]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not a JSON object: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected an object with {', '.join(FIELDS)}")
    value.setdefault("input", "")
    for name in FIELDS:
        if not isinstance(value.get(name), str):
            raise UserError(f"{where}: field '{name}' is missing or not text")
        if name != "input" and not value[name].strip():
            raise UserError(f"{where}: field '{name}' is empty")
    return {name: value[name] for name in FIELDS}

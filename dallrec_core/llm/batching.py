"""Prompts as rows of tokens, grouped by what they share and packed into batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, count, pairwise
from operator import ne
from typing import NamedTuple

from dallrec_core.errors import UserError
from dallrec_core.llm.models import LanguageModel, render

Question = str | tuple[str, str]
"""An instruction, whole or as (prefix shared with other questions, own suffix)."""

_WORTH_SHARING = 16  # tokens, or a quarter of a row; less costs more in overhead than it saves
_MARGIN = 24  # characters of the shared beginning that are tokenized with each prompt's own end
_ROW = 192  # tokens of questions per row; more would mostly attend to what the mask hides


@dataclass(frozen=True)
class Group:
    """Questions that share a prefix and a row behind it; without a prefix each has its own row."""

    prefix: tuple[int, ...]
    rows: list[tuple[int, list[int]]]
    """(position of the question, its tokens after the prefix)."""

    @property
    def widths(self) -> tuple[int, int]:
        """Tokens of the prefix, and of all that stands behind it."""
        return len(self.prefix), sum(len(tokens) for _, tokens in self.rows)


def tokenize(
    lm: LanguageModel,
    texts: Sequence[str],
    positions: Sequence[int],
    *,
    prefixes: Sequence[str] = (),
    answer: int = 0,
) -> list[tuple[int, list[int]]]:
    """Render and tokenize the prompts at `positions`: (position, token ids) of each.

    Args:
        lm: the model whose template and tokenizer are used.
        texts: all prompts.
        positions: those that are wanted.
        prefixes: beginning of each wanted prompt, empty where it is not shared. What prompts share
            is tokenized once; the result is the same.
        answer: tokens that must still fit behind a prompt.

    Raises:
        UserError: when one leaves no room for `answer` more tokens.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for position, prefix in zip(positions, prefixes, strict=bool(prefixes)):
        members[prefix].append(position)
    found = _in_two_parts(lm, texts, members)
    if rest := [i for i in positions if i not in found]:
        found |= zip(rest, lm.encode([render(lm, texts[i]) for i in rest]), strict=True)
    rows = [(i, found[i]) for i in positions]
    _check_lengths(lm, texts, rows, answer)
    return rows


def frame(lm: LanguageModel) -> tuple[str, str] | None:
    """What `render` puts before and after an instruction; None where it changes the text itself."""
    probe = "A question: is 'this' & <that> changed?  Yes\nor no."
    before, found, after = render(lm, probe).partition(probe)
    return (before, after) if found else None


def _in_two_parts(
    lm: LanguageModel, texts: Sequence[str], members: dict[str, list[int]]
) -> dict[int, list[int]]:
    """Token ids of the prompts that share a prefix, from their beginning and their own end.

    Questions about one item end alike whoever is asked, so each different end is tokenized once.
    Prompts whose two parts depend on each other are left out; as all prompts of a prefix go on
    with the same words after the cut, what holds for one of them holds for all.
    """
    around = frame(lm)
    cuts = {p: p[:-_MARGIN].rfind(" ") for p, those in members.items() if len(those) > 2}
    cuts = {prefix: cut for prefix, cut in cuts.items() if cut > 0}
    if not cuts or around is None:
        return {}
    tails = {i: texts[i][cut:] + around[1] for prefix, cut in cuts.items() for i in members[prefix]}
    different = list(dict.fromkeys(tails.values()))
    coded = lm.tokenizer(different, add_special_tokens=False)["input_ids"]
    ends = dict(zip(different, coded, strict=True))
    heads = [around[0] + prefix[:cut] for prefix, cut in cuts.items()]
    wholes = [head + tails[members[p][0]] for head, p in zip(heads, cuts, strict=True)]
    starts = zip(cuts, lm.encode(heads), lm.encode(wholes), strict=True)
    return {
        i: start + ends[tails[i]]
        for prefix, start, whole in starts
        if start + ends[tails[members[prefix][0]]] == whole
        for i in members[prefix]
    }


def _check_lengths(
    lm: LanguageModel, texts: Sequence[str], rows: list[tuple[int, list[int]]], answer: int
) -> None:
    most = lm.max_tokens
    for position, tokens in rows:
        if len(tokens) + answer > most:
            room = f" and {answer} for the answer" if answer else ""
            raise UserError(
                f"prompt {position + 1} of {len(texts)} is too long for model '{lm.name}': "
                f"{len(tokens)} tokens{room}, where {most} fit; shorten it (fewer "
                f"history items): {texts[position][:60]!r}..."
            )


def group_rows(rows: list[tuple[int, list[int]]]) -> list[Group]:
    """Group rows by common beginnings so that the most tokens are saved.

    Sorted rows form a tree: all may begin with the same words, those about one user go on alike,
    those about one item further still. Of every branch either its stem is shared by all its rows,
    or its boughs share their own, longer ones: whatever saves more, wherever the template puts
    user and item. One pass over the neighbours with a stack, as for the intervals of a suffix array
    (Abouelhoda et al. 2004).
    """
    rows = sorted(rows, key=lambda row: (row[1], row[0]))
    depths = [_common(one, other) for (_, one), (_, other) in pairwise(rows)]
    stack: list[_Branch] = []
    for at, depth in enumerate([*depths, 0][: len(rows)]):
        branch = _Branch(at, 0, 0, [(at, at + 1, 0)])
        while stack and stack[-1].depth > depth:
            branch = stack.pop().with_last(branch, at + 1)
        if stack and stack[-1].depth == depth:
            stack[-1] = stack[-1].joined(branch)
        else:
            stack.append(branch._replace(depth=depth))
    return [
        Group(tuple(rows[start][1][:size]), [(i, tokens[size:]) for i, tokens in rows[start:end]])
        for branch in stack
        for start, end, size in branch.parts
    ]


class _Branch(NamedTuple):
    """Neighbouring rows, from `start` on, that have `depth` tokens in common."""

    start: int
    depth: int
    saved: int
    """Tokens that need not be read when `parts` share their beginnings."""
    parts: list[tuple[int, int, int]]
    """(first row, row after the last, tokens shared)."""

    def joined(self, other: _Branch) -> _Branch:
        """This branch with another one beside what it has."""
        self.parts.extend(other.parts)
        return self._replace(saved=self.saved + other.saved)

    def with_last(self, other: _Branch, end: int) -> _Branch:
        """This branch, complete before row `end`: shared as a whole where that saves more."""
        whole, whole_saved = self.joined(other), (end - self.start - 1) * self.depth
        if whole_saved < whole.saved:
            return whole
        return whole._replace(saved=whole_saved, parts=[(self.start, end, self.depth)])


def _common(one: list[int], other: list[int]) -> int:
    """Tokens worth sharing by two rows, of which each keeps at least its last; else 0."""
    most = min(len(one), len(other)) - 1
    size = min(next(compress(count(), map(ne, one, other)), most), most)
    return size if size >= max(_WORTH_SHARING, most // 4) else 0


def batches(groups: list[Group], budget: int) -> Iterator[list[Group]]:
    """Fill batches with rows of similar width up to `budget` = rows x tokens per row.

    The rows of one prefix stay together as far as they fit.
    """
    batch: list[Group] = []
    wide = 0
    for row in (part for group in sorted(groups, key=_order) for part in _split(group, budget)):
        wider = max(wide, row.widths[1])
        # Sorted by prefix, so the first is the longest; padded apart, so widths add up.
        cost = (len(batch) + 1) * (len((batch or [row])[0].prefix) + wider)
        if batch and (cost > budget or bool(row.prefix) != bool(batch[0].prefix)):
            yield batch
            batch, wider = [], row.widths[1]
        batch.append(row)
        wide = wider
    if batch:
        yield batch


def _order(group: Group) -> tuple[int, int, int]:
    prefix, width = group.widths
    return -prefix, -width, group.rows[0][0]


def _split(group: Group, budget: int) -> Iterator[Group]:
    """Cut a group into rows of nearly equal width, about `_ROW` tokens each."""
    prefix, width = group.widths
    longest = max(len(tokens) for _, tokens in group.rows)
    count = -(-width // max(min(_ROW, budget - prefix), longest))
    size = -(-len(group.rows) // count)
    for start in range(0, len(group.rows), size):
        yield Group(group.prefix, group.rows[start : start + size])


def only(batch: list[Group], missing: set[int]) -> list[Group]:
    """The batch without the questions whose answers are known."""
    kept = [Group(g.prefix, [row for row in g.rows if row[0] in missing]) for g in batch]
    return [group for group in kept if group.rows]

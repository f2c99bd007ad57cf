"""Leakage checks: does anything a model learns from hold a validation or test pair of its user?

What the language model is shown must come from training data alone: a held-out pair in an
instruction or a prompt is an error. An added edge may *be* a held-out pair, because a good guess is
one; such direct hits are counted, so that results can be given without them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import pearsonr

from dallrec_core.augmentation import TrainingView, read_instructions
from dallrec_core.augmentation.interactions import auc_of, parts, prompt_key
from dallrec_core.chain.artefacts import read_json, read_table
from dallrec_core.errors import UserError
from dallrec_core.experiment.arms import Prepared
from dallrec_core.experiment.scores import inside
from dallrec_core.recommenders.ranking import Pairs

LEAK = "leak"
"""Verdict on what must not be; others are "ok", "counted" and "no verdict"."""

_DEALS, _FAR = 20, 0.1  # random deals; distance from what chance gives, of a random split


def in_instructions(
    records: Sequence[Mapping[str, str]],
    examples: pd.DataFrame,
    data: TrainingView,
    held_out: pd.DataFrame,
    wording: str = "default",
) -> pd.DataFrame:
    """Return the held-out pairs that the text of interaction instructions names.

    Every item that a text names is looked for among the pairs of its user. A name that several
    items have counts for the one in training, if there is one.

    Args:
        records: Alpaca records, as written for fine-tuning.
        examples: their cases, row by row: user, item, origin (see `interactions.parts`).
        data: the training view.
        held_out: validation and test pairs, columns user, item.
        wording: of the instructions.

    Returns:
        user, item, and drawn: whether it is the question's own item, drawn blindly from all unseen
        ones to stand for a dislike, so that it can be a held-out pair by chance.

    Raises:
        UserError: when records and cases are not equally many.
    """
    if len(records) != len(examples):
        raise UserError(
            f"there are {len(records)} interaction instructions but {len(examples)} cases were "
            "drawn for them; run notebook 02 again"
        )
    items_of: dict[str, set[int]] = {}
    for target in (False, True):
        for item, name in enumerate(data.texts(wording, target=target)):
            items_of.setdefault(name, set()).add(item)
    names = sorted(filter(str.strip, items_of), key=len, reverse=True)
    hidden, rows = Pairs(held_out, data.n_items), []
    for record, case in zip(records, examples.itertuples(), strict=True):
        text, user = record["instruction"], np.array([case.user])
        for name in [name for name in names if name in text]:
            text, count = re.subn(rf"(?<!\w){re.escape(name)}(?!\w)", "\n", text)
            items = np.array(sorted(items_of[name]))
            if not count or data.seen(user, items).any():
                continue
            for item in items[hidden.contains(user, items)]:
                rows.append((case.user, item, case.origin == "drawn" and item == case.item))
    return pd.DataFrame(rows, columns=["user", "item", "drawn"])


def in_prompts(
    answers: pd.DataFrame, data: TrainingView, held_out: pd.DataFrame, wording: str, seed: int
) -> pd.DataFrame:
    """Check every question that was asked for augmentation against what may be shown.

    Args:
        answers: schema `added`.
        data: the training view that prompts are made from.
        held_out: validation and test pairs.
        wording: of the prompts.
        seed: with which the histories were drawn.

    Returns:
        One row per question: shows (held-out pairs of its user in the history) and rebuilt (whether
        the stored key is that of the prompt made from the training view; imported rows have none,
        and count as rebuilt).
    """
    hidden, shown, rows = Pairs(held_out, data.n_items), {}, []
    for user, item, key in answers[["user", "item", "prompt_key"]].itertuples(index=False):
        if user not in shown:
            history = np.concatenate(data.history(user, wording, seed))
            shown[user] = int(hidden.contains(np.array([user]), history).sum())
        made = prompt_key(data.prompt(user, item, wording, seed)) if key else key
        rows.append((shown[user], made == key))
    return pd.DataFrame(rows, columns=["shows", "rebuilt"])


def position_auc(users: np.ndarray, held_out: np.ndarray) -> float:
    """Return how well the place among the rows of a user predicts which are held out, as AUC.

    Args:
        users: user of each row, `[n]`, in the order of the file.
        held_out: whether the row went to test, bool `[n]`.

    Returns:
        .5 where the place says nothing; 0 or 1 where file order divided the data.
    """
    groups = pd.Series(np.arange(len(users))).groupby(users)
    place = (groups.rank() - 0.5) / groups.transform("size")
    return auc_of(held_out, place)


def popularity(
    users: np.ndarray, items: np.ndarray, held_out: np.ndarray
) -> tuple[float, float, float]:
    """Compare how popularity agrees between test and rest with the same data dealt at random.

    Args:
        users: user of each row, `[n]`, ascending.
        items: item of each row, `[n]`.
        held_out: whether the row went to test, bool `[n]`.

    Returns:
        Pearson's correlation of the items' counts in test and rest; its mean when as many rows of
        each user are dealt to test at random; and the standard deviation between such deals.
    """
    random, size = np.random.default_rng([0, 61]), int(items.max()) + 1

    def correlation(flags: np.ndarray) -> float:
        test, rest = (np.bincount(items[part], minlength=size) for part in (flags, ~flags))
        return float(pearsonr(test, rest)[0])

    deals = []
    for _ in range(_DEALS):
        dealt = np.empty(len(users), bool)
        dealt[np.lexsort((random.random(len(users)), users))] = held_out
        deals.append(correlation(dealt))
    return correlation(held_out), float(np.mean(deals)), float(np.std(deals))


def check(folder_of: Callable[[str], Path], ready: Prepared) -> pd.DataFrame:
    """Run all checks on what pages 01 to 03 of a run left.

    Only a `random` split promises what the diagnostics expect, and only a `published` one may
    repeat training pairs in its test, because that is how it is.

    Args:
        folder_of: from a page's name to the folder of its artefacts.
        ready: the training view, split, answers and arms.

    Returns:
        check, found, beside (what it is to be compared with, in words), verdict.

    Raises:
        UserError: naming every check whose verdict is `LEAK`, or where a file is missing.
    """
    study, n_items = ready.study, ready.study.n_items
    split = read_json(folder_of("01_data") / "dataset.json")["split"]
    of_split = {"training": study.train, "validation": study.validation, "test": study.test}
    held_out = pd.concat([study.validation, study.test])
    # what is a training pair, too, is known anyway, and counted below
    held_out = held_out[~inside(held_out, study.train, n_items)]
    repeats = "counted" if split == "published" else LEAK
    counts: list[Count] = []
    for one, other in combinations(of_split, 2):
        found = inside(of_split[other], of_split[one], n_items).sum()
        verdict = repeats if one == "training" else LEAK
        counts.append((f"{other} pairs that are {one} pairs", found, len(of_split[other]), verdict))
    counts += _text_counts(folder_of("02_finetune"), folder_of("03_interactions"), ready, held_out)
    for arm, edges in ((name, arm.edges) for name, arm in ready.arms.items() if len(arm.edges)):
        for name in ("validation", "test"):
            found = inside(edges, of_split[name], n_items).sum()
            counts.append((f"edges of {arm} that are {name} pairs", found, len(edges), "counted"))
    rows = [(name, n, f"of {of:,}", verdict if n else "ok") for name, n, of, verdict in counts]
    columns = ["check", "found", "beside", "verdict"]
    table = pd.DataFrame([*rows, *_diagnostics(of_split, split)], columns=columns)
    leaks = table.loc[table["verdict"] == LEAK, ["check", "found"]]
    if len(leaks):
        said = "; ".join(f"{name}: {found:g}" for name, found in leaks.itertuples(index=False))
        raise UserError(f"leakage: {said}. Results on this split would not count; find the cause")
    return table


Count = tuple[str, int, int, str]
"""What was looked for, how often it was found, among how many, and the verdict if it was."""


def _text_counts(
    tuning: Path, asking: Path, ready: Prepared, held_out: pd.DataFrame
) -> list[Count]:
    """Look for held-out pairs in what the model was tuned on and in what it was asked."""
    data, model = ready.data, read_json(tuning / "model.json")
    records = read_instructions(tuning / "instructions" / "interactions.jsonl")
    drawn = [model[name] for name in ("n_examples", "held_out", "seed", "per_user")]
    examples = parts(data, *drawn).examples
    named = in_instructions(records, examples, data, held_out, model["wording"])
    blind, seed = named["drawn"].sum(), 0
    if (asking / "rule.json").is_file():  # an imported table of answers has no rule and no items
        seed = read_json(asking / "rule.json")["seed"]
        data = replace(data, items=read_table(asking / "items.parquet", "items"))
    asked = in_prompts(ready.answers, data, held_out, model["wording"], seed)
    return [
        ("held-out pairs named by instructions", len(named) - blind, len(records), LEAK),
        ("no answers of instructions, drawn blindly", blind, len(records), "counted"),
        ("prompts that show a held-out pair", (asked["shows"] > 0).sum(), len(asked), LEAK),
        ("prompts not made from training data", (~asked["rebuilt"]).sum(), len(asked), LEAK),
    ]


def _diagnostics(
    of_split: Mapping[str, pd.DataFrame], split: str
) -> list[tuple[str, float, str, str]]:
    """Return the rows on a split as a whole, the rows of each user in the order of item codes."""
    rows = pd.concat([part[["user", "item"]].assign(part=name) for name, part in of_split.items()])
    rows = rows.sort_values(["user", "item"], kind="stable")
    users, items = rows["user"].to_numpy(), rows["item"].to_numpy()
    flags = (rows["part"] == "test").to_numpy()
    auc = position_auc(users, flags)
    found, dealt, spread = popularity(users, items, flags)
    bad = abs(auc - 0.5) > _FAR, found < dealt - max(_FAR, 6 * spread)
    verdicts = [(LEAK if far else "ok") if split == "random" else "no verdict" for far in bad]
    return [
        ("AUC of an item's place for being in the test", auc, "0.5 by chance", verdicts[0]),
        ("popularity correlation of test and rest", found, f"{dealt:.3f} dealt anew", verdicts[1]),
    ]

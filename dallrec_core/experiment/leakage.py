"""Leakage checks: does anything a model learns from hold a validation or test pair of its user?

What the language model is shown must come from training data alone: a held-out pair in an
instruction or a prompt is an error. An added edge may *be* a held-out pair, because a good guess is
one; such direct hits are counted, so that results can be given without them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import pearsonr

from dallrec_core.augmentation import TrainingView, read_instructions
from dallrec_core.augmentation.interactions import parts, prompt_key
from dallrec_core.chain.artefacts import read_json, read_table
from dallrec_core.errors import UserError
from dallrec_core.experiment.arms import Prepared
from dallrec_core.recommenders.ranking import Pairs

LEAK = "leak"
"""Verdict on what must not be; others are "ok", "counted" and "no verdict"."""

_DEALS, _FAR = 20, 0.1  # random deals; distance from what chance gives, of a random split


def overlaps(parts: Mapping[str, pd.DataFrame], n_items: int) -> pd.DataFrame:
    """Return how many pairs each two parts share: columns check, found, of (rows of the second)."""
    names, rows = list(parts), []
    for place, one in enumerate(names):
        for other in names[place + 1 :]:
            found = _inside(parts[other], Pairs(parts[one], n_items)).sum()
            rows.append((f"{other} pairs that are {one} pairs", int(found), len(parts[other])))
    return pd.DataFrame(rows, columns=["check", "found", "of"])


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
    from sklearn.metrics import roc_auc_score

    groups = pd.Series(np.arange(len(users))).groupby(users)
    place = (groups.rank() - 0.5) / groups.transform("size")
    return float(roc_auc_score(held_out, place))


def popularity(
    users: np.ndarray, items: np.ndarray, held_out: np.ndarray, seed: int = 0
) -> tuple[float, float, float]:
    """Compare how popularity agrees between test and rest with the same data dealt at random.

    Args:
        users: user of each row, `[n]`.
        items: item of each row, `[n]`.
        held_out: whether the row went to test, bool `[n]`.
        seed: of the deals.

    Returns:
        Pearson's correlation of the items' counts in test and rest; its mean when as many rows of
        each user are dealt to test at random; and the standard deviation between such deals.
    """
    order = np.argsort(users, kind="stable")
    random, size = np.random.default_rng([seed, 61]), int(items.max()) + 1

    def correlation(flags: np.ndarray) -> float:
        test, rest = (np.bincount(items[part], minlength=size) for part in (flags, ~flags))
        return float(pearsonr(test, rest)[0])

    deals = []
    for _ in range(_DEALS):
        dealt = np.empty(len(users), bool)
        dealt[np.lexsort((random.random(len(users)), users))] = held_out[order]
        deals.append(correlation(dealt))
    return correlation(held_out), float(np.mean(deals)), float(np.std(deals))


def check(
    data: TrainingView,
    validation: pd.DataFrame,
    test: pd.DataFrame,
    *,
    split: str,
    records: Sequence[Mapping[str, str]],
    examples: pd.DataFrame,
    answers: pd.DataFrame,
    edges: Mapping[str, pd.DataFrame],
    items: pd.DataFrame | None = None,
    wording: str = "default",
    seed: int = 0,
) -> pd.DataFrame:
    """Run all checks.

    Args:
        data: the training view.
        validation: columns user, item.
        test: columns user, item.
        split: kind of the split. Only a `random` one promises what the diagnostics expect, and only
            a `published` one may repeat training pairs in its test, because that is how it is.
        records: see `in_instructions`.
        examples: see `in_instructions`.
        answers: schema `added`.
        edges: what each arm adds, by name; direct hits are counted.
        items: the items as prompts name them, where that is not as in `data`.
        wording: of instructions and prompts.
        seed: with which the histories in prompts were drawn.

    Returns:
        check, found, beside (what it is to be compared with, in words), verdict.

    Raises:
        UserError: naming every check whose verdict is `LEAK`.
    """
    held_out = pd.concat([validation[["user", "item"]], test[["user", "item"]]])
    # what is a training pair, too, is known anyway; `overlaps` has counted it
    held_out = held_out[~data.seen(held_out["user"].to_numpy(), held_out["item"].to_numpy())]
    split_parts = {"training": data.train, "validation": validation, "test": test}
    repeats = "counted" if split == "published" else LEAK
    rows = [
        (name, found, f"of {of:,}", (repeats if "training" in name else LEAK) if found else "ok")
        for name, found, of in overlaps(split_parts, data.n_items).itertuples(index=False)
    ]
    named = in_instructions(records, examples, data, held_out, wording)
    shown = data if items is None else replace(data, items=items)
    asked = in_prompts(answers, shown, held_out, wording, seed)
    blind, named = named["drawn"].sum(), len(named)
    counts = [
        ("held-out pairs named by instructions", named - blind, len(records), LEAK),
        ("no answers of instructions, drawn blindly", blind, len(records), "counted"),
        ("prompts that show a held-out pair", (asked["shows"] > 0).sum(), len(asked), LEAK),
        ("prompts not made from training data", (~asked["rebuilt"]).sum(), len(asked), LEAK),
    ]
    for arm, added in edges.items():
        for name in ("validation", "test"):
            found = _inside(added, Pairs(split_parts[name], data.n_items)).sum()
            counts.append((f"edges of {arm} that are {name} pairs", found, len(added), "counted"))
    rows += [(name, n, f"of {of:,}", verdict if n else "ok") for name, n, of, verdict in counts]
    rows += _diagnostics(split_parts, split)
    table = pd.DataFrame(rows, columns=["check", "found", "beside", "verdict"])
    leaks = table.loc[table["verdict"] == LEAK, ["check", "found"]]
    if len(leaks):
        said = "; ".join(f"{name}: {found:g}" for name, found in leaks.itertuples(index=False))
        raise UserError(f"leakage: {said}. Results on this split would not count; find the cause")
    return table


def check_run(folder_of: Callable[[str], Path], ready: Prepared) -> pd.DataFrame:
    """Run all checks on what pages 01 to 03 of a run left.

    Args:
        folder_of: from a page's name to the folder of its artefacts.
        ready: the training view, split, answers and arms.

    Raises:
        UserError: as `check` does, or where a file is missing.
    """
    tuning, asking = folder_of("02_finetune"), folder_of("03_interactions")
    model = read_json(tuning / "model.json")
    sizes = model["n_examples"], model["held_out"], model["seed"]
    edges = {n: a.edges for n, a in ready.arms.items() if a.edges is not None and len(a.edges)}
    # an imported table of answers has neither a rule nor items of its own
    asked = (asking / "rule.json").is_file()
    return check(
        ready.data,
        ready.study.validation,
        ready.study.test,
        split=read_json(folder_of("01_data") / "dataset.json")["split"],
        records=read_instructions(tuning / "instructions" / "interactions.jsonl"),
        examples=parts(ready.data, *sizes).examples,
        answers=ready.answers,
        edges=edges,
        items=read_table(asking / "items.parquet", "items") if asked else None,
        wording=model["wording"],
        seed=read_json(asking / "rule.json")["seed"] if asked else 0,
    )


def _diagnostics(
    parts: Mapping[str, pd.DataFrame], split: str
) -> list[tuple[str, float, str, str]]:
    """Return the rows on a split as a whole, the rows of each user in the order of item codes."""
    rows = pd.concat([part[["user", "item"]].assign(part=name) for name, part in parts.items()])
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


def _inside(frame: pd.DataFrame, pairs: Pairs) -> np.ndarray:
    return pairs.contains(frame["user"].to_numpy(), frame["item"].to_numpy())

"""Did it help? Tables of comparisons: arms over base, over rivals, inside groups of users.

What a difference is worth says `inference`; here is what is compared with what, and how it is told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from dallrec_core.errors import UserError
from dallrec_core.experiment.arms import CONTROLS
from dallrec_core.experiment.inference import NO_EFFECT, crossed, judged


def yardsticks(scores: pd.DataFrame, metric: str) -> list[str]:
    """Return the metric and, at the same K, recall of what was liked and true preference.

    The second is there where the test has ratings, the third where tastes are known.
    """
    k = metric.partition("@")[2]
    others, known = (f"recall@{k}[liked]", f"preference@{k}"), set(scores["metric"].unique())
    return [metric, *(name for name in others if name in known)]


def best_controls(runs: pd.DataFrame) -> dict[str, str]:
    """Return the best control of each backbone: the highest validation nDCG@20, mean over seeds.

    Validation decides, as it does for everything that is chosen. The best of several on the *test*
    would owe part of its place to luck, and `dallrec` would be measured against that luck.

    Args:
        runs: schema `runs`; rows that share an earlier row's training are no candidates.
    """
    known = runs[runs["arm"].isin(CONTROLS) & ~runs["shared"]]
    means = known.groupby(["backbone", "arm"], sort=False)["validation"].mean().dropna()
    return {str(b): str(of.idxmax()[1]) for b, of in means.groupby("backbone", sort=False)}


RIVALS = [
    ("attributes", "true_attributes"),
    ("summaries", "given_text"),
    ("liked_dallrec", "liked_only"),
    ("liked_dallrec", "liked_counting"),
]
"""Arms, and what they are compared with besides base: the texts with a ceiling, and with the same
form and nothing new in it; `dallrec` without what was disliked with leaving that out alone, and
with pairs of the counting rule beside it."""
FAMILIES = {"dallrec": 0, "attributes": 1, "summaries": 1, "liked_dallrec": 2}
"""Arms whose comparisons are a family; those of all others are the last one."""


def effects(scores: pd.DataFrame, runs: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Compare every arm with base, and the written ones with their rivals, on every yardstick.

    The rivals are the best control of each backbone and, where it was trained, `zero_shot`, which
    tells what fine-tuning is worth; those of other arms are `RIVALS`. There are four families:
    what is said of `dallrec`, of the texts, of `liked_dallrec`, and of all other arms.

    Args:
        scores: schema `scores`.
        runs: schema `runs`.
        metrics: for example from `yardsticks`.

    Returns:
        The columns of `compare`, and over (the name of the arm compared with).

    Raises:
        UserError: as `compare` does.
    """
    scores, best = without_repeats(scores, runs), best_controls(runs)
    tables = []
    for metric in metrics:
        tables.append(compare(scores, metric).assign(over="base"))
        for backbone, of_backbone in scores.groupby("backbone", sort=False):
            ours = [("dallrec", best.get(str(backbone))), ("dallrec", "zero_shot")]
            for arm, rival in dict.fromkeys([*ours, *RIVALS]):
                pair = of_backbone[of_backbone["arm"].isin((arm, rival))]
                if rival and pair["arm"].nunique() == 2:
                    tables.append(compare(pair, metric, rival).assign(over=rival))
    table = as_one_family(tables)
    families = table["arm"].map(FAMILIES).fillna(3)
    return pd.concat([judged(table[families == family]) for family in range(4)])


def effect_table(
    table: pd.DataFrame, columns: Sequence[str] = ("effect", "p", "finding")
) -> pd.DataFrame:
    """Lay out `effects` for readers: a row per comparison and yardstick.

    Args:
        table: from `effects`.
        columns: out of effect (difference and interval), p (corrected), finding (the verdict),
            relative (in per cent), detectable (the minimum detectable effect).

    What is the same in all rows is not repeated in the index. Without rows, the one that is
    returned says so.
    """
    if table.empty:
        return pd.DataFrame({"finding": ["there is nothing to compare"]}, ["none"])
    rows = table.assign(
        effect=interval_texts(table),
        p=[f"{p:.3f}" if p >= 0.001 else "<\u00a00.001" for p in table["p_corrected"]],
        finding=table["verdict"],
        relative=[f"{value:+.1f} %" for value in table["relative"]],
        detectable=[f"{value:.4f}" for value in table["detectable"]],
        yardstick=table["metric"],
    )
    keys = ["backbone", "arm", "over", "yardstick"]
    rows = rows.sort_values(keys, key=lambda key: pd.factorize(key)[0], kind="stable")
    told = {"backbone", *(key for key in keys if rows[key].nunique() > 1)}
    if "arm" not in told and not rows["over"].isin(("base", "zero_shot")).all():
        told.add("over")  # the name of a best control is news, whatever it is
    return rows.set_index([key for key in keys if key in told])[list(columns)]


def headline(
    table: pd.DataFrame, metrics: Sequence[str], best: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Return the effects of one arm by backbone, yardstick and side, for `headline.json`.

    Args:
        table: rows of `effects` about one arm, over base and over its rivals.
        metrics: the yardsticks.
        best: the best control by backbone; it may be `zero_shot`, then two sides are one.
    """
    fields = ["difference", "low", "high", "p_corrected", "family", "detectable", "verdict"]
    fields += ["users", "seeds"]
    found: dict[str, dict[str, Any]] = {}
    for row in table.to_dict("records"):
        sides = found.setdefault(row["backbone"], {metric: {} for metric in metrics})[row["metric"]]
        effect = {field: row[field] for field in fields}
        if row["over"] == best.get(row["backbone"]):
            sides["over best control"] = effect
        if row["over"] in ("base", "zero_shot"):
            sides[f"over {row['over']}"] = effect
    return found


def interval_texts(table: pd.DataFrame, digits: int = 4) -> list[str]:
    """Return difference and interval of each row in words that are not broken over lines."""
    rows = table[["difference", "low", "high"]].itertuples(index=False)
    number = f"{{:+.{digits}f}}"
    form = f"{number} ({number}\u00a0to\u00a0{number})"
    return [form.format(*row) for row in rows]


def short_texts(table: pd.DataFrame) -> list[str]:
    """Return the difference of each row and, where there is one, the finding."""
    found = table["verdict"].replace(NO_EFFECT, "")
    return [f"{each:+.3f} {word}" for each, word in zip(table["difference"], found, strict=True)]


def compare(scores: pd.DataFrame, metrics: str | Sequence[str], base: str = "base") -> pd.DataFrame:
    """Compare every arm with the base arm, backbone by backbone.

    Several regenerations (a column of that name) are compared by their means over seeds: what the
    language model wrote differs between them, and seeds do not tell that.

    Args:
        scores: rows backbone, arm, seed, user, metric, value.
        metrics: one or more, for example "recall@20".
        base: the arm to compare with.

    Returns:
        The columns `COLUMNS`, a row per metric, backbone and other arm, all of them one family.
        Empty when there is only one arm.

    Raises:
        UserError: when a metric or the base arm is not there, or arms have different users or
            seeds.
    """
    rows = []
    for metric in [metrics] if isinstance(metrics, str) else metrics:
        chosen = scores[scores["metric"] == metric]
        if chosen.empty:
            known = ", ".join(sorted(scores["metric"].unique())) or "nothing to compare"
            raise UserError(f"metric '{metric}' is not among the scores; they have {known}")
        for backbone, of_backbone in chosen.groupby("backbone", sort=False):
            arms = dict(iter(of_backbone.groupby("arm", sort=False)))
            if base not in arms:
                known = ", ".join(map(str, arms))
                raise UserError(f"{backbone} has no arm '{base}'; it has {known}")
            reference = arms.pop(base)
            for arm, values in arms.items():
                about = {"metric": metric, "backbone": backbone, "arm": arm}
                rows.append(about | _compared(reference, values, f"{backbone}, arm '{arm}'"))
    return judged(pd.DataFrame(rows, columns=COLUMNS))


COLUMNS = [
    "metric", "backbone", "arm", "base", "other", "difference", "relative", "se", "df", "low",
    "high", "p_corrected", "family", "detectable", "users", "seeds", "verdict",
]  # fmt: skip
"""Columns of a table of comparisons.

base and other are the arms' means over users and seeds, relative is the difference in per cent of
base (NaN where that is 0), se and df are those of `inference`, and the rest is from its `judged`.
users and seeds are what was compared: where seeds is 1, the interval is for that seed.
"""


def as_one_family(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Join tables of `compare`, and judge all their rows as one family."""
    return judged(pd.concat(tables, ignore_index=True))


def _compared(base: pd.DataFrame, other: pd.DataFrame, what: str) -> dict[str, Any]:
    """Return what can be said about two arms before the size of the family is known."""
    several = "regeneration" in base and base["regeneration"].nunique() > 1
    repeat = "regeneration" if several else "seed"
    first, second = (
        part.pivot_table(index=repeat, columns="user", values="value") for part in (base, other)
    )
    repeats = first.index.intersection(second.index)
    if repeats.empty or not first.columns.equals(second.columns):
        raise UserError(f"{what} has other seeds or users than the base arm; run both alike")
    means = first.loc[repeats].to_numpy(), second.loc[repeats].to_numpy()
    difference, se, df = crossed(means[1] - means[0])
    reference, value = (float(each.mean()) for each in means)
    return {
        "base": reference,
        "other": value,
        "difference": difference,
        "relative": 100 * difference / reference if reference else float("nan"),
        "se": se,
        "df": df,
        "users": first.shape[1],
        "seeds": len(repeats),
    }


def without_repeats(
    scores: pd.DataFrame,
    runs: pd.DataFrame,
    keep: Collection[str] = ("base", "dallrec"),
) -> pd.DataFrame:
    """Leave out arms that a backbone could not tell from an earlier one.

    Arms that differ only in features which a backbone does not read are one training under several
    names. Comparing each of them would say the same thing twice (or compare base with itself), and
    the others would pay for it: the family would be larger.

    Args:
        scores: rows with the column run, among others.
        runs: columns run, arm, shared: whether an earlier run is the same training.
        keep: arms that stay in any case.
    """
    repeats = runs.loc[runs["shared"] & ~runs["arm"].isin(keep), "run"]
    return scores[~scores["run"].isin(repeats)]


def user_quarters(train: pd.DataFrame, n_users: int) -> pd.Series:
    """Return the quarter of each user [U] by number of training interactions, fewest to most."""
    degree = train["user"].value_counts().reindex(range(n_users), fill_value=0)
    return pd.qcut(degree.rank(method="first"), 4, labels=["fewest", "few", "many", "most"])


def compare_groups(
    scores: pd.DataFrame, metrics: str | Sequence[str], groups: pd.Series
) -> pd.DataFrame:
    """Compare arms with base inside groups of users; all groups are one family.

    Args:
        scores: rows backbone, arm, seed, user, metric, value.
        metrics: one or more, for example "recall@20".
        groups: group of each user, indexed by user code; a category keeps its order.

    Returns:
        The columns of `compare` and `group`. Groups with fewer than two users are left out.
    """
    group_of = scores["user"].map(groups.astype(str))
    parts = {str(name): scores[group_of == str(name)] for name in groups.sort_values().unique()}
    table = as_one_family(
        compare(part, metrics).assign(group=name)
        for name, part in parts.items()
        if part["user"].nunique() > 1
    )
    return table.sort_values(["backbone", "arm"], kind="stable", ignore_index=True)

"""Is it true? What was written, held against the truth that only the embedded dataset has.

Values are compared as they stand. A text is searched for names and words that the catalogue knows,
each in the forms that its descriptions use; who is named and is not in it goes unnoticed, so the
share found untrue is rather too low.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from dallrec_core.augmentation.prompts import split_values
from dallrec_core.augmentation.view import TrainingView
from dallrec_core.data.matinee import FOLDER

Right = dict[str, list[tuple[str, ...]]]
"""Right values of every item by its code, by field."""


def right_values(data: TrainingView, truth: pd.DataFrame) -> Right:
    """Return the right values of every field that a prompt shows or asks for, title and year too.

    Args:
        data: the items, of which title and year are shown as they are.
        truth: one row per item, by item code, with ``attributes`` and the facts, complete.
    """
    columns = {"attributes": data.attribute} | {field: field for field in data.fact_fields}
    shown: Right = {n: [(str(row[n]),) for row in data.rows] for n in ("title", "year")}
    return shown | {name: [*map(split_values, truth[field])] for field, name in columns.items()}


def of_attributes(data: TrainingView, frame: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Count what is true of the values that were written; given ones count neither way.

    Args:
        data: the items.
        frame: schema `attributes`.
        truth: see `right_values`.

    Returns:
        `table` of the fields that were asked for; what it sets beside are values not given.
    """
    written = frame[frame["origin"] == "written"]
    asked = written.groupby("field")["item"].nunique()
    return table(data, written[written["value"] != ""], asked, truth, new=True)


def of_texts(
    data: TrainingView, items: Sequence[int], texts: Sequence[str], truth: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find what texts say about films, and count what of it is true.

    Args:
        data: the items.
        items: code of the item that each text is about, [n].
        texts: [n].
        truth: see `right_values`.

    Returns:
        `table`, and what was found: item, field, value, true (bool), once per text.
    """
    right = right_values(data, truth)
    forms = _forms(right, data.attribute)
    longest_first = "|".join(map(re.escape, sorted(forms, key=len, reverse=True)))
    pattern = re.compile(rf"(?<!\w)(?:{longest_first}|(?:18|19|20)\d\d)(?!\w)")
    found = [
        (item, field, value, value in right[field][item])
        for item, text in zip(items, texts, strict=True)
        for field, value in dict.fromkeys(
            forms.get(form, ("year", form)) for form in pattern.findall(text)
        )
    ]
    said = pd.DataFrame(found, columns=["item", "field", "value", "true"]).astype({"true": bool})
    return table(data, said, dict.fromkeys(right, len(texts)), truth), said


def table(
    data: TrainingView,
    said: pd.DataFrame,
    asked: Mapping[str, int],
    truth: pd.DataFrame,
    *,
    new: bool = False,
) -> pd.DataFrame:
    """Count what is true, beside a rule that needs no model.

    The rule says as many values of an item as were written: those given for it, then those that
    are given most often for others.

    Args:
        data: the items.
        said: item, field, value.
        asked: by field, how many items were asked about.
        truth: see `right_values`.
        new: whether given values of the item itself are out of question.

    Returns:
        by field: asked, right and wrong (shares of them with something true, and with something
        untrue), true (share of what was said), rule (the same of what the rule says).
    """
    right, given = right_values(data, truth), right_values(data, data.items)
    rows = {}
    for field, n in asked.items():
        often = Counter(value for values in given[field] for value in values).most_common()
        true, ruled = [], []
        for item, values in said[said["field"] == field].groupby("item")["value"]:
            own = given[field][item]
            rule = [*(() if new else own), *(value for value, _ in often if value not in own)]
            true.append([value in right[field][item] for value in values])
            ruled += [value in right[field][item] for value in rule[: len(values)]]
        shares = sum(map(any, true)) / n, sum(not all(each) for each in true) / n
        means = [pd.Series(hits, dtype=float).mean() for hits in (sum(true, []), ruled)]
        rows[field] = (n, *shares, *means)
    columns = ["asked", "right", "wrong", "true", "rule"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("field")


def _forms(right: Right, genres: str) -> dict[str, tuple[str, str]]:
    """Field and value behind every form of words; the longest form that fits is what is meant."""
    forms: dict[str, tuple[str, str]] = {}
    for field in ("title", "director"):
        forms |= {value: (field, value) for values in right[field] for value in values}
    for value in {value for values in right["language"] for value in values}:
        # "in French" names the language, "a French drama" the country
        for form in (f"in {value}", f"language is {value}", f"With {value}"):
            forms[form] = ("language", value)
    forms |= dict.fromkeys(("silent", "spoken word", "spoken words"), ("language", "Silent"))
    for country, adjective in pd.read_csv(FOLDER / "matinee_countries.csv").to_numpy():
        forms |= {f"{begin}{country}": ("country", country) for begin in ("in ", "in the ")}
        for form in (country, adjective):
            forms.setdefault(form, ("country", country))  # Brazil is a film, too
    for row in pd.read_csv(FOLDER / "matinee_genres.csv", keep_default_na=False).to_dict("records"):
        for form in filter(None, (row[name] for name in ("genre", "quality", "fare", "noun"))):
            forms |= dict.fromkeys((form.lower(), form.capitalize()), (genres, row["genre"]))
    return forms

"""What notebooks print through `stages.table`."""

from __future__ import annotations

from dallrec_core.here import table


def test_whole_numbers_stay_whole_and_nested_names_are_joined() -> None:
    shown = table(
        {"train_rows": 80_000, "density": 0.063051, "per_user": {"min": 0, "mean": 84.836}}
    )
    assert shown["value"].to_dict() == {
        "train rows": "80,000",
        "density": "0.06305",
        "per user.min": "0",
        "per user.mean": "84.84",
    }

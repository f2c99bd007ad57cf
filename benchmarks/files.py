"""Load, split and train on a ratings file of the size of MovieLens-32M, beside a plain read of it.

    python benchmarks/files.py                     # 32 million ratings; a process takes up to 5 GiB
    python benchmarks/files.py --ratings 3_200_000

The file has the columns, order and number format of `ml-32m/ratings.csv`; who rates what is drawn
as in `data.synthetic` (log-normal activity, power law of popularity), with half stars and times of
28 years. It is read by pyarrow alone (columns as pyarrow infers them) and by `data.load`, each in a
process of its own on one thread; seconds are of the CPU. Epochs of training are those of `growth`:
some steps are timed and stand for the rest.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import data as arrays
from benchmarks.process import call, peak_mib, say

YEARS = (789_652_009, 1_697_164_147)  # first and last second of a rating


def generate(folder: str, ratings: int, seed: int = 0) -> dict[str, int]:
    """Write `ratings.csv` and `movies.csv` into a folder, and return their sizes.

    An item that a user draws twice counts once, so there are a few ratings less than asked for.
    """
    place, random = Path(folder), np.random.default_rng(seed)
    n_users, n_items = max(30, ratings * 6 // 1000), max(300, ratings * 3 // 1000)
    activity = random.lognormal(0.0, 1.0, n_users)
    counts = np.maximum(1, 1.1 * ratings * activity / activity.sum()).astype(np.int64)
    popularity = np.cumsum((1.0 + np.arange(n_items)) ** -0.8)
    ids = random.permutation(n_items) + 1
    stars = pa.array([f"{half / 2:.1f}" for half in range(1, 11)])
    plain = pa_csv.WriteOptions(quoting_style="none", quoting_header="none")
    names = {"userId": pa.int64(), "movieId": pa.int64(), "rating": pa.string()}
    schema, rows = pa.schema(names | {"timestamp": pa.int64()}), 0
    with pa_csv.CSVWriter(place / "ratings.csv", schema, write_options=plain) as file:
        for users in np.array_split(np.arange(n_users), 1 + ratings // 1_000_000):
            owners = users.repeat(counts[users])
            chosen = np.searchsorted(popularity, random.random(len(owners)) * popularity[-1])
            users, items = np.divmod(np.unique(owners * (n_items + 1) + ids[chosen]), n_items + 1)
            halves = np.clip(np.round(random.normal(7.0, 2.1, len(users))), 1, 10).astype(np.int32)
            times = random.integers(*YEARS, len(users))
            columns = [users + 1, items, stars.take(pa.array(halves - 1)), times]
            file.write(pa.table(columns, schema=schema))
            rows += len(users)
    lines = [f"{n + 1},Film {n + 1} ({1920 + n % 100}),Drama|Crime" for n in range(n_items)]
    (place / "movies.csv").write_text("\n".join(["movieId,title,genres", *lines]) + "\n")
    return {"ratings": rows, "bytes": (place / "ratings.csv").stat().st_size}


def read_plainly(folder: str) -> dict[str, float]:
    """Read the ratings with pyarrow and nothing else."""
    start = time.process_time()
    table = pa_csv.read_csv(Path(folder) / "ratings.csv")
    return {"seconds": time.process_time() - start, "peak_mib": peak_mib(), "rows": len(table)}


def load(folder: str) -> dict[str, float]:
    """Load both files as a dataset; the peak is that of the process, with what it imports."""
    from dallrec_core import data

    place, before = Path(folder), peak_mib()
    start = time.process_time()
    loaded = data.load(
        "files", interactions_path=place / "ratings.csv", items_path=place / "movies.csv"
    )
    seconds = time.process_time() - start
    rows = len(loaded.interactions)
    return {"seconds": seconds, "peak_mib": peak_mib(), "imports_mib": before, "rows": rows}


def split(folder: str) -> dict[str, float]:
    """Load and split at random; leave the training part for `growth`."""
    from dallrec_core import data
    from dallrec_core.data import splits

    place = Path(folder)
    paths = {"interactions_path": place / "ratings.csv", "items_path": place / "movies.csv"}
    loaded = data.load("files", **paths)
    start = time.process_time()
    parts = splits.split(loaded)
    seconds = time.process_time() - start
    peak = peak_mib()
    sizes = loaded.n_users, loaded.n_items
    arrays.save(place / "train.npz", *sizes, parts.train, parts.validation.iloc[:0])
    return {"seconds": seconds, "peak_mib": peak, "rows": len(parts.train)}


def report(sizes: dict[str, Any], results: dict[str, dict[str, Any]]) -> list[str]:
    """The lines to print: seconds and peak of each, and its ratio to the plain read."""
    plain = results["plain read"]
    lines = [f"{sizes['ratings']:,} ratings, {sizes['bytes'] / 2**20:,.0f} MiB"]
    for name, found in results.items():
        ratio = found["seconds"] / plain["seconds"]
        memory = f"peak {found['peak_mib'] / 1024:5.2f} GiB"
        lines.append(f"{name:<22}{found['seconds']:8.1f} s {ratio:7.1f} x plain read, {memory}")
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ratings", type=int, default=32_000_000)
    parser.add_argument("--no-training", action="store_true", help="only read, load and split")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sizes = call("files:generate", folder=folder, ratings=chosen.ratings)
        results: dict[str, dict[str, Any]] = {}
        for name, function in (
            ("plain read", "read_plainly"),
            ("load", "load"),
            ("split", "split"),
        ):
            results[name] = call(f"files:{function}", folder=folder)
            say(f"{name}: {results[name]}")
        for backbone in () if chosen.no_training else ("MF-BPR", "LightGCN"):
            found = call("growth:measure", file=f"{folder}/train.npz", name=backbone)
            name = f"epoch of {backbone}"
            results[name] = {"seconds": found["seconds_per_epoch"], "peak_mib": found["peak_mib"]}
    print(*report(sizes, results), sep="\n")


if __name__ == "__main__":
    main()

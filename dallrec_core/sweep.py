"""A grid of trainings on one dataset: backbones x arms x seeds x regenerations, and its tables.

A *regeneration* is everything that the language model wrote, written anew: stages 02 to 05 with
other seeds, in a run of their own. Their trainings have other seeds, too, and all are pooled: so
an interval tells what another answer, another seed and other users could have changed. What is
trained is kept beside the cells of page 6, which has the same ones, and a killed sweep continues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from dallrec_core import arms as recipes
from dallrec_core import features, stages, statistics
from dallrec_core.artifacts import read_table, write_table
from dallrec_core.augmentation import texts
from dallrec_core.augmentation.data import load_data
from dallrec_core.errors import UserError
from dallrec_core.experiments import Arm, Study, cells, run_cells
from dallrec_core.layout import STAGES, find_stage, run_dir
from dallrec_core.parameters import Overrides, resolve
from dallrec_core.recommenders.settings import settings_for

WRITING = [stage.name for stage in STAGES[:5]]
"""The stages before the recommenders."""


def sweep(
    run: str,
    overrides: Iterable[Overrides] = (),
    *,
    backbones: Sequence[str] = (),
    arms: Sequence[str] = (),
    seeds: int = 5,
    regenerations: int = 1,
    as_is: bool = False,
    jobs: int = 0,
    scheduler: str = "",
    say: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Train a grid, resuming what is there, and write scores, runs and effects to `<run>/sweep`.

    Args:
        run: name of the run; its stages 01 to 05 are brought up to date first. Regeneration r has
            the run `<run>-r<r>`.
        overrides: parameter values by stage, later ones over earlier ones.
        backbones: what to train. Default: those of page 6.
        arms: what to compare; `base` is always there. Default: those of page 6, without the oracle
            where nothing is known of what users like.
        seeds: trainings per backbone, arm and regeneration.
        regenerations: how often the language model writes everything.
        as_is: take stages 01 to 05 as they are, imported tables included.
        jobs: processes, each with one thread; 0 means one per core.
        scheduler: address of a Dask cluster, see `run_cells`.
        say: receives a line per stage.

    Returns:
        The effects, see `statistics.effects`.

    Raises:
        UserError: for an unknown backbone or arm, and as stages and `run_cells` do.
    """
    layers = list(overrides)
    chosen = resolve(find_stage("06"), *layers)
    backbones = backbones or chosen["backbones"]
    names = list(dict.fromkeys(("base", *(arms or chosen["arms"]))))
    if seeds < 1 or regenerations < 1:
        raise UserError("seeds and regenerations must be at least 1")
    recipes.check(names)
    cells(backbones, names, [0])  # refuses unknown backbones before anything long begins
    parts = []
    for again in range(regenerations):
        source = f"{run}-r{again}" if again else run
        if not as_is:
            stages.run_chain(source, [*layers, _reseeded(layers, again)], WRITING, say=say)
        first = chosen["seed"] + again * seeds
        with stages.locked(run):
            study, made = _prepare(source, names, chosen["encoder"], first, strict=bool(arms))
            settings = settings_for(load_data(run_dir(source) / "01_data").name)
            options = {"epochs": chosen["epochs"], "hard_negatives": chosen["hard_negatives"]}
            ordered = [name for name in recipes.ARMS if name in made]
            grid = cells(backbones, ordered, range(first, first + seeds), settings, **options)
            scores, runs, _ = run_cells(
                study, made, grid, run_dir(run) / "06_recommenders", jobs=jobs, scheduler=scheduler,
                ks=(10, chosen["top_k"], 50), variants_at=chosen["top_k"],
            )  # fmt: skip
        parts.append([frame.assign(regeneration=again) for frame in (scores, runs)])
    scores, runs = (pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True))
    metrics = statistics.yardsticks(scores, f"recall@{chosen['top_k']}")
    table = statistics.effects(scores, runs, metrics, seed=chosen["seed"])
    for name, frame in (("scores", scores), ("runs", runs), ("effects", table)):
        write_table(frame, run_dir(run) / "sweep" / f"{name}.parquet", name)
    return table


def _reseeded(layers: Sequence[Overrides], again: int) -> Overrides:
    """Return other seeds for what the language model learns and writes."""
    if not again:
        return {}
    writing = [find_stage(name) for name in WRITING[1:]]
    return {stage.name: {"seed": resolve(stage, *layers)["seed"] + again} for stage in writing}


def _prepare(
    run: str, names: Sequence[str], encoder: str, seed: int, *, strict: bool
) -> tuple[Study, dict[str, Arm]]:
    """Read what stages 01 to 05 of a run left, and build the arms as page 6 does."""
    folder = {name[:2]: run_dir(run) / name for name in WRITING}
    data = load_data(folder["01"])
    validation, test = (
        read_table(folder["01"] / f"{name}.parquet", "split") for name in ("validation", "test")
    )
    answers = read_table(folder["03"] / "interactions.parquet", "added")
    wrote = [
        read_table(folder[number] / f"{name}.parquet", name)
        for number, name in (("04", "attributes"), ("05", "summaries"))
    ]
    said: dict[str, Any] = {"given": texts.given(data), "written": texts.written(data, *wrote)}
    if "given_text" in names:
        said["composed"] = texts.composed(data)
    make = features.open_encoder(encoder, seed=seed)
    vectors = {kind: features.encode(text.documents, make).vectors for kind, text in said.items()}
    documents = said["given"].documents
    have = recipes.sources(folder["01"], folder["03"], documents=documents, **vectors)
    kept = [n for n in names if strict or n != "oracle" or recipes.has_oracle(have)]
    shape = data.n_users, data.n_items
    made = recipes.build(kept, data.train, answers, *shape, have, seed=seed)
    return Study(data.train, validation, test, *shape, have.taste), made

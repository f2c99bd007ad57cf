"""A grid of trainings on one dataset: backbones x arms x seeds x regenerations, and its tables.

A *regeneration* is everything that the language model wrote, written anew: pages 02 to 05 with
other seeds, in a run of their own. Their trainings have other seeds, too, and all are pooled: so
an interval tells what another answer, another seed and other users could have changed. What is
trained is kept beside that of page 6, which has the same trainings, and a killed sweep continues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from dallrec_core import chain
from dallrec_core.chain.artefacts import write_table
from dallrec_core.chain.pages import PAGES, find_page, run_dir
from dallrec_core.chain.parameters import Overrides, check, resolve
from dallrec_core.chain.run import locked
from dallrec_core.experiment import comparison
from dallrec_core.experiment.arms import prepare
from dallrec_core.experiment.grid import run_grid, trainings
from dallrec_core.recommenders.settings import settings_for

WRITING = PAGES[:5]
"""The pages before the recommenders."""


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
        run: name of the run; its pages 01 to 05 are brought up to date first. Regeneration r has
            the run `<run>-r<r>`.
        overrides: parameter values by page, later ones over earlier ones.
        backbones: what to train. Default: those of page 6.
        arms: what to compare; `base` is always there. Default: those of page 6.
        seeds: trainings per backbone, arm and regeneration.
        regenerations: how often the language model writes everything.
        as_is: take pages 01 to 05 as they are, imported tables included.
        jobs: processes, each with one thread; 0 means one per core.
        scheduler: address of a Dask cluster, see `run_grid`.
        say: receives a line per page.

    Returns:
        The effects, see `comparison.effects`.

    Raises:
        UserError: for an unknown backbone or arm, and as pages and `run_grid` do.
    """
    layers, page = list(overrides), find_page("06")
    chosen = resolve(page, *layers)
    backbones = backbones or chosen["backbones"]
    names = list(dict.fromkeys(("base", *(arms or chosen["arms"]))))
    check(page, {"backbones": list(backbones), "arms": names, "seeds": seeds})
    k, parts = chosen["top_k"], []
    for again in range(regenerations):
        source = f"{run}-r{again}" if again else run
        if not as_is:
            # other seeds for what the language model learns and writes
            anew = {p.name: {"seed": resolve(p, *layers)["seed"] + again} for p in WRITING[1:]}
            chain.run_chain(source, [*layers, anew], [p.name for p in WRITING], say=say)
        first = chosen["seed"] + again * seeds
        with locked(run):
            folder_of = run_dir(source).joinpath
            ready = prepare(folder_of, names, encoder=chosen["encoder"], seed=first)
            grid = trainings(
                backbones, ready.arms, range(first, first + seeds), settings_for(ready.data.name),
                epochs=chosen["epochs"], hard_negatives=chosen["hard_negatives"],
            )  # fmt: skip
            scores, runs, _ = run_grid(
                ready.study, ready.arms, grid, run_dir(run) / "06_recommenders",
                jobs=jobs, scheduler=scheduler, ks=(10, k, 50), variants_at=k,
            )  # fmt: skip
        parts.append([frame.assign(regeneration=again) for frame in (scores, runs)])
    scores, runs = (pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True))
    metrics = comparison.yardsticks(scores, f"recall@{k}")
    table = comparison.effects(scores, runs, metrics)
    for name, frame in (("scores", scores), ("runs", runs), ("effects", table)):
        write_table(frame, run_dir(run) / "sweep" / f"{name}.parquet", name)
    return table

"""Backbones x arms x seeds, in parallel, resumable.

A *training* is a backbone on the edges of one arm with one seed. What it leaves behind is the
ranked list of every test user, stored under a key of everything that could change it (data, edges,
features, settings, seed, code) and nothing else. So a killed run continues, a changed setting
retrains only what it touches, arms that a backbone cannot tell apart are trained once, and metrics
can be added without training anything again.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from dallrec_core import recommenders
from dallrec_core.chain.artefacts import write_json
from dallrec_core.chain.notebook import peak_mib
from dallrec_core.chain.progress import progress
from dallrec_core.errors import UserError
from dallrec_core.experiment.arms import Arm
from dallrec_core.experiment.controls import deal, listed
from dallrec_core.experiment.scores import HIDDEN, Study, collect, inside, load_lists, save_lists
from dallrec_core.recommenders import training
from dallrec_core.recommenders.ranking import rank
from dallrec_core.recommenders.training import SETTINGS, TrainSettings

DEPTH = 100
"""Length of the ranked lists that are stored."""

GUESSES = ".guesses"
"""Suffix of the file with the best items outside training, for every user."""


@dataclass(frozen=True)
class Training:
    """One training."""

    backbone: str
    "A name `recommenders.build` knows."
    arm: str
    "Name of the arm."
    seed: int
    "Of initial values and sampling."
    settings: TrainSettings = field(default_factory=TrainSettings)
    "How to train."

    @property
    def run(self) -> str:
        """Its name in tables and messages."""
        return f"{self.backbone}/{self.arm}/{self.seed}"


Job = tuple[Training, Arm]
"""A training and what its arm adds."""


def trainings(
    backbones: Sequence[str],
    arms: Iterable[str],
    seeds: Sequence[int],
    settings: Mapping[str, TrainSettings] | None = None,
    *,
    epochs: int = 0,
    hard_negatives: float = 0.0,
) -> list[Training]:
    """List the trainings of a full grid; models in closed form get the first seed only.

    Args:
        backbones: names that `recommenders.build` knows.
        arms: names of the arms.
        seeds: of initial values and sampling.
        settings: how to train, by backbone, instead of `training.SETTINGS`.
        epochs: most epochs, instead of the settings' own; 0 keeps those.
        hard_negatives: share of negatives drawn from the arm's `negatives`, instead of the
            settings' own; 0 keeps that. Arms without such pairs are trained as if it were 0.

    Raises:
        UserError: for an unknown backbone.
    """
    known, grid = SETTINGS | dict(settings or {}), []
    for backbone in backbones:
        how = known.get(backbone, TrainSettings())
        if hard_negatives:
            how = replace(how, hard_negative_share=hard_negatives)
        if epochs:
            how = replace(how, epochs=epochs, eval_every=min(how.eval_every, epochs))
        some = seeds[:1] if recommenders.model_class(backbone).closed_form else seeds
        grid += [Training(backbone, arm, seed, how) for arm in arms for seed in some]
    return grid


def run_grid(
    study: Study,
    arms: Mapping[str, Arm],
    grid: Sequence[Training],
    folder: Path,
    *,
    jobs: int = 0,
    scheduler: str = "",
    ks: Sequence[int] = (10, 20, 50),
    variants_at: int = 20,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Train what is not stored yet, then score everything.

    Args:
        study: the shared data.
        arms: what each arm adds, by name.
        grid: from `trainings`.
        folder: what is finished is kept in `folder/trainings`.
        jobs: processes, each with one thread; 0 means one per core.
        scheduler: address of a Dask cluster that trains instead, such as tcp://host:8786; its
            workers must see `folder` under the same path.
        ks: lengths K of the list.
        variants_at: the K at which the conventions of `scores.score_arm` are given too.

    Returns:
        (scores, runs, curves): the first two with the schemas of those names. `runs` has more
        columns: added (edges the arm added), shared (whether an earlier row is the same training)
        and coverage (share of the catalogue in the lists at `variants_at`). `curves` has a row per
        look at validation: backbone, arm, seed, epoch, value (nDCG@20).

    Raises:
        UserError: naming the training that failed; the finished ones stay stored.
    """
    needed = [t.arm for t in grid] + [arm.guesses_of for arm in arms.values() if arm.guesses_of]
    missing = [name for name in needed if name not in arms]
    if missing:
        raise UserError(f"arm '{missing[0]}' is not defined; there are {', '.join(arms)}")
    planned = [(t, arms[t.arm].of_seed(t.seed)) for t in grid]
    # whose guesses are other arms' edges has to be trained first
    guides = {
        t.run: (replace(t, arm=arm.guesses_of), arms[arm.guesses_of].of_seed(t.seed))
        for t, arm in planned
        if arm.guesses_of
    }
    _train(study, guides.values(), folder, jobs, scheduler, guessing=True)
    finished = []
    for t, arm in planned:
        if t.run in guides:
            lists = load_lists(path_of(study, guides[t.run], folder).with_suffix(GUESSES))
            arm = replace(arm, edges=deal(arm.edges, listed(lists.users, lists.items)))
        finished.append((t, arm, path_of(study, (t, arm), folder)))
    _train(study, [(t, arm) for t, arm, _ in finished], folder, jobs, scheduler)
    return collect(study, finished, ks, variants_at)


# ---------------------------------------------------------------- what identifies a training


def reduced(job: Job) -> Job:
    """Return a training and its arm without what its backbone does not read."""
    one, arm = job
    model = recommenders.model_class(one.backbone)
    if not model.uses_features:
        arm = replace(arm, features={})
    if model.closed_form or arm.negatives.empty or not one.settings.hard_negative_share:
        arm = arm if arm.negatives.empty else replace(arm, negatives=arm.negatives.iloc[:0])
        one = replace(one, settings=replace(one.settings, hard_negative_share=0.0))
    return one, arm


def path_of(study: Study, job: Job, folder: Path) -> Path:
    """Return the file of a training's ranked lists; equal trainings of two arms share it."""
    one, arm = reduced(job)
    parts = [one.backbone, one.seed, asdict(one.settings), study.digest, arm.digest]
    key = joblib.hash([*parts, _code(one.backbone), DEPTH, torch.__version__])
    return folder / "trainings" / f"{key}.npz"


@cache
def _code(backbone: str) -> str:
    """Return a digest of the code that trains and ranks, so that changed code trains again."""
    files = sorted(Path(recommenders.__file__).parent.glob("*.py"))
    if ":" in backbone:  # from a file of the user's own
        files.append(Path(inspect.getfile(recommenders.model_class(backbone))))
    return str(joblib.hash([file.read_bytes() for file in files]))


# ---------------------------------------------------------------- training


def _train(
    study: Study,
    needed: Iterable[Job],
    folder: Path,
    jobs: int,
    scheduler: str,
    guessing: bool = False,
) -> None:
    """Train what is not finished, the dearest first."""
    endings = [".json"] + [GUESSES] * guessing + [HIDDEN] * (study.hidden is not None)
    todo: dict[Path, Job] = {}
    for job in needed:
        todo.setdefault(path_of(study, job, folder), reduced(job))
    dear = [path for path in todo if not all(path.with_suffix(end).is_file() for end in endings)]
    dear.sort(key=lambda path: -recommenders.model_class(todo[path][0].backbone).cost)
    count = min(jobs or joblib.cpu_count(), len(dear))
    with _processes(count, scheduler):
        done = joblib.Parallel(return_as="generator_unordered")(
            joblib.delayed(train_one)(study, todo[path], path, guessing) for path in dear
        )
        try:
            for _ in progress(done, total=len(dear), desc="training", unit="trainings"):
                pass
        except TerminatedWorkerError as error:
            raise UserError(
                f"a training process was killed, most likely for lack of memory; use fewer jobs "
                f"than {count}. What is finished is kept."
            ) from error


@contextmanager
def _processes(count: int, scheduler: str) -> Iterator[None]:
    """Let joblib use this process, several of this machine, or those of a Dask cluster."""
    if not scheduler:
        with joblib.parallel_config("loky", n_jobs=max(count, 1), inner_max_num_threads=1):
            yield
        return
    try:
        from distributed import Client

        client = Client(scheduler, timeout="10s")
    except ImportError as error:
        raise UserError("a scheduler needs Dask: python -m pip install distributed") from error
    except (OSError, ValueError) as error:
        raise UserError(f"no Dask scheduler answers at {scheduler}: {error}") from error
    with client, joblib.parallel_config("dask", n_jobs=-1):
        yield


def train_one(study: Study, job: Job, path: Path, guessing: bool) -> None:
    """Train, rank, and store the ranking and its record.

    Args:
        study: the shared data.
        job: what to train, from `reduced`.
        path: file of the ranking; the others lie beside it.
        guessing: also store the best items outside training of every user.

    Raises:
        UserError: naming the training.
    """
    one, arm = job
    observed = study.train[~inside(study.train, arm.left_out, study.n_items)]
    try:
        graph = recommenders.Graph.from_frame(
            observed, study.n_users, study.n_items,
            extra=arm.edges, insertion=arm.insertion, negatives=arm.negatives,
        )  # fmt: skip
        with training.one_thread():
            # copies: what other processes are handed is a read-only map of one file
            features = {name: torch.tensor(rows) for name, rows in arm.features.items()}
            config = one.settings.model
            model = recommenders.build(one.backbone, graph, features, config, seed=one.seed)
            result = training.fit(
                model, graph, study.validation, one.settings, one.seed, known=study.train
            )
            model.eval()
            save_lists(rank(model, study.seen, study.test_users, DEPTH), path)
            if study.hidden is not None:
                alone = rank(model, study.seen, study.test_users, DEPTH, study.hidden)
                save_lists(alone, path.with_suffix(HIDDEN))
            if guessing:
                everybody = rank(model, study.train, np.arange(study.n_users), DEPTH)
                save_lists(everybody, path.with_suffix(GUESSES))
    except UserError as error:
        raise UserError(f"{one.run}: {error}") from error
    except Exception as error:
        raise RuntimeError(f"{one.run}: {type(error).__name__}: {error}") from error
    record = asdict(result) | {"run": one.run, "edges": len(graph.users), "peak_mib": peak_mib()}
    record |= {"settings": asdict(one.settings), "history": result.history.to_dict("list")}
    write_json(record, path.with_suffix(".json"))  # last: its presence says that all is there

"""Train one model of another library on the arrays of `data.prepare`; run by that library's Python.

    PYTHON -m benchmarks.peers_worker '{"file": "in.npz", "name": "implicit BPR"}' out.json

Needs NumPy, SciPy and the library, nothing of `dallrec_core`. Quality is Recall@20 on the
validation interactions, computed here in the same way for all; it is looked at every few epochs,
and the best look counts, which favours the peer. Time for setting up and looking is not counted.
The exit status is 3 when the library is not installed.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from benchmarks.process import peak_mib

K, DIM, PATIENCE, SEED = 20, 64, 4, 0
MISSING = 3
OPTIONS = {
    "implicit BPR": {"learning_rate": 0.05, "regularization": 0.01},
    "Cornac BPR": {"learning_rate": 0.03, "lambda_reg": 0.01},
}
"""The best of a few that were tried on the same validation interactions; else the defaults."""
Vectors = tuple[np.ndarray, np.ndarray]
"""Of users [U, d] and items [N, d]; the score is their inner product."""
Training = Iterator[Vectors | None]
"""None when everything is set up, then the vectors after every so many epochs."""


def implicit_bpr(train: sparse.csr_matrix, chunk: int) -> Training:
    bpr = importlib.import_module("implicit.cpu.bpr")
    model = bpr.BayesianPersonalizedRanking(
        factors=DIM,
        iterations=chunk,
        num_threads=1,
        random_state=np.random.default_rng(SEED),  # an int would repeat each chunk's draws
        **OPTIONS["implicit BPR"],
    )
    yield None
    while True:
        model.fit(train, show_progress=False)  # goes on from the factors it has
        yield model.user_factors, model.item_factors


def implicit_als(train: sparse.csr_matrix, chunk: int) -> Training:
    als = importlib.import_module("implicit.cpu.als")
    model = als.AlternatingLeastSquares(
        factors=DIM,
        iterations=chunk,
        num_threads=1,
        random_state=np.random.default_rng(SEED),
    )
    yield None
    while True:
        model.fit(train, show_progress=False)
        yield model.user_factors, model.item_factors


def cornac_bpr(train: sparse.csr_matrix, chunk: int) -> Training:
    data = importlib.import_module("cornac.data")
    models = importlib.import_module("cornac.models")
    users, items = train.nonzero()
    dataset = data.Dataset.from_uir(
        list(zip(users.tolist(), items.tolist(), np.ones(len(users)).tolist(), strict=True)),
        seed=SEED,
    )
    model = models.BPR(k=DIM, max_iter=chunk, num_threads=1, seed=SEED, **OPTIONS["Cornac BPR"])
    # cornac numbers what it has seen in its own order; what it has not seen scores lowest
    user_codes, item_codes = list(dataset.uid_map), list(dataset.iid_map)
    yield None
    while True:
        model.fit(dataset)
        of_users = np.zeros((train.shape[0], DIM + 1), np.float32)
        of_items = np.zeros((train.shape[1], DIM + 1), np.float32)
        of_users[:, DIM], of_items[:, DIM] = 1, -1e9
        of_users[user_codes, :DIM] = model.u_factors
        of_items[item_codes] = np.column_stack([model.i_factors, model.i_biases])
        yield of_users, of_items


def recbole_bpr(train: sparse.csr_matrix, chunk: int) -> Training:
    # RecBole 1.2 names types that NumPy 1.24 removed, and reads its data from text files
    config_of = importlib.import_module("recbole.config").Config
    data = importlib.import_module("recbole.data")
    bpr = importlib.import_module("recbole.model.general_recommender").BPR
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench"
        path.mkdir()
        users, items = train.nonzero()
        rows = [f"{user}\t{item}\n" for user, item in zip(users, items, strict=True)]
        head = "user_id:token\titem_id:token\n"
        (path / "bench.train.inter").write_text(head + "".join(rows))
        for part in ("valid", "test"):  # its loader wants them; nothing here reads them
            (path / f"bench.{part}.inter").write_text(head + rows[0])
        options = {
            "data_path": folder,
            "benchmark_filename": ["train", "valid", "test"],
            "load_col": {"inter": ["user_id", "item_id"]},
            "embedding_size": DIM,
            "train_batch_size": 2048,
            "use_gpu": False,
            "show_progress": False,
            "checkpoint_dir": folder,
            "seed": SEED,
        }
        arguments, sys.argv = sys.argv, sys.argv[:1]  # it reads the command line as well
        config = config_of(model="BPR", dataset="bench", config_dict=options)
        sys.argv = arguments
        dataset = data.create_dataset(config)
        batches, _, _ = data.data_preparation(config, dataset)
    torch.manual_seed(SEED)
    model = bpr(config, batches.dataset)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.001)
    user_rows = dataset.token2id("user_id", [str(user) for user in np.unique(users)])
    item_rows = dataset.token2id("item_id", [str(item) for item in np.unique(items)])
    yield None
    while True:
        for _ in range(chunk):
            for batch in batches:
                optimiser.zero_grad()
                model.calculate_loss(batch).backward()
                optimiser.step()
        of_users = np.zeros((train.shape[0], DIM + 1), np.float32)
        of_items = np.zeros((train.shape[1], DIM + 1), np.float32)
        of_users[:, DIM], of_items[:, DIM] = 1, -1e9
        of_users[np.unique(users), :DIM] = model.user_embedding.weight.detach().numpy()[user_rows]
        of_items[np.unique(items), :DIM] = model.item_embedding.weight.detach().numpy()[item_rows]
        of_items[np.unique(items), DIM] = 0
        yield of_users, of_items


PEERS: dict[str, tuple[str, Callable[..., Training], int, int]] = {
    "implicit BPR": ("implicit", implicit_bpr, 5, 200),
    "implicit ALS": ("implicit", implicit_als, 3, 30),
    "Cornac BPR": ("cornac", cornac_bpr, 5, 200),
    "RecBole BPR": ("recbole", recbole_bpr, 5, 100),
}
"""Name → package, training, epochs between two looks, most epochs."""


def recall(vectors: Vectors, train: sparse.csr_matrix, valid: sparse.csr_matrix) -> float:
    """Return the mean over users with validation items of their Recall@20, all items ranked."""
    values = []
    for start in range(0, train.shape[0], 512):
        users = np.arange(start, min(start + 512, train.shape[0]))
        users = users[np.diff(valid.indptr)[users] > 0]
        scores = vectors[0][users] @ vectors[1].T
        scores[train[users].nonzero()] = -np.inf
        best = np.argsort(-scores, axis=1, kind="stable")[:, :K]
        relevant = valid[users].toarray() > 0
        hits = np.take_along_axis(relevant, best, axis=1).sum(axis=1)
        values.append(hits / relevant.sum(axis=1))
    return float(np.concatenate(values).mean())


def measure(
    file: str,
    name: str,
    *,
    cap_seconds: float = 240.0,
    targets: tuple[float, ...] = (0.261, 0.273),
) -> dict[str, Any]:
    """Train until the best look is four looks old, or epochs or CPU seconds are at their end."""
    package, trainer, chunk, most = PEERS[name]
    with np.load(file) as arrays:
        shape = tuple(arrays["sizes"])
        train, valid = (
            sparse.csr_matrix(
                (np.ones(len(arrays[f"{part}_users"]), np.float32),
                 (arrays[f"{part}_users"], arrays[f"{part}_items"])),
                shape=shape,
            )
            for part in ("train", "valid")
        )  # fmt: skip
    steps, spent, looks = trainer(train, chunk), 0.0, []
    started = time.process_time()
    next(steps)
    setup = time.process_time() - started
    while len(looks) * chunk < most and spent < cap_seconds:
        started = time.process_time()
        vectors = next(steps)
        spent += time.process_time() - started
        epoch = (len(looks) + 1) * chunk
        looks.append(
            {"epoch": epoch, "cpu_seconds": spent, "recall": recall(vectors, train, valid)}
        )
        print(
            f"{name}: epoch {epoch}, {spent:.1f} CPU s, Recall@{K} {looks[-1]['recall']:.4f}",
            file=sys.stderr,
            flush=True,
        )
        best = max(looks, key=lambda look: look["recall"])
        if epoch - best["epoch"] >= PATIENCE * chunk:
            break
    first = {
        target: next((look["cpu_seconds"] for look in looks if look["recall"] >= target), None)
        for target in targets
    }
    return {
        f"valid_recall@{K}": best["recall"],
        "seconds_per_epoch": spent / epoch,
        "cpu_seconds": best["cpu_seconds"],
        "cpu_seconds_to_target": first[targets[0]],
        "targets": {f"{target:.3f}": seconds for target, seconds in first.items()},
        "peak_mib": peak_mib(),
        "version": version(package),
        "setup_seconds": setup,
        "epochs": epoch,
        "capped": epoch - best["epoch"] < PATIENCE * chunk,
        "looks": looks,
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    job = json.loads(sys.argv[1])
    try:
        importlib.import_module(PEERS[job["name"]][0])
    except ImportError:
        sys.exit(MISSING)
    Path(sys.argv[2]).write_text(json.dumps(measure(**job)))

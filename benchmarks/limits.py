"""What the machine allows: measured bandwidth and arithmetic of one core, and what follows.

The limits are of the algorithm, not of this library's way to it.

A **BPR epoch** visits E triples (user, item, other item). Each needs three rows of d floats, which
are read for the score and, for the update, read and written once more, and three 8-byte codes:
`E (3 · 3 · 4 d + 24)` bytes, at the speed of copying memory. Where both tables fit into a cache the
true limit is lower; an optimiser with moments has to touch more.

A **graph layer** multiplies a sparse matrix of `nnz` entries with a dense one of width d: `2 nnz d`
operations at the speed of a matrix product, and `nnz` gathered rows of d floats, read at the speed
at which a table of that size can be read again and again (from cache where it fits), plus 8 bytes
of the matrix itself per entry. The slower of the two is the limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import data as arrays
from dallrec_core.recommenders import multiply

DIM = 64
COPY_MIB = 256
"""Far larger than any cache."""


def best_seconds(work: Callable[[], Any], *, repeats: int = 7, at_least: float = 0.05) -> float:
    """Return the CPU seconds of one `work()`: the best of some repeats, after one to warm up.

    Work that is too short for the clock is done several times in a row.
    """
    work()
    count, best = 1, float("inf")
    while repeats:
        started = time.process_time()
        for _ in range(count):
            work()
        seconds = time.process_time() - started
        if seconds < at_least:
            count *= 2
            continue
        best, repeats = min(best, seconds / count), repeats - 1
    return best


def copy_bandwidth(mib: int = COPY_MIB) -> float:
    """Return the bytes per second of copying memory, reading and writing both counted."""
    source = torch.ones(mib * 2**18)
    target = torch.empty_like(source)
    return 2 * source.nbytes / best_seconds(lambda: target.copy_(source))


def read_bandwidth(rows: int, dim: int = DIM) -> float:
    """Return the bytes per second of reading a float32 table [rows, dim] again and again."""
    table = torch.ones(2, rows * dim // 2)
    return table.nbytes / best_seconds(lambda: torch.dot(table[0], table[1]))


def row_seconds(rows: int, dim: int = DIM, count: int = 8192) -> float:
    """Return the seconds of looking up one row, drawn at random, of a float32 table [rows, dim]."""
    table, chosen = torch.ones(rows, dim), torch.randint(rows, (50, count))
    result = torch.empty(count, dim)

    def look_up() -> None:
        for some in chosen:
            torch.index_select(table, 0, some, out=result)

    return best_seconds(look_up) / chosen.numel()


def gemm_rate(size: int = 1536) -> float:
    """Return the float32 operations per second of a square matrix product."""
    left, right = torch.rand(2, size, size)
    result = torch.empty(size, size)
    return 2 * size**3 / best_seconds(lambda: torch.mm(left, right, out=result))


def bpr_epoch_bytes(triples: int, dim: int = DIM) -> int:
    """Return the bytes that an epoch of BPR has to touch."""
    return triples * (3 * 3 * 4 * dim + 3 * 8)


def graph_layer_seconds(
    nnz: int, operations: float, bandwidth: float, dim: int = DIM
) -> tuple[float, float]:
    """Return what a layer needs for its arithmetic alone, and for gathering its rows alone."""
    return 2 * nnz * dim / operations, nnz * (4 * dim + 8) / bandwidth


def measure(file: str, *, copy_mib: int = COPY_MIB, gemm_size: int = 1536) -> dict[str, Any]:
    """Return the machine's rates, and the limits for the data in `file`."""
    data = arrays.load(file)
    graph = data.graph()
    nodes, nnz = data.n_users + data.n_items, 2 * len(graph.users)
    bandwidth, operations = copy_bandwidth(copy_mib), gemm_rate(gemm_size)
    cache = read_bandwidth(nodes)
    arithmetic, gather = graph_layer_seconds(nnz, operations, cache)
    adjacency, table = graph.normalised_adjacency(), torch.rand(nodes, DIM)
    layer = best_seconds(lambda: multiply(adjacency, table))
    return {
        "copy_gb_per_s": bandwidth / 1e9,
        "gemm_gflop_per_s": operations / 1e9,
        "table_read_gb_per_s": cache / 1e9,
        "bpr_epoch_gb": bpr_epoch_bytes(len(graph.users)) / 1e9,
        "bpr_epoch_seconds": bpr_epoch_bytes(len(graph.users)) / bandwidth,
        "graph_layer_seconds": max(arithmetic, gather),
        "graph_layer_arithmetic_seconds": arithmetic,
        "graph_layer_gather_seconds": gather,
        "graph_layer_measured_seconds": layer,
        "torch": torch.__version__,
    }

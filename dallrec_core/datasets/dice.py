"""Random integers that are the same on every machine, for the simulation of the embedded data.

They come from the raw 64-bit words of PCG64, whose stream NumPy guarantees; what NumPy makes of
them (normal or weighted draws) may change with its version and the processor.
"""

from __future__ import annotations

import numpy as np


class Dice:
    """Draws from the raw words of PCG64; equal seeds draw alike.

    Args:
        seed: any number of integers, not negative.
    """

    def __init__(self, *seed: int) -> None:
        self._bits = np.random.PCG64(list(seed))

    def words(self, *shape: int) -> np.ndarray:
        """Return uniform 32-bit integers as int64."""
        raw = self._bits.random_raw(int(np.prod(shape)))
        return (raw >> np.uint64(32)).astype(np.int64).reshape(shape)

    def below(self, limit: int | np.ndarray, *shape: int) -> np.ndarray:
        """Return integers in `[0, limit)`; `limit` is at most 2**31."""
        return (self.words(*shape) * limit) >> 32

    def normal(self, *shape: int) -> np.ndarray:
        """Return N(0, 1) in thousandths: the sum of four 16-bit uniforms, scaled."""
        raw = self._bits.random_raw(int(np.prod(shape)))
        shifts = np.arange(0, 64, 16, dtype=np.uint64)[:, None]
        centred = ((raw >> shifts) & np.uint64(0xFFFF)).astype(np.int64).sum(axis=0) - 131_070
        return (centred * 1_732 // 65_536).reshape(shape)

    def choose(self, weights: np.ndarray, rows: int, count: int) -> np.ndarray:
        """Return `[rows, count]` distinct columns, drawn one after the other by integer weight."""
        left = np.tile(weights, (rows, 1))
        picks = np.empty((rows, count), dtype=np.int64)
        for k in range(count):
            ladder = np.cumsum(left, axis=1)
            picks[:, k] = (ladder <= self.below(ladder[:, -1], rows)[:, None]).sum(axis=1)
            np.put_along_axis(left, picks[:, k : k + 1], 0, axis=1)
        return picks

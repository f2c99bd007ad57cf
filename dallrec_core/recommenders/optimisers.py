"""RMSProp as TensorFlow 1 computes it, for parity with the published training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class TensorFlowRMSProp(torch.optim.Optimizer):
    """`tf.train.RMSPropOptimizer` (TF 1) on looked-up embeddings.

    It differs from `torch.optim.RMSprop` in three ways that change results: the accumulator `a`
    starts at 1, epsilon stands inside the root, and only rows that the batch touched are updated:

        a ← ρ a + (1 - ρ) g²
        w ← w - η g / √(a + ε)

    A row whose gradient is entirely zero counts as untouched.

    Args:
        parameters: tensors; rows of matrices are embeddings, a vector is one row per entry.
        lr: step size η.
        decay: ρ.
        epsilon: ε.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, decay: float = 0.9, epsilon: float = 1e-10
    ) -> None:
        super().__init__(parameters, {"lr": lr, "decay": decay, "epsilon": epsilon})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Apply one update to every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["accumulator"] = torch.ones_like(parameter)
        gradient = parameter.grad
        assert gradient is not None
        accumulator = state["accumulator"]
        norms = torch.linalg.vector_norm(gradient.reshape(len(gradient), -1), dim=1)
        rows = norms.nonzero().squeeze(1)
        touched = gradient.index_select(0, rows)
        kept = accumulator.index_select(0, rows).mul_(group["decay"])
        kept.addcmul_(touched, touched, value=1 - group["decay"])
        accumulator.index_copy_(0, rows, kept)
        update = touched.div_(kept.add_(group["epsilon"]).sqrt_())
        parameter.index_add_(0, rows, update, alpha=-group["lr"])

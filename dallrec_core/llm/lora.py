"""What a LoRA adapter is like and how it is trained (Hu et al. 2022), and how it enters a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dallrec_core.errors import UserError
from dallrec_core.llm.models import LanguageModel


@dataclass(frozen=True)
class LoraSettings:
    """How an adapter is trained."""

    rank: int = 8
    """Inner dimension of the adapter."""
    alpha: float = 16
    """The adapter's product is scaled by alpha / rank."""
    dropout: float = 0.05
    """Chance with which an input of the adapter is dropped in training."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Layers that get an adapter, by name."""
    epochs: int = 5
    """Passes over the examples."""
    learning_rate: float = 2e-4
    """Peak of AdamW's rate: linear warm-up over 5 % of the steps, then a cosine to zero."""
    batch_size: int = 8
    """Examples per forward pass."""
    gradient_accumulation: int = 1
    """Forward passes per step."""
    patience: int = 0
    """Stop after so many epochs without a lower held-out loss, and keep the epoch with the lowest;
    0 trains to the end and keeps the last. Without held-out examples it does nothing."""
    weight_decay: float = 0.0
    """AdamW's weight decay."""
    max_length: int = 0
    """Longest example in tokens; 0 means as long as the model can read."""
    seed: int = 0
    """Of the initial adapter, the order of examples and dropout."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further arguments of `peft.LoraConfig` by name, such as `use_rslora`."""

    def __post_init__(self) -> None:
        """Refuse values that cannot train, naming them."""
        for name in ("rank", "epochs", "batch_size", "gradient_accumulation"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UserError(f"LoRA setting {name} is {value}; it must be a whole number >= 1")
        if not isinstance(self.patience, int) or self.patience < 0:
            raise UserError(f"LoRA setting patience is {self.patience}; it must be 0 or more")
        if not self.learning_rate > 0:
            raise UserError(f"LoRA setting learning_rate is {self.learning_rate}; it must be > 0")
        if not 0 <= self.dropout < 1:
            raise UserError(f"LoRA setting dropout is {self.dropout}; it must be in [0, 1)")


def with_lora(lm: LanguageModel, settings: LoraSettings) -> Any:
    """Return the model of `lm` with untrained adapters in it, ready to be trained.

    Raises:
        UserError: when the model has no such layers, or PEFT does not know an option.
    """
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    targets = settings.target_modules
    try:
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,  # type: ignore[arg-type]
            lora_dropout=settings.dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
            task_type="CAUSAL_LM",
            **settings.extra,
        )
        model = lm.model
        if lm.quantize != "none":
            model = prepare_model_for_kbit_training(model)
        return get_peft_model(model, config)
    except (ValueError, TypeError) as error:
        raise UserError(f"LoRA settings do not fit model '{lm.name}': {error}") from error

"""What a recommender is given and what it must offer.

A backbone sees tensors only: the interaction graph, and for multi-modal models one feature matrix
per modality. It knows no dataset and no language model.

Shape notation used in this package:
    U, N    number of users, of items
    E       number of interactions (edges of the bipartite graph)
    B       users, or (user, positive, negative) triples, in one batch
    d       width of an embedding
"""

from __future__ import annotations

import abc
import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar, cast

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from dallrec_core.errors import UserError
from dallrec_core.recommenders.graph import Graph
from dallrec_core.recommenders.losses import batch_l2, bpr_loss


class Recommender(nn.Module, abc.ABC):
    """A model that scores every item for a user.

    A subclass is constructed as `cls(graph, config, features)` and registered by `register`.
    """

    closed_form: ClassVar[bool] = False
    "True when construction is all the training there is (and seeds make no difference)."
    uses_features: ClassVar[bool] = False
    "True when the model needs item features."
    cost: ClassVar[float] = 1.0
    "Rough cost of one training, MF-BPR = 1; the dearest are started first."
    options: ClassVar[type[Any]]
    "The dataclass of its options, set by `register`."

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.n_users = graph.n_users
        self.n_items = graph.n_items

    @abc.abstractmethod
    def scores(self, users: Tensor) -> Tensor:
        """Return the scores of all items for `users` (int64 [B]), a new float32 [B, N]."""

    def scorer(self) -> Callable[[Tensor], Tensor]:
        """Return a function like `scores` that does work shared by all users only once."""
        return self.scores

    def loss(
        self, users: Tensor, positives: Tensor, negatives: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return the training loss of a batch of triples, a scalar.

        Args:
            users: int64 [B].
            positives: an item each user has, int64 [B].
            negatives: an item the user does not have, int64 [B].
            weights: importance of each triple, float32 [B]; all 1 when absent.

        Raises:
            UserError: for a model in closed form.
        """
        raise UserError(f"{type(self).__name__} is computed in closed form and has no loss")


class DotProduct(Recommender):
    """A recommender whose score is the inner product of a user's and an item's vector."""

    @abc.abstractmethod
    def user_item_vectors(self) -> tuple[Tensor, Tensor]:
        """Return all user vectors [U, d] and item vectors [N, d]."""

    def split(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows of users [U, d] and of items [N, d] of `nodes` [U + N, d].

        Two slices would each fill a gradient as large as `nodes`; this way there is one.
        """
        users, items = nodes.split([self.n_users, self.n_items])
        return users, items

    def scorer(self) -> Callable[[Tensor], Tensor]:
        """Compute the vectors once and return the function that multiplies them."""
        users, items = self.user_item_vectors()
        return lambda block: users.index_select(0, block) @ items.T

    def scores(self, users: Tensor) -> Tensor:
        """Return the scores of all items for `users` (int64 [B]), float32 [B, N]."""
        return self.scorer()(users)


@dataclass(frozen=True)
class EmbeddingConfig:
    """Options of every backbone that is trained."""

    dim: PositiveInt = 64
    "Width d of embeddings, and of layers where there are some."
    l2: NonNegativeFloat | None = None
    "λ, weight of the squared norms that the loss penalises; None derives it from `prior`."
    prior: NonNegativeFloat = 0.1
    "λ times the mean number of interactions of a user: one value suits sparse and dense data."

    def l2_for(self, graph: Graph) -> float:
        """Return λ for a graph; edges that were added to it do not change λ."""
        return self.prior / graph.mean_degree if self.l2 is None else self.l2


@dataclass(frozen=True)
class GraphConfig(EmbeddingConfig):
    """Options of every backbone that passes messages along the graph."""

    init_std: PositiveFloat = 0.1
    "Standard deviation of the normal initial values of embeddings."


class GraphModel(DotProduct):
    """A model with an ID embedding for each node of the graph.

    A multi-modal one has also, for each modality, a network with preferences of the users.
    """

    final_l2 = 0.0
    "Weight of the squared norms of the final vectors."

    def __init__(self, graph: Graph, config: GraphConfig) -> None:
        super().__init__(graph)
        self.l2 = config.l2_for(graph)
        size = graph.n_users + graph.n_items
        self.ids = nn.Parameter(torch.randn(size, config.dim) * config.init_std)
        self.modalities = nn.ModuleDict()

    def loss(
        self, users: Tensor, positives: Tensor, negatives: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return the regularised BPR loss of a batch (all arguments [B]), a scalar."""
        batch = users, positives, negatives
        vectors = self.user_item_vectors()
        return bpr_loss(*vectors, *batch, weights, self.final_l2) + self.penalty(*batch)

    def penalty(self, users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """Return λ times the squared norms of what a batch trains (all arguments [B]), a scalar."""
        total = batch_l2(self.ids, users, positives + self.n_users, negatives + self.n_users)
        for network in self.modalities.values():
            total = total + batch_l2(cast("Tensor", network.preferences), users)
        return self.l2 * total


Features = Mapping[str, Tensor]
"""Item features by modality ("attributes", "summary", …), each float32 [N, width]."""

Model = TypeVar("Model", bound=type[Recommender])
_REGISTRY: dict[str, type[Recommender]] = {}


def register(name: str, config: type[Any]) -> Callable[[Model], Model]:
    """Class decorator: make the model buildable as `name` with options from dataclass `config`.

    Raises:
        UserError: when another module has registered that name.
    """

    def add(cls: Model) -> Model:
        other = _REGISTRY.get(name, cls).__module__
        if other != cls.__module__:
            raise UserError(f"{other} has a recommender '{name}' already; name yours differently")
        cls.options = config
        _REGISTRY[name] = cls
        return cls

    return add


def names() -> list[str]:
    """Return the names that `build` knows."""
    return sorted(_REGISTRY)


def model_class(name: str) -> type[Recommender]:
    """Return the class behind a name.

    A name like `my_models:Mine` stands for what the module `my_models` registers as `Mine`. The
    module is imported here, so that every process that trains finds it.

    Raises:
        UserError: for an unknown name, listing the valid ones, or a module that cannot be imported.
    """
    module, colon, own = name.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(
                f"recommender '{name}': {error}; put the folder of {module}.py on PYTHONPATH"
            ) from error
    if own not in _REGISTRY or (colon and _REGISTRY[own].__module__ != module):
        raise UserError(f"recommender '{own}' is unknown; use one of {', '.join(names())}")
    return _REGISTRY[own]


def build(
    name: str,
    graph: Graph,
    features: Features | None = None,
    config: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
) -> Recommender:
    """Construct a recommender with reproducible initial values.

    Args:
        name: one of `names()`, or `module:Name`; see `model_class`.
        graph: the training interactions.
        features: item features, for the models that use them.
        config: options of the model; the rest keep their defaults.
        seed: of the initial values. The global random state is left as it was.

    Raises:
        UserError: for an unknown name or option (the valid ones are listed), a value out of range,
            or missing or misshapen features.
    """
    cls = model_class(name)
    options = _options(name, config or {})
    if cls.uses_features and not features:
        raise UserError(f"{name} needs item features and none were given")
    for modality, matrix in (features or {}).items():
        if matrix.ndim != 2 or len(matrix) != graph.n_items:
            raise UserError(
                f"features '{modality}' have shape {tuple(matrix.shape)}; "
                f"{graph.n_items} rows, one per item, are needed"
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cls(graph, options, features)  # type: ignore[call-arg]


def _options(name: str, config: Mapping[str, Any]) -> Any:
    kind = model_class(name).options
    valid = [field.name for field in dataclasses.fields(kind)]
    unknown = [key for key in config if key not in valid]
    if unknown:
        raise UserError(f"{name} has no option '{unknown[0]}'; it has {', '.join(valid)}")
    try:
        return kind(**config)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "options"
        raise UserError(f"{name}: {where}: {first['msg']}, unlike {first['input']!r}") from error

"""Recommendation backbones behind one interface; see `base` for what they take and offer."""

from __future__ import annotations

from dallrec_core.recommenders import baselines, grcn, lightgcn, mf_bpr, mmgcn, mmssl, ngcf, nmf
from dallrec_core.recommenders.base import (
    DotProduct,
    Features,
    Recommender,
    build,
    model_class,
    names,
)
from dallrec_core.recommenders.graph import Graph
from dallrec_core.recommenders.settings import settings_for
from dallrec_core.recommenders.sparse import multiply
from dallrec_core.recommenders.training import fit

__all__ = [
    "DotProduct", "Features", "Graph", "Recommender", "baselines", "build", "fit", "grcn",
    "lightgcn", "mf_bpr", "mmgcn", "mmssl", "model_class", "multiply", "names", "ngcf", "nmf",
    "settings_for",
]  # fmt: skip

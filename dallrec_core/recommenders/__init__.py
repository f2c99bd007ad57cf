"""Recommendation backbones behind one interface; see `base` for what they take and offer."""

from __future__ import annotations

from dallrec_core.recommenders import (
    baselines,
    grcn,
    item_knn,
    lightgcn,
    mf_bpr,
    mmgcn,
    mmssl,
    ngcf,
    nmf,
)
from dallrec_core.recommenders.base import (
    DotProduct,
    Features,
    Recommender,
    build,
    model_class,
    names,
)
from dallrec_core.recommenders.graph import Graph

__all__ = [
    "DotProduct",
    "Features",
    "Graph",
    "Recommender",
    "baselines",
    "build",
    "grcn",
    "item_knn",
    "lightgcn",
    "mf_bpr",
    "mmgcn",
    "mmssl",
    "model_class",
    "names",
    "ngcf",
    "nmf",
]

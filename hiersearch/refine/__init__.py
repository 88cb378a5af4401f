"""Refinement: a network's soft output made better by merging hierarchies and the metric."""

from hiersearch.refine.best_cut import best_cut
from hiersearch.refine.metric_merging import metric_merging
from hiersearch.refine.objects import objects
from hiersearch.refine.pipeline import DEFAULT_METHODS, METHODS, refine
from hiersearch.refine.refinement import Refinement, Step
from hiersearch.refine.tree_voting import tree_voting

__all__ = [
    "DEFAULT_METHODS",
    "METHODS",
    "Refinement",
    "Step",
    "best_cut",
    "metric_merging",
    "objects",
    "refine",
    "tree_voting",
]

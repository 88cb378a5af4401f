"""Refinement: a network's soft output made better by merging hierarchies and the metric."""

from hiersearch.refinement.best_cut import best_cut
from hiersearch.refinement.metric_merging import metric_merging
from hiersearch.refinement.objects import objects
from hiersearch.refinement.pipeline import DEFAULT_METHODS, METHODS, refine
from hiersearch.refinement.refinement import Refinement, Step
from hiersearch.refinement.tree_voting import tree_voting

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

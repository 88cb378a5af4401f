"""The words that users choose from, in Python and on the command line; each list is written here.

This module imports nothing, so that help and usage errors of the command line come at once.
"""

from __future__ import annotations

from typing import Literal, get_args

Reading = Literal["regions", "classes", "boundaries", "affinities", "objects"]
READINGS: tuple[Reading, ...] = get_args(Reading)
"""What the channels of a network's output can mean. "objects": background, interior, boundary."""

TrainedReading = Literal["objects", "classes", "affinities"]
TRAINED_READINGS: tuple[TrainedReading, ...] = get_args(TrainedReading)
"""What networks are trained for here: instances two ways, and classes."""

TrainingLoss = Literal[
    "cross-entropy", "partition-metric", "partition-metric+cross-entropy", "affinity-metric"
]
TRAINING_LOSSES: tuple[TrainingLoss, ...] = get_args(TrainingLoss)
"""What they are trained with; the last is for affinities."""

Activation = Literal["softmax", "sigmoid", "none"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
"""What makes probabilities of a network's output."""

Superpixels = Literal["slic", "felzenszwalb", "watershed", "pixels"]
SUPERPIXELS: tuple[Superpixels, ...] = get_args(Superpixels)
"""Ways to make superpixels of an image alone."""
COUNTED_SUPERPIXELS: tuple[Superpixels, ...] = ("slic", "watershed")
"""Those that are asked for a number."""
GUIDED = "guided"
"""Superpixels that follow the soft output as well."""

LinkageName = Literal["mean-colour", "ward", "average", "single", "complete"]
LINKAGES: tuple[LinkageName, ...] = get_args(LinkageName)
"""How unlike two regions are, where regions are merged pair by pair."""
MIX = "mix"
"""A mixture of such, which has weights and is no name by itself."""
WATERSHED_LINKAGES = ("watershed-area", "watershed-volume", "watershed-dynamics")
"""Hierarchies by attributes of catchment basins."""
SOFT_MIX = "soft-mix"
"""A mixture that the soft output takes part in."""

RefinementMethod = Literal["tree_voting", "metric_merging", "best_cut", "objects"]
REFINEMENT_METHODS: tuple[RefinementMethod, ...] = get_args(RefinementMethod)
"""Ways of refining a network's output."""

USUAL_K = 10
"""How many answers a search of an index gives unless told otherwise."""

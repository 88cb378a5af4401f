"""Trees that Higra makes of the photo, which its searches and ours are compared on."""

from __future__ import annotations

import numpy as np

from benchmarks.inputs import photo


def photo_tree(leaf_map):
    """Return Higra's tree over superpixels (or pixels) of the photo, and its altitudes."""
    import higra as hg

    image = photo()
    graph = hg.get_4_adjacency_graph(leaf_map.shape)
    colours = image.reshape(-1, 3).astype(np.float64)
    contrast = hg.weight_graph(graph, colours, hg.WeightFunction.L_infinity)
    if leaf_map.max() + 1 == leaf_map.size:
        return hg.bpt_canonical(graph, contrast)
    rag = hg.make_region_adjacency_graph_from_labelisation(graph, leaf_map.reshape(-1))
    means = hg.rag_accumulate_on_edges(rag, hg.Accumulators.mean, contrast)
    lengths = hg.rag_accumulate_on_edges(rag, hg.Accumulators.counter, contrast)
    return hg.binary_partition_tree_average_linkage(rag, means, lengths)

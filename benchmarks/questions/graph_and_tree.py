"""From superpixels to the region adjacency graph and the whole average-linkage merge tree."""

from __future__ import annotations

import numpy as np

from benchmarks.inputs import photo, slic
from benchmarks.measuring import in_turn
from benchmarks.question import PHOTO, Answer, Question
from benchmarks.tables import Table, figure, shown

QUESTION = Question(
    "How long do the region adjacency graph and the whole average-linkage tree of a 512 × 512 "
    "photo's superpixels take?",
    minutes=2,
    bundled=PHOTO,
    packages=("higra", "bioimage-cpp"),
    in_readme=True,
)


def _ours(labels, image):
    from hiersearch.hierarchy.build import build_hierarchy

    return build_hierarchy(image, superpixels=labels, linkage="average")


def _higra_graph(labels, image):
    """Higra's route from pixels: grid graph, region adjacency graph, mean contrasts."""
    import higra as hg

    graph = hg.get_4_adjacency_graph(labels.shape)
    colours = image.reshape(-1, image.shape[-1]).astype(np.float64)
    contrast = hg.weight_graph(graph, colours, hg.WeightFunction.L_infinity)
    rag = hg.make_region_adjacency_graph_from_labelisation(graph, labels.reshape(-1))
    means = hg.rag_accumulate_on_edges(rag, hg.Accumulators.mean, contrast)
    lengths = hg.rag_accumulate_on_edges(rag, hg.Accumulators.counter, contrast)
    return rag, means, lengths


def _higra(labels, image):
    import higra as hg

    rag, means, lengths = _higra_graph(labels, image)
    return hg.binary_partition_tree_average_linkage(rag, means, lengths)


def _bioimage(labels, image):
    """Means over boundaries of an edge map (given), then edge-weighted clustering to 2 regions."""
    from bioimage_cpp import graph
    from bioimage_cpp.graph import agglomeration, features

    rag = graph.region_adjacency_graph(labels.astype(np.uint32))
    table = features.edge_map_features(rag, labels.astype(np.uint32), _edge_map(image))
    policy = agglomeration.EdgeWeightedClusterPolicy(num_clusters_stop=2, size_regularizer=0.0)
    return policy.optimize(rag, table[:, 0], edge_sizes=table[:, 1])


_EDGE_MAPS: dict[int, np.ndarray] = {}


def _edge_map(image):
    """Gradient of the photo, made once and not timed: the peer takes a map, not an image."""
    if id(image) not in _EDGE_MAPS:
        grey = image.astype(np.float32).max(axis=-1)
        _EDGE_MAPS[id(image)] = np.hypot(*np.gradient(grey)).astype(np.float32)
    return _EDGE_MAPS[id(image)]


def _scikit_image(labels, image):
    from skimage import graph
    from skimage.filters import sobel

    rag = graph.rag_boundary(labels, sobel(image.max(axis=-1).astype(float)))
    return graph.merge_hierarchical(
        labels,
        rag,
        thresh=np.inf,
        rag_copy=False,
        in_place_merge=True,
        merge_func=_join_boundaries,
        weight_func=_boundary_weight,
    )


def _boundary_weight(graph, source, target, neighbour):
    """Mean over the joint boundary, as scikit-image's own example computes it."""
    default = {"weight": 0.0, "count": 0}
    first = graph[source].get(neighbour, default)
    second = graph[target].get(neighbour, default)
    count = first["count"] + second["count"]
    total = first["count"] * first["weight"] + second["count"] * second["weight"]
    return {"count": count, "weight": total / count}


def _join_boundaries(graph, source, target):
    """Nothing besides the edges needs joining."""


def run() -> list[Table]:
    image = photo()
    table = Table(
        "Region adjacency graph and complete average-linkage tree, 512 × 512 photo (ms)",
        ("route", "about 3,500 regions", "ours ÷ it", "about 15,000 regions", "ours ÷ it"),
    )
    timings = []
    for segments in (4500, 17000):
        labels = slic(segments)
        routes = {
            "hiersearch": lambda labels=labels: _ours(labels, image),
            "bioimage-cpp (stops at 2 regions, keeps no tree)": lambda labels=labels: _bioimage(
                labels, image
            ),
            "Higra, from pixels": lambda labels=labels: _higra(labels, image),
        }
        found = in_turn(routes, 15)
        slow = {"scikit-image": lambda labels=labels: _scikit_image(labels, image)}
        found |= in_turn(slow, 3 if segments < 5000 else 1)
        timings.append(found)
    small, large = timings
    for name in small:
        ratio = [t["hiersearch"].median / t[name].median for t in (small, large)]
        table.rows.append(
            (name, str(small[name]), shown(ratio[0]), str(large[name]), shown(ratio[1]))
        )
    counts = [int(slic(segments).max()) + 1 for segments in (4500, 17000)]
    growth = large["hiersearch"].median / small["hiersearch"].median
    table.notes += [
        f"Regions: {counts[0]:,} and {counts[1]:,}; {counts[1] / counts[0]:.1f} times as many take "
        f"{growth:.1f} times as long.",
        "",
        "Agreement: " + _agreement(slic(4500), image),
    ]
    return [table]


def _agreement(labels, image) -> str:
    """Compare altitudes with Higra's, both sorted: equal trees have equal ones.

    A little noise makes contrasts differ, since of equal ones either may be merged first.
    """
    image = image + np.random.default_rng(0).random(image.shape)
    tree = _ours(labels, image)
    _, altitudes = _higra(labels, image)
    ours = np.sort(tree.altitudes[tree.n_leaves :])
    theirs = np.sort(altitudes[tree.n_leaves :])
    worst = float(np.abs(ours - theirs).max())
    return (
        f"sorted altitudes differ from Higra's by at most {worst:.2g} "
        f"on the photo with noise that breaks ties (altitudes reach {ours[-1]:.3g})."
    )


def answer(tables: list[Table]) -> Answer:
    (table,) = tables
    _, small, _, large, _ = table.row("hiersearch")
    peers = [row for row in table.rows if row[0] != "hiersearch"]
    few, many = table.columns[1], table.columns[3]
    return Answer(
        f"{figure(small)} ms for {few}, {figure(large)} ms for {many}",
        "; ".join(
            f"{row[0]} {figure(row[1])}, {figure(row[3])} ms ({row[2]}, {row[4]})" for row in peers
        ),
    )

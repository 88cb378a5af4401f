"""Best of all cuts, 12 channels: from probabilities to the full-resolution label map."""

from __future__ import annotations

import numpy as np

from benchmarks.higra_trees import photo_tree
from benchmarks.inputs import slic, soft_output
from benchmarks.measuring import in_turn
from benchmarks.question import PHOTO, Answer, Question
from benchmarks.tables import Table, shown

QUESTION = Question(
    "How long does the best of all cuts take, from probabilities to the label map?",
    minutes=0.7,
    bundled=PHOTO,
    packages=("higra",),
    in_readme=True,
)
CHANNELS = 12


def _by_higra(tree, leaf_map, probabilities):
    """Drive Higra's primitives by hand: sums, costs, best labelisation, back to pixels."""
    import higra as hg

    channels = probabilities.shape[0]
    by_pixel = np.ascontiguousarray(probabilities.reshape(channels, -1).T, dtype=np.float64)
    flat = leaf_map.reshape(-1)
    if tree.num_leaves() == flat.size:
        leaf_sums, areas = by_pixel, np.ones(flat.size)
    else:
        leaf_sums = np.stack(
            [np.bincount(flat, weights=by_pixel[:, j]) for j in range(channels)], axis=1
        )
        areas = np.bincount(flat).astype(np.float64)
    sums = hg.accumulate_sequential(tree, leaf_sums, hg.Accumulators.sum)
    sizes = hg.accumulate_sequential(tree, areas, hg.Accumulators.sum)
    costs = sizes**2 - 2 * np.square(sums).sum(axis=1)
    labels = hg.labelisation_optimal_cut_from_energy(tree, costs, leaf_graph=None)
    return np.asarray(labels).reshape(-1)[flat].reshape(leaf_map.shape)


def run() -> list[Table]:
    from hiersearch.hierarchy.cuts import nearest_cut
    from hiersearch.hierarchy.interchange import from_higra
    from hiersearch.metric import distance
    from hiersearch.partitions import SoftPartition

    probabilities = soft_output(CHANNELS)
    table = Table(
        f"Best of all cuts, {CHANNELS} channels, probabilities to full-resolution label map (ms)",
        ("leaves", "hiersearch", "Higra by hand", "ours ÷ Higra's", "distance: ours, Higra's"),
    )
    for leaf_map in (slic(4500), np.arange(512 * 512, dtype=np.int32).reshape(512, 512)):
        peer, altitudes = photo_tree(leaf_map)
        tree = from_higra(peer.parents(), altitudes, leaf_map)

        def ours(tree=tree):
            return nearest_cut(tree, SoftPartition.from_regions(probabilities)).labels

        def theirs(peer=peer, leaf_map=leaf_map):
            return _by_higra(peer, leaf_map, probabilities)

        found = in_turn({"ours": ours, "theirs": theirs}, 11)
        soft = SoftPartition.from_regions(probabilities)
        distances = [distance(soft, f().astype(np.int64)) for f in (ours, theirs)]
        table.rows.append(
            (
                f"{tree.n_leaves:,}",
                str(found["ours"]),
                str(found["theirs"]),
                shown(found["ours"].median / found["theirs"].median),
                f"{distances[0]:.9f}, {distances[1]:.9f}",
            )
        )
    table.notes.append(
        "The same tree (Higra's, imported) for both. Ours checks that the probabilities are finite "
        "and sum to 1, and counts the cuts; the peer's hand-written route does neither."
    )
    return [table]


def answer(tables: list[Table]) -> Answer:
    (table,) = tables
    leaves, ours, theirs, ratios = map(table.figures, (table.columns[:4]))
    return Answer(
        ", ".join(f"{ms} ms on {n} leaves" for n, ms in zip(leaves, ours, strict=True)),
        f"Higra's primitives by hand {', '.join(theirs)} ms ({', '.join(ratios)})",
    )

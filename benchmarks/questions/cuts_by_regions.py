"""Best cut for every number of regions up to 1,000, on 262,144 leaves with 28 labels."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np

from benchmarks.higra_trees import photo_tree
from benchmarks.inputs import soft_output
from benchmarks.measuring import peak, restarted_peak
from benchmarks.question import PHOTO, Answer, Question
from benchmarks.tables import Table, figure, shown

QUESTION = Question(
    "How long, and how much memory, does the best cut for every number of regions up to 1,000 take "
    "on 262,144 leaves with 28 labels?",
    minutes=2,
    bundled=PHOTO,
    packages=("higra",),
    in_readme=True,
)
REGIONS = 1000
CHANNELS = 28
REPEATS = 5


def _prepared():
    """Tree of Higra over the photo's pixels, and a hard target of 28 labels."""
    from hiersearch.hierarchy.interchange import from_higra

    leaf_map = np.arange(512 * 512, dtype=np.int32).reshape(512, 512)
    peer, altitudes = photo_tree(leaf_map)
    tree = from_higra(peer.parents(), altitudes, leaf_map)
    return peer, tree, soft_output(CHANNELS).argmax(axis=0)


def _ours(tree, labels):
    from hiersearch.hierarchy.curve import nearest_cuts_by_regions

    return nearest_cuts_by_regions(tree, labels, REGIONS).distances


def _higra(peer, labels):
    """Higra's own curve of optimal cuts; its measures are not ours, but as additive."""
    import higra as hg

    measure = hg.OptimalCutMeasure.DHamming
    curve = hg.assess_fragmentation_optimal_cut(
        peer, labels.reshape(-1), measure, max_regions=REGIONS
    )
    return np.asarray(curve.scores())


def _measure(who: str) -> dict[str, object]:
    """Search in this process: seconds of each repetition and the growth of peak memory."""
    peer, tree, labels = _prepared()
    if who == "ours":
        # Compiled (or loaded) on a small tree first, so that the compiler's memory does not count.
        from hiersearch.hierarchy.tree import MergeTree

        small = MergeTree.from_parents([4, 4, 5, 5, 6, 6, 6], np.zeros(7), [[0, 1, 2, 3]])
        _ours_small(small)
    before = restarted_peak()
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        if who == "ours":
            _ours(tree, labels)
        else:
            _higra(peer, labels)
        seconds.append(time.perf_counter() - begin)
    return {"seconds": seconds, "megabytes": peak() - before}


def _ours_small(tree):
    from hiersearch.hierarchy.curve import nearest_cuts_by_regions

    nearest_cuts_by_regions(tree, np.arange(4)[None] % 3, 4).cut(3)
    nearest_cuts_by_regions(tree, np.zeros((1, 4), int), 4)
    # More regions than the dense sums take: the sparse kernels.
    wide = type(tree).from_parents([*([20] * 20), 20], np.zeros(21), [list(range(20))])
    nearest_cuts_by_regions(wide, np.arange(20)[None], 4)


def _agreement() -> str:
    """Search with Higra's own additive cost and compare the curves of both programs."""
    from hiersearch.hierarchy.costs import RegionCosts, leaf_counts
    from hiersearch.hierarchy.curve import nearest_cuts_by_regions

    peer, tree, labels = _prepared()
    counts = np.zeros((tree.n_nodes, CHANNELS))
    counts[np.arange(labels.size), labels.reshape(-1)] = 1
    for node in range(tree.n_nodes - 1):
        counts[tree.parents[node]] += counts[node]
    assert (counts.sum(axis=1) == leaf_counts(tree)).all()
    total = float(labels.size)
    hamming = RegionCosts(-counts.max(axis=1), total, total)
    ours = 1 - nearest_cuts_by_regions(tree, hamming, REGIONS).distances
    theirs = _higra(peer, labels)
    size = min(ours.size, theirs.size)
    worst = float(np.abs(ours[:size] - theirs[:size]).max())
    return (
        f"given Higra's cost of a region (pixels outside its largest label) instead of ours, the "
        f"two curves over 1..{size} regions differ by at most {worst:.2g}."
    )


def run() -> list[Table]:
    found = {}
    for who in ("ours", "higra"):
        done = subprocess.run(
            [sys.executable, "-m", __name__, who],
            check=True,
            capture_output=True,
            text=True,
        )
        found[who] = json.loads(done.stdout.splitlines()[-1])
    table = Table(
        f"Best cut for every number of regions up to {REGIONS:,}: 262,144 leaves, "
        f"{CHANNELS} labels",
        ("", "median (range)", "peak memory over the inputs"),
    )
    medians = {}
    for who, name in (("ours", "hiersearch"), ("higra", "Higra, assess_fragmentation_optimal_cut")):
        times = np.array(found[who]["seconds"])
        medians[who] = float(np.median(times))
        table.rows.append(
            (
                name,
                f"{shown(1e3 * medians[who])} ms "
                f"({shown(1e3 * times.min())}–{shown(1e3 * times.max())})",
                f"{shown(found[who]['megabytes'])} MB",
            )
        )
    table.rows.append(
        (
            "ours ÷ Higra's",
            shown(medians["ours"] / medians["higra"]),
            shown(found["ours"]["megabytes"] / found["higra"]["megabytes"]),
        )
    )
    table.notes.append("Agreement: " + _agreement())
    return [table]


def answer(tables: list[Table]) -> Answer:
    ours, theirs, (_, *ratios) = tables[0].rows
    return Answer(
        f"{figure(ours[1])}, {ours[2]}",
        f"Higra {figure(theirs[1])}, {theirs[2]} ({', '.join(ratios)})",
    )


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1])))

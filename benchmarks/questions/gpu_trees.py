"""Costs of a hierarchy's regions, its cuts and tree voting on a GPU, against the CPU's kernels.

Without a GPU the same is run on torch's CPU device, which shows that it works, not how fast it is.
``HIERSEARCH_BENCHMARK_REPEATS`` sets how often each is timed: 5 times unless given.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.devices import best_device, device_name
from benchmarks.inputs import photo, slic, soft_output
from benchmarks.measuring import in_turn
from benchmarks.question import PHOTO, Answer, Question
from benchmarks.tables import Table, shown, span

QUESTION = Question(
    "How long do the costs of all nodes, searches over cuts and tree voting take on a GPU?",
    minutes=4,
    bundled=PHOTO,
    packages=("torch",),
    optional=("triton",),
    settings=("HIERSEARCH_BENCHMARK_REPEATS",),
    group="gpu",
)

REPEATS = int(os.environ.get("HIERSEARCH_BENCHMARK_REPEATS", "5"))
VOTING_CHANNELS = 21


def run() -> Iterator[Table]:
    device = best_device()
    yield _costs(device)
    yield _sweeps(device)
    yield _voting(device)


@functools.cache
def _trees() -> dict[str, Any]:
    """Return the hierarchies of the photo: of superpixels, and of pixels by single linkage."""
    from hiersearch.hierarchy.build import build_hierarchy
    from hiersearch.refinement.tree_voting import image_tree

    superpixels = build_hierarchy(photo(), superpixels=slic(4000), linkage="average")
    return {"superpixels": superpixels, "pixels": image_tree(photo(), photo().shape[:2])[0]}


def _costs(device: str) -> Table:
    from hiersearch.device.choice import resolved
    from hiersearch.hierarchy.costs import region_costs
    from hiersearch.hierarchy.device_trees import DeviceTree, Target, metric_costs
    from hiersearch.partitions import SoftPartition

    table = Table(
        f"Costs of all nodes, 512 × 512, on {device_name(device)} (ms)",
        ("leaves", "target", "CPU kernels", "device", "CPU ÷ device", "device, all there", "apart"),
        notes=[
            "device: tree and probabilities are copied there, costs back. All there: tree and "
            "probabilities are there already. Apart: largest difference of a node's cost, ÷ M²."
        ],
    )
    where = resolved(device)
    targets: dict[str, Any] = {
        f"soft, {k} channels": SoftPartition.from_regions(soft_output(k)) for k in (12, 58)
    }
    targets["hard, 11 regions"] = soft_output(12).argmax(axis=0)
    for tree in _trees().values():
        here = DeviceTree.of(tree.parents, tree.leaf_map, tree.n_leaves, where)
        for name, target in targets.items():
            functions: dict[str, Callable[[], Any]] = {
                "cpu": lambda t=tree, p=target: region_costs(t, p),
                "device": lambda t=tree, p=target: region_costs(t, p, device=device),
            }
            if isinstance(target, SoftPartition):
                values = _values_there(target, where)
                ready = Target.of(values, None, target.n_channels, None, where)
                functions["there"] = lambda h=here, r=ready: metric_costs(h, r)
            found = in_turn(functions, REPEATS)
            one, other = (functions[way]() for way in ("cpu", "device"))
            apart = np.abs(one.costs - other.costs).max() / one.scale
            ratio = shown(found["cpu"].median / found["device"].median)
            there = str(found["there"]) if "there" in found else "–"
            cells = (str(found["cpu"]), str(found["device"]), ratio, there, f"{apart:.1e}")
            table.rows.append((f"{tree.n_leaves:,}", name, *cells))
    return table


def _values_there(target: Any, where: Any) -> Any:
    """Return the probabilities of a soft partition on a device."""
    from hiersearch.device.batches import on_device

    return on_device(target.values, where)


def _sweeps(device: str) -> Table:
    from hiersearch.hierarchy.costs import region_costs
    from hiersearch.hierarchy.cuts import horizontal_curve, nearest_cut
    from hiersearch.partitions import SoftPartition

    table = Table(
        f"Searches over cuts, 12 channels, 512 × 512, on {device_name(device)} (ms)",
        ("leaves", "search", "CPU kernels", "device", "CPU ÷ device", "apart"),
        notes=[
            "Best of all cuts, from probabilities: costs on the device, the pass over the tree on "
            "the CPU. All horizontal cuts: from ready costs. Apart: of the distances."
        ],
    )
    target = SoftPartition.from_regions(soft_output(12))
    for tree in _trees().values():
        costs = region_costs(tree, target)
        searches: dict[str, Callable[[str], Any]] = {
            "best of all cuts": lambda way, t=tree: nearest_cut(t, target, device=way).distance,
            "all horizontal cuts": lambda way, t=tree, c=costs: (
                horizontal_curve(t, c, device=way).distances
            ),
        }
        for name, search in searches.items():
            functions = {way: functools.partial(search, way) for way in ("cpu", device)}
            found = in_turn(functions, REPEATS)
            apart = np.abs(search("cpu") - search(device)).max()
            ratio = shown(found["cpu"].median / found[device].median)
            cells = (str(found["cpu"]), str(found[device]), ratio, f"{apart:.1e}")
            table.rows.append((f"{tree.n_leaves:,}", name, *cells))
    return table


def _voting(device: str) -> Table:
    from hiersearch.refinement.tree_voting import image_tree, tree_voting

    table = Table(
        f"Tree voting, 512 × 512, {VOTING_CHANNELS} channels, on {device_name(device)} (ms)",
        ("trees", "votes", "CPU kernels", "device", "CPU ÷ device", "apart", "labels that differ"),
        notes=[
            "From probabilities to labels, components and refined probabilities; given trees are "
            "made before. Apart: of the probabilities."
        ],
    )
    soft = soft_output(VOTING_CHANNELS)
    grid = photo().shape[:2]
    given = [image_tree(photo(), grid, blur=blur)[0] for blur in (0.0, 0.7)]
    ways: dict[tuple[str, str], Callable[[str], Any]] = {
        (name, str(steps)): (
            lambda way, image=image, trees=trees, steps=steps: tree_voting(
                image, soft, reading="classes", trees=trees, steps=steps, device=way
            )
        )
        for name, image, trees in (("2, made here", photo(), 2), ("2, given", None, given))
        for steps in (1, 4)
    }
    for names, vote in ways.items():
        functions = {way: functools.partial(vote, way) for way in ("cpu", device)}
        found = in_turn(functions, REPEATS)
        one, other = vote("cpu"), vote(device)
        apart = np.abs(one.output.channels - other.output.channels).max()
        unlike = np.count_nonzero(one.labels != other.labels)
        ratio = shown(found["cpu"].median / found[device].median)
        cells = (str(found["cpu"]), str(found[device]), ratio, f"{apart:.1e}", f"{unlike}")
        table.rows.append((*names, *cells))
    return table


def answer(tables: list[Table]) -> Answer:
    device = tables[0].title.removesuffix(" (ms)").rpartition(", on ")[2]
    names = ("costs", "searches", "tree voting")
    ours, cpu = (
        "; ".join(
            f"{name} {span(table.figures(column))} ms"
            for name, table in zip(names, tables, strict=True)
        )
        for column in ("device", "CPU kernels")
    )
    return Answer(f"{ours}, on {device}", f"CPU kernels: {cpu}")

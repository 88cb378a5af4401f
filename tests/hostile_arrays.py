"""What a careless or hostile caller may hand to constructors, and what must come of it.

Run as a program, since what it looks for are crashes: every case ends in one sentence, or in an
object that gives the same answers as that of plain arrays, whatever its caller does to his arrays
afterwards.
"""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import tests.conftest  # noqa: F401  the profiles of Hypothesis
from hiersearch import (
    MergeTree,
    Partition,
    SoftPartition,
    distance,
    nearest_cut,
    nearest_cuts,
    nearest_cuts_by_regions,
    trade_off,
)
from hiersearch.evaluation import class_confusion, instance_matches
from hiersearch.hierarchy.agglomerate import agglomerate, kruskal_tree
from hiersearch.hierarchy.costs import RegionCosts, region_costs
from hiersearch.hierarchy.curve import RegionCurve, TradeOff
from hiersearch.hierarchy.graph import RegionGraph, region_graph
from hiersearch.hierarchy.interchange import from_higra, from_linkage_matrix
from hiersearch.hierarchy.ucm import ucm
from hiersearch.hierarchy.watershed import watershed_tree
from hiersearch.metric import contingency_table, run_distances
from hiersearch.partitions import Affinities, Memberships
from hiersearch.partitions.runs import RunArrays
from hiersearch.refinement import metric_merging

HOSTILE = (
    *(-(2**63), -(2**32), -(2**31) - 1, -(2**31), -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 13),
    *(255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1),
)

LABELS = np.array([[0, 0, 1, 1], [2, 2, 1, 1], [2, 0, 0, 3]])
OTHER = np.array([[5, 5, 5, 1], [1, 1, 1, 1], [7, 7, 7, 7]])
MEASURE = np.arange(12.0).reshape(3, 4) + 0.5
LEAVES = np.array([[0, 0, 1, 1], [2, 2, 1, 1], [2, 3, 3, 3]])
PARENTS = np.array([4, 4, 5, 5, 6, 6, 6])
ALTITUDES = np.array([0.0, 0, 0, 0, 1, 2, 5])
TREE = MergeTree.from_parents(PARENTS, ALTITUDES, LEAVES)
SPARSE = np.stack([np.full((3, 4), 0.75), np.full((3, 4), 0.25)])
CHANNELS = np.stack([LABELS, OTHER])
JOINED = np.stack([np.full((3, 4), 0.8), np.full((3, 4), 0.3)])


@dataclass(frozen=True)
class Case:
    """A constructor or function, arguments that are sound, and what is then asked of the result."""

    call: Callable[..., Any]
    arguments: dict[str, Any]
    answers: Callable[[Any], Any]


def of_partition(found: Partition) -> Any:
    merged = distance(found, OTHER, normalized=False)
    table = [part.tolist() for part in contingency_table(found, OTHER)]
    return found.labels.tolist(), found.original_labels.tolist(), merged, table, found == found


def of_runs(found: RunArrays) -> Any:
    distances = run_distances(OTHER, found, normalized=False).tolist()
    return distances, [of_partition(found.partition(i)) for i in range(len(found))]


def of_tree(found: MergeTree) -> Any:
    cuts = [found.cut_with_regions(regions) for regions in range(1, found.n_leaves + 1)]
    labels = [found.labels_of(cut).tolist() for cut in cuts]
    best = nearest_cut(found, np.resize(OTHER, found.grid))
    return labels, best.nodes.tolist(), ucm(found.monotone()).tolist(), found.sizes.tolist()


def of_soft(found: Memberships) -> Any:
    best = nearest_cut(TREE, found)
    rest = distance(found, OTHER), found.probabilities().tolist()
    return found.hard().labels.tolist(), best.nodes.tolist(), rest


def of_affinities(found: Affinities) -> Any:
    merged = metric_merging(None, found, superpixels=LEAVES)
    return distance(found, OTHER), nearest_cut(TREE, found).nodes.tolist(), merged.labels.tolist()


def of_graph(found: RegionGraph) -> Any:
    trees = [agglomerate(found, linkage) for linkage in ("average", "single", "ward")]
    return [tree.parents.tolist() for tree in (*trees, watershed_tree(found))]


def of_costs(found: RegionCosts) -> Any:
    chosen = [cut.nodes.tolist() for cut in nearest_cuts(TREE, found, 3)]
    return chosen, nearest_cuts_by_regions(TREE, found).best().nodes.tolist()


def of_curve(found: RegionCurve) -> Any:
    return [found.cut(k + 1).nodes.tolist() for k in range(found.distances.size)]


def of_trade_off(found: TradeOff) -> Any:
    return [found.cut(i).nodes.tolist() for i in range(found.regions.size)]


def plainly(found: Any) -> Any:
    return np.asarray(found).tolist()


def fields_of(made: Any) -> dict[str, Any]:
    """Return the fields of an object, with arrays that may be written to."""
    values = {name: getattr(made, name) for name in made.__match_args__}
    return {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in values.items()}


def _cases() -> dict[str, Case]:
    measured = Partition.from_labels(LABELS, measure=MEASURE)
    runs = RunArrays.of([Partition.from_labels(labels) for labels in (LABELS, OTHER, LEAVES)])
    weighed = RunArrays.of([Partition.from_labels(m, measure=MEASURE) for m in (LABELS, OTHER)])
    soft = SoftPartition.from_sparse(SPARSE, CHANNELS)
    dense = SoftPartition.from_regions(np.full((2, 3, 4), 0.5), measure=MEASURE)
    pairs = SoftPartition.from_affinities(JOINED, [[0, 1], [1, 0]])
    graph = region_graph(LEAVES, np.arange(12.0).reshape(3, 4))
    costs = region_costs(TREE, OTHER)
    tree = {"parents": PARENTS, "altitudes": ALTITUDES, "leaf_map": LEAVES}
    matrix = np.array([[0, 1, 1, 2], [2, 3, 2, 2], [4, 5, 5, 4.0]])
    marks = np.array([[1, 0, 0, 2], [0, 0, 0, 0], [0, 0, 0, 3]])
    apart = np.array([[[0, 0], [2, 3]], [[1, 1], [0, 3]]])
    return {
        "Partition": Case(Partition, fields_of(Partition.from_labels(LABELS)), of_partition),
        "Partition with a measure": Case(Partition, fields_of(measured), of_partition),
        "Partition.from_labels": Case(Partition.from_labels, {"labels": LABELS}, of_partition),
        "RunArrays": Case(RunArrays, fields_of(runs), of_runs),
        "RunArrays with a measure": Case(RunArrays, fields_of(weighed), of_runs),
        "MergeTree": Case(MergeTree, fields_of(TREE), of_tree),
        "MergeTree.from_parents": Case(MergeTree.from_parents, tree, of_tree),
        "MergeTree.labels_of": Case(TREE.labels_of, {"cut": np.array([4, 2, 3])}, plainly),
        "from_higra": Case(from_higra, tree, of_tree),
        "from_linkage_matrix": Case(
            from_linkage_matrix, {"matrix": matrix, "leaf_map": LEAVES}, of_tree
        ),
        "Memberships": Case(Memberships, fields_of(soft), of_soft),
        "dense Memberships": Case(Memberships, fields_of(dense), of_soft),
        "SoftPartition.from_sparse": Case(
            SoftPartition.from_sparse,
            {"values": SPARSE, "channels": CHANNELS, "n_channels": 8},
            of_soft,
        ),
        "Affinities": Case(Affinities, fields_of(pairs), of_affinities),
        "SoftPartition.from_affinities": Case(
            SoftPartition.from_affinities,
            {"affinities": JOINED, "offsets": np.array([[0, 1], [1, 0]])},
            of_affinities,
        ),
        "RegionGraph": Case(RegionGraph, fields_of(graph), of_graph),
        "kruskal_tree": Case(
            kruskal_tree,
            {
                "leaf_map": LEAVES,
                "edges": np.array([[0, 1], [1, 2], [2, 3], [0, 3]]),
                "weights": np.array([3.0, 1, 4, 2]),
                "sizes": np.array([2.0, 4, 3, 3]),
            },
            of_tree,
        ),
        "region_graph": Case(region_graph, {"labels": LEAVES, "image": MEASURE}, of_graph),
        "RegionCosts": Case(RegionCosts, {**fields_of(costs), "classes": np.arange(7)}, of_costs),
        "RegionCurve": Case(RegionCurve, fields_of(nearest_cuts_by_regions(TREE, OTHER)), of_curve),
        "TradeOff": Case(TradeOff, fields_of(trade_off(TREE, OTHER)), of_trade_off),
        "nearest_cut, markers": Case(
            lambda apart: nearest_cut(TREE, OTHER, apart=apart).nodes, {"apart": marks}, plainly
        ),
        "nearest_cut, pairs": Case(
            lambda apart: nearest_cut(TREE, OTHER, apart=apart).nodes, {"apart": apart}, plainly
        ),
        "metric_merging": Case(
            lambda superpixels, cannot_link: (
                metric_merging(None, soft, superpixels=superpixels, cannot_link=cannot_link).labels
            ),
            {"superpixels": LEAVES, "cannot_link": apart},
            plainly,
        ),
        "class_confusion": Case(
            lambda found, truth: class_confusion(found, truth, 8),
            {"found": LABELS, "truth": OTHER},
            plainly,
        ),
        "instance_matches": Case(instance_matches, {"found": LABELS, "truth": OTHER}, plainly),
    }


CASES = _cases()


def _strided(array):
    return np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array


def _reversed(array):
    return np.ascontiguousarray(array[::-1])[::-1]


def _unaligned(array):
    raw = np.zeros(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def _zero_stride(array):
    """Return an array of the same values if they are all equal, else of the first."""
    return np.broadcast_to(array.reshape(-1)[:1].reshape((1,) * array.ndim), array.shape)


def _read_only(array):
    view = array.view()
    view.flags.writeable = False
    return view


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "strided": _strided,
    "reversed": _reversed,
    "unaligned": _unaligned,
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "read-only view": _read_only,
    "matrix": lambda a: np.asmatrix(a) if a.ndim == 2 else a,
}


@st.composite
def spoilt(draw, arguments):
    """Draw arguments with one array spoilt, and whether its values are the same as before."""
    arrays = [name for name, value in arguments.items() if isinstance(value, np.ndarray)]
    given_ = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
    name = draw(st.sampled_from(arrays))
    array = given_[name]
    way = draw(st.sampled_from(["value", "values", "layout", "shape", "dtype", "kind"]))
    if way == "layout":
        layout = draw(st.sampled_from(sorted(LAYOUTS)))
        given_[name] = LAYOUTS[layout](array)
        return given_, True
    if way in ("value", "values"):
        count = 1 if way == "value" else draw(st.integers(2, 5))
        wide = array.astype(np.int64) if array.dtype.kind in "iu" else array.astype(np.float64)
        for _ in range(count):
            place = draw(st.integers(0, array.size - 1))
            number = draw(st.sampled_from(HOSTILE))
            if wide.dtype.kind == "f":
                number = draw(st.sampled_from([float(number), np.nan, np.inf, -np.inf, 1e308]))
            wide.reshape(-1)[place] = number
        with np.errstate(all="ignore"):
            kept = wide.astype(array.dtype)
        # As it is, or in 64 bits, where it is not cut to what the array could hold.
        given_[name] = draw(st.sampled_from([kept, wide]))
    elif way == "shape":
        given_[name] = draw(
            st.sampled_from(
                [
                    array[:-1],
                    array[:0],
                    array[..., None],
                    array.reshape(-1),
                    array[None],
                    np.concatenate([array, array[-1:]]),
                    array.reshape(-1)[0],
                    _zero_stride(array),
                ]
            )
        )
    elif way == "dtype":
        kind = draw(st.sampled_from(["?", "u1", "i2", "u8", "f2", "f4", "f8", "c16", "O", "S3"]))
        with np.errstate(all="ignore"):
            given_[name] = array.astype(kind)
    else:
        given_[name] = draw(
            st.sampled_from([None, "text", {}, np.ma.masked_array(array, array == 0), [], 7])
        )
    return given_, False


def _asked(case: Case, arguments: dict[str, Any]) -> Any:
    """Return the answers, or None where a sentence refuses the arguments."""
    try:
        made = case.call(**arguments)
        answers = case.answers(made)
    except (ValueError, TypeError) as error:
        said = str(error)
        assert len(said.splitlines()) == 1, f"not one sentence: {said!r}"
        return None
    # Whatever the caller does to his arrays now, the object stays as it was.
    if isinstance(made, MergeTree | Partition | RunArrays | RegionGraph | RegionCosts):
        _scribble(arguments)
        assert repr(case.answers(made)) == repr(answers)
        assert repr(case.answers(copy.deepcopy(made))) == repr(answers)
        assert repr(case.answers(pickle.loads(pickle.dumps(made)))) == repr(answers)
    elif isinstance(made, Memberships | Affinities):
        _scribble(arguments)
        case.answers(made)
    return answers


def _scribble(arguments: dict[str, Any]) -> None:
    for value in arguments.values():
        if isinstance(value, np.ndarray) and value.flags.writeable and value.dtype.kind in "iuf":
            value[...] = np.array(2**62).astype(value.dtype) if value.dtype.kind != "f" else 1e30


def check(name: str) -> None:
    """Try one case in all the ways that Hypothesis thinks of."""
    case = CASES[name]
    expected = _asked(case, {k: copy.copy(v) for k, v in case.arguments.items()})
    assert expected is not None, f"{name}: sound arguments are refused"

    @given(spoilt(case.arguments))
    def try_it(drawn):
        arguments, same_values = drawn
        answers = _asked(case, arguments)
        if same_values:
            assert repr(answers) == repr(expected)

    try_it()


if __name__ == "__main__":
    for chosen in sys.argv[1:] or CASES:
        check(chosen)
        print(f"sound: {chosen}", flush=True)

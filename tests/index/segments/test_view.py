"""A segment while it is searched."""

import numpy as np
import pytest

from hiersearch import Partition
from hiersearch.index.index import PartitionIndex
from hiersearch.index.segments import view as views
from tests.hierarchy.small_trees import random_tree
from tests.index.small_collections import made, random_collection

GRID = (6, 8)


@pytest.fixture
def mixed(tmp_path):
    """Return an index of one segment with partitions and cuts."""
    rng = np.random.default_rng(0)
    with made(tmp_path / "index", random_collection(rng, GRID, 10)) as index:
        for name in "abc":
            index.add_hierarchy(random_tree(rng, 6, GRID), name)
        index.compact()
        yield index


def only_view(index: PartitionIndex):
    (view,) = index._all_views()
    return view


def test_a_row_comes_back_with_its_labels_or_with_numbers(mixed):
    view = only_view(mixed)
    for row, id in enumerate(view.stored.all_ids()):
        labelled, numbered = view.partition(row), view.partition(row, labelled=False)
        assert np.array_equal(labelled.original_labels, mixed.get(id))
        assert numbered == labelled
        assert numbered.n_regions == view.arrays["n_regions"][row]


def test_runs_of_rows_are_theirs_and_a_cut_is_a_single_run(mixed):
    view = only_view(mixed)
    rows = np.arange(view.n_entries, dtype=np.int32)
    cuts = view.is_cut(rows)
    assert 0 < cuts.sum() < rows.size
    runs = view.run_arrays(rows)
    n_runs, n_regions = view.run_counts(rows)
    assert n_runs.tolist() == np.diff(runs.ends, prepend=0).tolist()
    assert n_regions.tolist() == runs.n_regions.tolist()
    for row in rows.tolist():
        if cuts[row]:
            assert (n_runs[row], n_regions[row]) == (1, 1)
        else:
            assert runs.partition(row) == view.partition(row)


def test_codes_are_held_against_their_checksums_row_by_row(mixed):
    view = only_view(mixed)
    rows = np.flatnonzero(~view.is_cut(np.arange(view.n_entries))).astype(np.int32)
    assert not view.checked.any()
    view.check_codes(rows[[4, 1]])
    view.check_codes(rows[[1, 4, 7]])
    assert np.flatnonzero(view.checked).tolist() == sorted(rows[[1, 4, 7]].tolist())


def test_hierarchies_that_were_not_asked_for_lately_are_let_go(mixed, monkeypatch):
    monkeypatch.setattr(views, "KEPT_TREES", 2)
    view = only_view(mixed)
    first = view.tree(0)
    assert view.tree(1) is view.tree(1)
    assert view.tree(0) is first
    view.tree(2)
    assert list(view.trees) == [0, 2]
    again = view.tree(1)
    assert isinstance(view.partition(0), Partition)
    assert again.n_leaves == int(view.arrays["tree_leaves"][1])

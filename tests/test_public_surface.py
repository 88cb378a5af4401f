"""What users import is listed once, is there, is tested, and says briefly what it is."""

import ast
import importlib
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import hiersearch as hs
from tests.cli.running import scene

ROOT = Path(__file__).parents[1]
STUBBED = ["hiersearch", "hiersearch.hierarchy", "hiersearch.index"]
PACKAGES = [
    *STUBBED,
    "hiersearch.errors",
    "hiersearch.evaluation",
    "hiersearch.metric",
    "hiersearch.networks",
    "hiersearch.partitions",
    "hiersearch.plots",
    "hiersearch.refinement",
]
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/*.py"))


def names_of(package):
    return [name for name in importlib.import_module(package).__all__ if name != "__version__"]


def needs_more(name):
    """Whether a name needs an extra that may not be installed."""
    return name in ("losses", "train")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_and_every_function_in_a_test(package):
    module = importlib.import_module(package)
    untested = []
    for name in names_of(package):
        assert name in dir(module) or package not in STUBBED
        if not needs_more(name):
            is_function = isinstance(getattr(module, name), types.FunctionType)
            if is_function and not re.search(rf"\b{name}\b", TESTS):
                untested.append(name)
    assert untested == []


@pytest.mark.parametrize("package", STUBBED)
def test_a_stub_names_each_thing_where_it_is_defined(package):
    module = importlib.import_module(package)
    stub = ast.parse(Path(module.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    names = []
    for node in stub.body:
        if isinstance(node, ast.ImportFrom):
            names += [alias.name for alias in node.names]
            assert all(alias.asname == alias.name for alias in node.names)
    assert len(names) == len(set(names))
    assert set(names) == set(names_of(package))


def test_functions_hide_modules_of_their_name():
    import hiersearch.hierarchy.superpixels  # noqa: F401

    assert callable(hs.hierarchy.superpixels)
    assert callable(hs.hierarchy.ucm)
    assert callable(hs.refine)
    assert hs.index.PartitionIndex is hs.PartitionIndex


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="matches"):
        hs.matches  # noqa: B018


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, hiersearch, hiersearch.cli; print([m for m in ('numpy', 'numba', 'torch', \
'scipy', 'skimage', 'matplotlib', 'faiss') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_returned_says_briefly_what_it_is(tmp_path):
    image, soft = scene()
    output = hs.SoftOutput(soft, "classes")
    found = hs.match(image, output, superpixels="pixels")
    assert repr(output) == "<SoftOutput 18×24: 2 channels, read as classes>"
    assert re.fullmatch(
        r"<Match: distance 0\.\d+, 3 regions, best of [\d.e+]+ cuts of 432 leaves>", repr(found)
    )
    assert repr(found.tree) == f"<MergeTree 18×24: 432 leaves, {found.tree.n_nodes} nodes>"
    index = hs.PartitionIndex.create(tmp_path / "index", (18, 24))
    assert repr(index) == f"<PartitionIndex {tmp_path}/index: 0 partitions of 18×24, writable>"
    index.add(found.best.labels, "best")
    assert "1 partition of 18×24" in repr(index)
    result = index.search(found.best.labels, k=2)
    assert repr(result) == "<SearchResult: 1 entry, exact; nearest 'best' at 0>"
    assert (
        repr(index.search_radius(soft, 0, reading="classes")) == "<SearchResult: 0 entries, exact>"
    )
    index.close()
    assert repr(index) == f"<PartitionIndex {tmp_path}/index: closed, partitions of 18×24>"
    with hs.PartitionIndex.open(tmp_path / "index") as reader:
        assert repr(reader).endswith("1 partition of 18×24, read-only>")


def test_the_answer_of_a_search_is_arrays(tmp_path):
    maps = [np.arange(6).reshape(2, 3) // size for size in (1, 2, 3, 6)]
    with hs.PartitionIndex.create(tmp_path / "index", (2, 3)) as index:
        index.add_many(maps)
        found = index.search(maps[0], k=3)
        assert (found.ids.dtype, found.rho.dtype) == (np.int64, np.int64)
        assert found.ids.tolist() == [0, 1, 2]
        assert found.rho.tolist() == [hs.distance(maps[0], m, normalized=False) for m in maps[:3]]
        assert np.allclose(found.distances, found.rho / 36)
        assert [one.id for one in found] == [0, 1, 2]
        assert (found[1].rho, found[1].metadata) == (found.rho[1], {})
        with pytest.raises(ValueError, match="read-only"):
            found.distances[0] = 1
        index.add(maps[0], "text\0")
        mixed = index.search(maps[0], k=2).ids
        assert (mixed.dtype, mixed.tolist()) == (object, [0, "text\0"])


def test_an_index_takes_another_grid_only_when_told_to(tmp_path):
    large = np.repeat(np.repeat(np.array([[0, 1, 2]]), 4, axis=0), 2, axis=1)
    tree = hs.build_hierarchy(np.arange(24.0).reshape(4, 6), superpixels="pixels")
    with hs.PartitionIndex.create(tmp_path / "index", (2, 3)) as index:
        for add in (
            lambda **more: index.add(large, "a", **more),
            lambda **more: index.add_many([large], **more),
            lambda **more: index.add_hierarchy(tree, "t", **more),
        ):
            with pytest.raises(ValueError, match=r"grid \(2, 3\) .* got \(4, 6\): say resample"):
                add()
            add(resample=True)
        with pytest.raises(ValueError, match="say resample=True"):
            index.update("a", large)
        index.update("a", large, resample=True)
        assert index.get("a").tolist() == [[0, 1, 2], [0, 1, 2]]

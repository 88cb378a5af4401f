"""Every question is declared, and sums up what it measures."""

import pkgutil
import re
from pathlib import Path

import pytest

from benchmarks import questions
from benchmarks.question import EXTRAS, extras_of
from benchmarks.questions import NAMES, load
from benchmarks.tables import Table


def test_every_module_of_the_folder_is_in_the_list():
    found = {module.name for module in pkgutil.iter_modules(questions.__path__)}
    assert found == set(NAMES)
    assert len(NAMES) == len(found)


@pytest.mark.parametrize("name", NAMES)
def test_every_question_is_one_sentence_and_has_what_is_run(name):
    module = load(name)
    asks = module.QUESTION.asks
    assert asks[0].isupper()
    assert asks.count("?") == 1
    assert "|" not in asks
    assert callable(module.run)
    assert callable(module.answer)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_question_needs_is_installed_by_an_extra(name):
    question = load(name).QUESTION
    for package in (*question.packages, *question.optional):
        if package != "triton":  # which comes with torch
            assert set(extras_of([package])) <= set(EXTRAS)
            assert extras_of([package]), package


@pytest.mark.parametrize("name", NAMES)
def test_the_settings_are_those_that_are_read_and_each_is_explained(name):
    module = load(name)
    code = Path(module.__file__).read_text(encoding="utf-8")
    read = re.findall(r'(?:environ\.get|size_of)\(\s*"(\w+)"', code)
    assert set(read) == set(module.QUESTION.settings)
    assert all(variable in module.__doc__ for variable in read)


def test_duplicates_sum_up_all_radii():
    columns = ("radius", "groups", "duplicates, s", "all pairs ÷ duplicates")
    rows = [("0", "5", "0.100", "2,000"), ("0.02", "9", "0.400", "500")]
    empty = Table("", ())
    found = load("index_duplicates").answer([empty, Table("", columns, rows), empty])
    assert found.ours == "0.100–0.400 s at radii 0 to 0.02"
    assert found.peers == "run-length scan of all pairs 500–2,000 times as long"


def test_distances_on_a_gpu_sum_up_both_grids():
    columns = (
        "grid", "distances a second", "CPU, 2 threads, a second", "dense one-hot in torch ÷ ours",
    )  # fmt: skip
    rows = [("128 × 192", "9.0", "3.0", "7.0"), ("512 × 512", "2.0", "1.0", "8.0")]
    title = "One soft query of 21 channels against stored partitions, on a card"
    found = load("gpu_distances").answer([Table(title, columns, rows)])
    assert found.ours == "9.0; 2.0 (128 × 192; 512 × 512) on a card"
    assert found.peers == (
        "two threads of the CPU 3.0; 1.0; dense one-hot in torch 7.0; 8.0 times as long"
    )


def test_searches_on_a_gpu_sum_up_the_largest_batch():
    columns = ("queries a call", "queries a second", "÷ CPU")
    rows = [("1", "5.0", "2.0"), ("1,024", "90.0", "30.0")]
    title = "Exact 10-NN among 1,000 entries of 128 × 192 on a card"
    found = load("gpu_search").answer([Table(title, columns, rows)])
    assert found.ours == "90.0 among 1,000 entries of 128 × 192, on a card, 1,024 a call"
    assert found.peers == "CPU kernels: the GPU answers 30.0 times as many"


def test_trees_on_a_gpu_sum_up_each_table():
    columns = ("leaves", "CPU kernels", "device")
    rows = [("10", "4.0 (3.0–5.0)", "2.0 (1.0–3.0)"), ("20", "9.0", "3.0")]
    tables = [Table("Costs of all nodes, 512 × 512, on a card (ms)", columns, rows)] * 3
    found = load("gpu_trees").answer(tables)
    assert found.ours == (
        "costs 2.0–3.0 ms; searches 2.0–3.0 ms; tree voting 2.0–3.0 ms, on a card"
    )
    assert (
        found.peers == "CPU kernels: costs 4.0–9.0 ms; searches 4.0–9.0 ms; tree voting 4.0–9.0 ms"
    )


def test_faults_are_counted_over_all_rows_but_their_sum():
    columns = ("what", "trials", "lost", "wrong")
    rows = [("races", "1,000", "1", "0"), ("kills", "20", "0", "2"), ("**all**", "1,020", "1", "2")]
    found = load("index_faults").answer([Table("", columns, rows)])
    assert found.ours == "3 faults in 1,020 trials"


def test_peers_that_are_not_installed_are_left_out():
    columns = ("method", "AP@0.5", "mean AP")
    rows = [
        ("components of arg-max", "0.5", "0.3"),
        ("watershed, tuned (1, 2)", "0.6", "0.4"),
        ("hiersearch, objects", "0.7", "0.5"),
        ("ceiling: merged perfectly", "0.9", "0.8"),
    ]
    found = load("nuclei_objects").answer([Table("", columns, rows)])
    assert found.ours == "0.7 (0.5)"
    assert found.peers == "watershed, tuned 0.6 (0.4); components of arg-max 0.5 (0.3)"

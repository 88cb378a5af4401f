"""`python -m benchmarks` lists, helps, refuses, runs and writes."""

import os
import subprocess
import sys

import pytest

from benchmarks import __main__ as command_line
from benchmarks import results
from benchmarks.question import Answer, Question
from benchmarks.questions import NAMES, groups, load
from benchmarks.tables import Table

HEAVY = ("hiersearch", "numba", "scipy", "skimage", "torch", "sklearn", "matplotlib", "faiss")


def test_the_list_tells_of_each_question_and_group(capsys):
    command_line.main(["--list"])
    paragraphs = capsys.readouterr().out.rstrip("\n").split("\n\n")
    assert [one.split("\n")[0] for one in paragraphs] == [*NAMES, "gpu"]
    for name, paragraph in zip(NAMES, paragraphs, strict=False):
        for line in load(name).QUESTION.lines():
            assert f"    {line}" in paragraph.split("\n")
    assert paragraphs[-1].endswith("gpu_distances, gpu_search, gpu_trees, one after the other")


def test_the_list_is_of_the_questions_that_are_named(capsys):
    command_line.main(["best_cut", "gpu", "--list"])
    found = [one.split("\n")[0] for one in capsys.readouterr().out.split("\n\n")]
    assert found == ["best_cut", "gpu_distances", "gpu_search", "gpu_trees", "gpu"]


def test_listing_imports_nothing_heavy():
    code = (
        "import sys; from benchmarks.__main__ import main; main(['--list']); "
        f"print('heavy:', sorted(set(sys.modules) & {set(HEAVY)!r}))"
    )
    environment = os.environ | {"PYTHONPATH": str(results.README.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    )
    assert done.stdout.endswith("heavy: []\n")


def test_unknown_names_are_refused_with_the_list(capsys):
    with pytest.raises(SystemExit):
        command_line.main(["best_cut", "worst_cut"])
    message = capsys.readouterr().err.splitlines()[-1]
    known = ", ".join((*NAMES, "gpu"))
    assert message.endswith(f"questions must be among {known}, got worst_cut")


def test_the_name_of_a_group_stands_for_its_questions_each_once():
    assert groups() == {"gpu": ["gpu_distances", "gpu_search", "gpu_trees"]}
    found = command_line.chosen(["gpu_trees", "gpu", "best_cut"], groups())
    assert found == ["gpu_trees", "gpu_distances", "gpu_search", "best_cut"]


@pytest.mark.parametrize("name", NAMES)
def test_every_question_shows_how_it_measures_and_what_it_needs(name, capsys):
    command_line.main([name, "--help"])
    found = capsys.readouterr().out
    assert f"usage: python -m benchmarks {name}" in found
    assert load(name).__doc__.strip() in found
    assert load(name).QUESTION.asks in found


def test_help_without_a_question_names_all(capsys):
    command_line.main(["--help"])
    found = " ".join(capsys.readouterr().out.split())
    assert ", ".join((*NAMES, "gpu")) in found


def test_options_reach_only_the_question_that_has_them(capsys):
    found = command_line.own_options("index_faults", ["--quick", "--seed", "4", "--kills", "9"])
    assert (found["quick"], found["seed"], found["kills"], found["races"]) == (True, 4, 9, None)
    with pytest.raises(SystemExit):
        command_line.main(["index_faults", "distances", "--quick"])
    assert "python -m benchmarks distances: error" in capsys.readouterr().err


class Module:
    """A question that takes no time."""

    __doc__ = "How it is measured."
    QUESTION = Question("How long does nothing take?", 1, data=("SOME_DATA",))
    tables = (Table("Nothing", ("what", "ms"), [("ours", "0.0")]),)

    def run(self):
        return iter(self.tables)

    def answer(self, tables):
        return Answer(f"{tables[0].figure('ours', 'ms')} ms")


@pytest.fixture
def module(monkeypatch):
    made = Module()
    monkeypatch.setattr(command_line, "load", lambda name: made)
    return made


def test_a_question_shows_its_tables_and_its_answer_and_is_written(module, monkeypatch, capsys):
    written = []
    monkeypatch.setattr(results, "write", lambda *of: written.append(of))
    command_line.answered("best_cut", {}, is_written=True)
    shown = capsys.readouterr().out
    assert shown.startswith(module.tables[0].markdown())
    assert "How long does nothing take?\nhiersearch: 0.0 ms\npeers: –\nmeasured in 10 s\n" in shown
    ((name, text),) = written
    section = results.Section.of(text)
    assert (name, section.name, section.tables) == (
        "best_cut",
        "best_cut",
        [Table("Nothing", ["what", "ms"], [["ours", "0.0"]])],
    )
    assert "\n\nHow it is measured.\n\n" in text


def test_without_write_nothing_is_written(module, monkeypatch):
    monkeypatch.setattr(results, "write", lambda *of: pytest.fail("written"))
    command_line.answered("best_cut", {}, is_written=False)


def test_a_run_without_tables_says_that_nothing_is_written(module, monkeypatch, capsys):
    monkeypatch.setattr(module, "tables", ())
    command_line.answered("best_cut", {}, is_written=True)
    assert capsys.readouterr().out == "best_cut has no tables of this run to write.\n"


def test_what_a_named_question_lacks_is_said_before_anything_runs(module, monkeypatch, capsys):
    monkeypatch.delenv("SOME_DATA", raising=False)
    monkeypatch.setattr(command_line, "answered", lambda *of: pytest.fail("run"))
    with pytest.raises(SystemExit):
        command_line.main(["best_cut"])
    assert capsys.readouterr().err.endswith(
        "error: best_cut: it needs data: set SOME_DATA to where they are\n"
    )


def test_of_all_questions_those_that_lack_something_are_skipped(module, monkeypatch, capsys):
    monkeypatch.delenv("SOME_DATA", raising=False)
    command_line.main([])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "graph_and_tree skipped: it needs data: set SOME_DATA to where they are"
    assert len(lines) == len(NAMES)


def test_of_all_questions_one_that_cannot_run_here_does_not_stop_the_others(
    module, monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("SOME_DATA", str(tmp_path))

    def refused(name, *_):
        raise SystemExit("strace is not installed")

    monkeypatch.setattr(command_line, "answered", refused)
    command_line.main([])
    assert capsys.readouterr().out.count("skipped: strace is not installed\n") == len(NAMES)
    with pytest.raises(SystemExit, match="strace is not installed"):
        command_line.main(["best_cut"])


def test_readme_makes_the_summary_and_the_figures_anew(monkeypatch):
    made = []
    monkeypatch.setattr(results, "refresh", lambda: made.append(True))
    command_line.main(["--readme"])
    assert made == [True]

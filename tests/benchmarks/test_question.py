"""Questions declare what they need, and say in one sentence what is missing of it."""

import pytest

from benchmarks.question import Question, duration, extras_of

ASKED = "How long does it take?"


def test_nothing_is_missing_for_a_question_that_needs_nothing():
    assert Question(ASKED, 1).missing() is None


def test_a_missing_package_is_named_with_the_extra_that_installs_it(monkeypatch):
    monkeypatch.setattr("benchmarks.question.version", lambda name: None)
    reason = Question(ASKED, 1, packages=("higra", "torch"), optional=("usearch",)).missing()
    assert reason == 'it needs higra and torch: pip install ".[benchmark,torch]"'


def test_missing_data_are_named(monkeypatch, tmp_path):
    question = Question(ASKED, 1, data=("SOME_DATA",))
    monkeypatch.delenv("SOME_DATA", raising=False)
    assert question.missing() == "it needs data: set SOME_DATA to where they are"
    monkeypatch.setenv("SOME_DATA", str(tmp_path / "no"))
    assert question.missing() == f"SOME_DATA must name what exists, got {str(tmp_path / 'no')!r}"
    monkeypatch.setenv("SOME_DATA", str(tmp_path))
    assert question.missing() is None


def test_all_that_is_declared_is_listed():
    question = Question(
        ASKED,
        150,
        data=("SOME_DATA",),
        bundled="a photo",
        packages=("higra",),
        optional=("faiss-cpu",),
        programs=("strace",),
        settings=("SOME_SIZE",),
    )
    assert question.lines() == [
        ASKED,
        "data: SOME_DATA, bundled (a photo)",
        "may be set: SOME_SIZE",
        "needs: strace, higra; peers where installed: faiss-cpu (extras: benchmark, faiss)",
        "takes: about 2.5 h",
    ]
    assert Question(ASKED, 1).lines() == [
        ASKED,
        "data: none (synthetic)",
        "needs: nothing else",
        "takes: about 1 min",
    ]


@pytest.mark.parametrize(
    ("asks", "minutes", "message"),
    [
        ("It takes long.", 1, "asks must be a question, got 'It takes long.'"),
        (ASKED, 0, "minutes must be positive, got 0"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(asks, minutes, message):
    with pytest.raises(ValueError, match=message):
        Question(asks, minutes)


def test_extras_are_those_of_the_project_and_each_is_named_once():
    assert extras_of(["usearch", "torch", "higra", "numpy"]) == ["benchmark", "torch"]


@pytest.mark.parametrize(
    ("minutes", "told"),
    [(0.01, "10 s"), (0.7, "50 s"), (1, "1 min"), (89, "89 min"), (90, "1.5 h"), (240, "4 h")],
)
def test_durations_are_to_plan_by(minutes, told):
    assert duration(minutes) == told

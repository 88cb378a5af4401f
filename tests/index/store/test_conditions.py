"""Conditions hold for exactly the entries that comparing each one by hand finds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch.index.store.conditions import ORDERS, parse_condition, parse_conditions
from hiersearch.index.store.metadata import MISSING, value_at
from hiersearch.index.store.store import Store

METADATA = [
    {"split": "train", "nuclei": 12, "scan": {"stain": "H&E", "z": 1}},
    {"split": "test", "nuclei": 3.5, "checked": True},
    {"split": "train", "nuclei": None, "a.b": 1},
    None,
    {"split": "train", "nuclei": "12", "checked": 1, "tags": ["x"]},
    {"split": "val", "nuclei": 12.0, "a": {"b": 2}},
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("conditions") / "store"
    with Store.create(path, {}) as store:
        store.append([None] * 4, METADATA[:4], {})
        store.append([None] * 2, METADATA[4:], {})
        yield store


def chosen(store, condition):
    return np.flatnonzero(np.concatenate(list(store.where(condition).values()))).tolist()


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"split": "train"}, [0, 2, 4]),
        ({"split": ["train", "val"]}, [0, 2, 4, 5]),
        ({"split": {"!=": "train"}}, [1, 5]),
        ({"split": {"!=": ["train", "val"]}}, [1]),
        ({"split": {">": "test"}}, [0, 2, 4, 5]),
        ({"nuclei": 12}, [0, 5]),
        ({"nuclei": [12, "12"]}, [0, 4, 5]),
        ({"nuclei": {">=": 3, "<": 12}}, [1]),
        ({"nuclei": {"<=": 12}}, [0, 1, 5]),
        ({"nuclei": None}, [2]),
        ({"nuclei": {"!=": None}}, [0, 1, 4, 5]),
        ({"checked": True}, [1]),
        ({"checked": 1}, [4]),
        ({"checked": {">": 0}}, [4]),
        ({"scan.stain": "H&E", "scan.z": 1}, [0]),
        ({"a.b": {">": 0}}, [2, 5]),
        ({"tags": {"!=": "x"}}, [4]),
        ({"split": "train", "nuclei": 12}, [0]),
        ({"split": "val", "nuclei": 3.5}, []),
    ],
)
def test_the_entries_that_a_condition_holds_for(store, condition, expected):
    assert chosen(store, condition) == expected


@given(
    key=st.sampled_from(["split", "nuclei", "checked", "a.b", "scan.z"]),
    name=st.sampled_from(["<", "<=", ">", ">=", "=", "!="]),
    value=st.sampled_from([12, 3.5, 0, "train", "12", 1, 2]),
)
def test_conditions_agree_with_comparing_one_by_one(store, key, name, value):
    def holds(metadata):
        found = value_at(metadata or {}, key)
        if found is MISSING:
            return False
        numbers = [isinstance(x, int | float) and not isinstance(x, bool) for x in (found, value)]
        texts = [isinstance(x, str) for x in (found, value)]
        if name in ORDERS:
            return (all(numbers) or all(texts)) and ORDERS[name](found, value)
        return ((all(numbers) or all(texts)) and found == value) == (name == "=")

    expected = [i for i, metadata in enumerate(METADATA) if holds(metadata)]
    assert chosen(store, {key: {name: value}}) == expected


def test_removed_entries_are_never_chosen_and_their_keys_unknown(tmp_path):
    with Store.create(tmp_path / "store", {}) as store:
        store.append(["a", "b"], [{"old": 1, "split": 1}, {"split": 1}], {})
        store.remove([store.find("a")])
        assert chosen(store, {"split": 1}) == [1]
        with pytest.raises(ValueError, match="the key 'old', which no entry has: the keys are spl"):
            store.where({"old": 1})


def test_a_key_that_no_entry_has_is_named_with_those_there_are(store):
    message = (
        "condition names the key 'splt', which no entry has: the keys are "
        "a.b, checked, nuclei, scan.stain, scan.z, split, tags"
    )
    with pytest.raises(ValueError, match=message):
        store.where({"split": "train", "splt": {"!=": 1}})


def test_conditions_on_a_store_without_metadata(tmp_path):
    with Store.create(tmp_path / "store", {}) as store:
        with pytest.raises(ValueError, match="the key 'split', but no entry has metadata"):
            store.where({"split": 1})
        assert store.where({}) == {}


@pytest.mark.parametrize(
    ("condition", "error", "message"),
    [
        ("split=train", TypeError, "condition must map keys to values, got str"),
        ({1: 2}, TypeError, "condition must have strings as keys, got 1"),
        ({"a": {"~": 2}}, ValueError, "on 'a' must use one of <, <=, >, >=, =, !=, got '~'"),
        ({"a": {}}, ValueError, "on 'a' must compare with something, got {}"),
        ({"a": []}, ValueError, "on 'a' must name at least one value, got an empty list"),
        ({"a": {"<": [1]}}, TypeError, r"must compare < a number or text, got \[1\]"),
        ({"a": {"<": True}}, TypeError, "must compare < a number or text, got True"),
        ({"a": {"<": None}}, TypeError, "must compare < a number or text, got None"),
        ({"a": float("nan")}, ValueError, "must compare with finite numbers, got nan"),
        ({"a": object}, TypeError, "must compare with null, a bool, a number or text"),
    ],
)
def test_malformed_conditions(store, condition, error, message):
    with pytest.raises(error, match=message):
        store.where(condition)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("split=train", {"split": {"=": "train"}}),
        ("nuclei >= 10", {"nuclei": {">=": 10}}),
        ("nuclei<1.5", {"nuclei": {"<": 1.5}}),
        ("split!=train", {"split": {"!=": "train"}}),
        ("year=2018", {"year": {"=": [2018, "2018"]}}),
        ("checked!=true", {"checked": {"!=": [True, "true"]}}),
        ('year="2018"', {"year": {"=": "2018"}}),
        ('split=["a","b"]', {"split": {"=": ["a", "b"]}}),
        ("id=007", {"id": {"=": "007"}}),
        ("formula=a=b", {"formula": {"=": "a=b"}}),
        ("note=", {"note": {"=": ""}}),
        ("x=NaN", {"x": {"=": "NaN"}}),
    ],
)
def test_conditions_as_text(text, expected):
    assert parse_condition(text) == expected


@pytest.mark.parametrize("text", ["split", "", "=train", " >3", "split~train"])
def test_text_that_is_no_condition(text):
    with pytest.raises(ValueError, match="condition must be KEY, one of < <= > >= = !=, and a val"):
        parse_condition(text)


def test_several_texts_must_all_hold():
    merged = parse_conditions(["nuclei>=10", "nuclei<20", "split=train"])
    assert merged == {"nuclei": {">=": 10, "<": 20}, "split": {"=": "train"}}
    assert parse_conditions([]) == {}
    with pytest.raises(ValueError, match="must compare 'a' = only once, got twice"):
        parse_conditions(["a=1", "a=2"])

"""What the head of a segment says is checked before a lost catalogue is rebuilt from it."""

import json

import pytest

from hiersearch.errors import DamageError
from hiersearch.index.index import PartitionIndex
from hiersearch.index.store.catalogue import CATALOGUE
from hiersearch.index.store.facts import check_facts
from hiersearch.index.store.segment import Segment
from hiersearch.index.store.store import Store
from tests.index.faults.crafted import rewrite_segment, sound_folder


@pytest.fixture
def folder(tmp_path):
    sound_folder(tmp_path / "index")
    return tmp_path / "index"


def test_facts_that_a_writer_put_there_are_sound(folder):
    for path in (folder / "segments").glob("*.seg"):
        check_facts(Segment.open(path))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("number", 0, "'number' of its head must be a whole number from 1 to 99999999, got 0"),
        ("number", 10**8, "'number' of its head must be a whole number"),
        ("number", True, "'number' of its head must be a whole number"),
        ("generation", -1, "'generation' of its head must be a whole number"),
        ("generation", "1", "'generation' of its head must be a whole number"),
        ("entries", 10**12, "'entries' of its head must be a whole number"),
        ("entries", 21, "must be of shape (21,), is (22,)"),
        ("entries", None, "'entries' of its head must be a whole number"),
        ("next_id", 2**64, "'next_id' of its head must be a whole number"),
        ("segments", 5, "'segments' of its head must be a list of numbers of segments, got 5"),
        ("segments", [1, "2"], "'segments' of its head must be a list of numbers"),
        ("settings", [], "'settings' of its head must be an object, got []"),
        ("settings", None, "'settings' of its head must be an object"),
    ],
)
def test_a_segment_with_other_facts_is_left_out(folder, name, value, message):
    def change(text):
        content = json.loads(text)
        content["facts"][name] = value
        return json.dumps(content).encode()

    rewrite_segment(folder, 1, table=change)
    path = folder / "segments" / "00000001.seg"
    with pytest.raises(DamageError) as caught:
        check_facts(Segment.open(path))
    assert message in str(caught.value)
    # An index whose catalogue is sound does without.
    assert PartitionIndex.inspect(folder) == []
    (folder / CATALOGUE).unlink()
    recovery = Store.recover(folder)
    assert recovery.segments == (2, 3)
    assert [str(damage) for damage in recovery.left_out] == [str(caught.value.damage)]
    assert PartitionIndex.inspect(folder, deep=True) == []

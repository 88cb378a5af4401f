import itertools

import numpy as np
import pytest

from hiersearch.device.batches import (
    Resident,
    batch_size,
    free_bytes,
    halving,
    on_device,
    streamed,
)
from hiersearch.device.choice import resolved
from tests.device.places import DEVICES

torch = pytest.importorskip("torch")

HERE = resolved("cpu:torch")


def out_of_memory_beyond(most: int, tried: list):
    """Return work on ranges that fails for more than so many items."""

    def work(begin, end):
        tried.append(end - begin)
        if end - begin > most:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return list(range(begin, end))

    return work


@pytest.mark.parametrize("most", [1, 3, 7, 100])
def test_work_goes_on_with_smaller_batches_where_memory_runs_out(most):
    tried: list = []
    batches = list(halving(out_of_memory_beyond(most, tried), 20, 16))
    assert list(itertools.chain(*batches)) == list(range(20))
    assert max(len(batch) for batch in batches) <= most
    failed = [size for size in tried if size > most]
    assert len(set(failed)) == len(failed), "a size that failed must not be tried again"


def test_one_item_that_does_not_fit_is_an_error():
    with pytest.raises(torch.cuda.OutOfMemoryError):
        list(halving(out_of_memory_beyond(0, []), 5, 4))


def test_other_errors_are_not_mistaken_for_a_lack_of_memory():
    def work(begin, end):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        list(halving(work, 5, 4))


def test_batches_are_sized_from_what_is_free():
    assert batch_size(HERE, 10, 1000, budget=95) == 9
    assert batch_size(HERE, 10, 5, budget=95) == 5
    assert batch_size(HERE, 1000, 5, budget=95) == 1
    assert free_bytes(HERE) > 0


@pytest.mark.parametrize(("budget", "error"), [(0, ValueError), (2.5, TypeError), (-3, ValueError)])
def test_says_what_is_wrong_with_a_budget(budget, error):
    with pytest.raises(error, match="budget must be"):
        free_bytes(HERE, budget)
    if budget != 0:
        with pytest.raises(error, match="budget must be"):
            Resident(budget)


@pytest.mark.parametrize("device", DEVICES)
def test_parts_arrive_in_order_and_as_they_were(device):
    rng = np.random.default_rng(0)
    parts = [
        {"a": rng.integers(0, 9, size=size).astype(np.int32), "b": rng.random((size, 3))}
        for size in (5, 0, 9, 2, 7)
    ]
    parts[0]["a"].flags.writeable = False
    place = resolved(device)
    arrived = []
    for part in streamed(parts, place):
        assert part["a"].device == place.torch
        # What is computed while the next part is on its way must not see that part.
        arrived.append((part["a"].clone(), part["b"] * 2))
    assert len(arrived) == len(parts)
    for sent, (a, b) in zip(parts, arrived, strict=True):
        assert a.cpu().numpy().tolist() == sent["a"].tolist()
        assert np.array_equal(b.cpu().numpy(), 2 * sent["b"])


def test_a_tensor_does_not_change_with_the_array_that_it_came_from():
    array = np.arange(3)
    tensor = on_device(array, HERE)
    array[0] = 7
    assert tensor.tolist() == [0, 1, 2]


def test_what_was_used_least_lately_makes_room():
    made = []

    def make(key):
        made.append(key)
        return torch.zeros(1)

    kept = Resident(100)
    for key in ("a", "b", "a", "c", "a", "b"):
        assert kept.get(key, 40, lambda key=key: make(key)) is not None
    # c took the place of b, which was used before a; then b that of c.
    assert made == ["a", "b", "c", "b"]
    assert kept.n_bytes == 80
    assert len(kept) == 2
    kept.drop("a")
    kept.drop("never there")
    assert kept.n_bytes == 40
    assert "a" not in kept
    kept.clear()
    assert (kept.n_bytes, len(kept)) == (0, 0)


def test_what_is_larger_than_the_budget_is_not_kept():
    kept = Resident(100)
    kept.get("a", 60, lambda: torch.zeros(1))
    assert kept.get("b", 101, lambda: torch.zeros(1)) is None
    assert "a" in kept


def test_what_failed_to_be_made_takes_no_room():
    def fails():
        raise torch.cuda.OutOfMemoryError("out of memory")

    kept = Resident(100)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        kept.get("a", 60, fails)
    assert kept.n_bytes == 0
    assert "a" not in kept

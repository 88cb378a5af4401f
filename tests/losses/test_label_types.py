"""Targets of every integer type mean what the same numbers in int64 mean."""

import pytest

torch = pytest.importorskip("torch")

from hiersearch.losses import (  # noqa: E402
    affinity_metric_loss,
    affinity_targets,
    measures,
    partition_metric_loss,
    target_measure,
)
from hiersearch.losses.partition_metric import FORMS  # noqa: E402

KINDS = (None, *measures.MEASURES)

SMALL = [torch.uint8, torch.uint16, torch.uint32, torch.int16, torch.int32]
OFFSETS = [(0, 1), (1, 0), (2, -2)]


def random(*shape, high=None):
    generator = torch.Generator().manual_seed(0)
    if high is None:
        return torch.randn(*shape, generator=generator)
    return torch.randint(high, shape, generator=generator)


@pytest.mark.parametrize("dtype", SMALL)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ignored", [None, -100, -1, 156, 255, 300, 2**40, -(2**63)])
def test_an_ignored_label_is_compared_as_a_number(dtype, form, ignored):
    # Within 8 bits -100 would be 156, and 300 would be 44.
    output, target = random(1, 171, 9, 8), random(1, 9, 8, high=171)
    target[0, 0], target[0, 1] = 156, 44
    settings = {"form": form, "ignore_index": ignored}
    expected = partition_metric_loss(output, target, **settings)
    assert partition_metric_loss(output, target.to(dtype), **settings) == expected
    for kind in KINDS:
        settings = {"form": form, "ignore_index": ignored, "measure": kind}
        found = partition_metric_loss(output, target.to(dtype), **settings)
        assert found == partition_metric_loss(output, target, **settings)


@pytest.mark.parametrize("channels", [255, 256, 300])
def test_more_channels_than_a_type_has_numbers(channels):
    output, target = random(1, channels, 5, 6), random(1, 5, 6, high=100)
    expected = partition_metric_loss(output, target)
    assert partition_metric_loss(output, target.byte()) == expected


def test_more_regions_than_a_type_has_numbers():
    output, target = random(1, 8, 5, 6), random(1, 5, 6, high=100)
    settings = {"anchor": 0, "n_regions": 300}
    expected = partition_metric_loss(output, target, **settings)
    assert partition_metric_loss(output, target.byte(), **settings) == expected


@pytest.mark.parametrize("dtype", SMALL)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ignored", [None, -254, 2, 258])
def test_measures_are_those_of_the_numbers(dtype, kind, ignored):
    target = random(2, 7, 6, high=4)
    settings = {"ignore_index": ignored, "checks": ignored != 2}
    expected = target_measure(target, kind, 300, **settings)
    assert torch.equal(target_measure(target.to(dtype), kind, 300, **settings), expected)


@pytest.mark.parametrize("dtype", SMALL)
@pytest.mark.parametrize("background", [0, -1, 256])
@pytest.mark.parametrize("ignored", [None, -1, 255, 512])
def test_pairs_are_those_of_the_numbers(dtype, background, ignored):
    if background == ignored:
        return
    target = random(1, 8, 9, high=3)
    target[0, 2:4, 2:6] = 255
    settings = {"background": background, "ignore_index": ignored}
    for found, expected in zip(
        affinity_targets(target.to(dtype), OFFSETS, **settings),
        affinity_targets(target, OFFSETS, **settings),
        strict=True,
    ):
        assert torch.equal(found, expected)
    output = random(1, 4, 8, 9)
    settings |= {"foreground": True, "balance": 0.5}
    expected = affinity_metric_loss(output, target, OFFSETS, **settings)
    assert affinity_metric_loss(output, target.to(dtype), OFFSETS, **settings) == expected


def test_a_compiled_loss_compares_numbers_too():
    torch.compiler.reset()
    output, target = random(1, 171, 4, 5), random(1, 4, 5, high=171).byte()
    target[0, 0] = 156

    def loss(values, labels):
        return partition_metric_loss(values, labels, ignore_index=-100)

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(output, target), loss(output, target.long()))


def test_labels_that_are_none_are_named():
    output, target = random(1, 3, 4, 5), random(1, 4, 5, high=3)
    for value in (2**63, -(2**63) - 1):
        with pytest.raises(ValueError, match=f"ignore_index must be within int64, got {value}"):
            partition_metric_loss(output, target, ignore_index=value)
        with pytest.raises(ValueError, match="ignore_index must be within int64"):
            target_measure(target, None, 3, ignore_index=value)
        with pytest.raises(ValueError, match="background must be within int64"):
            affinity_targets(target, OFFSETS, background=value)
    with pytest.raises(TypeError, match=r"target must be of integer dtype, got torch\.uint64"):
        partition_metric_loss(output, target.to(torch.uint64))

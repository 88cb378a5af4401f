import shutil
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hiersearch import SoftPartition, distance  # noqa: E402
from hiersearch.losses import (  # noqa: E402
    PartitionMetricLoss,
    measures,
    partition_metric_loss,
    target_measure,
)
from hiersearch.losses._label_kernels import BLOCK  # noqa: E402
from hiersearch.losses.partition_metric import FORMS  # noqa: E402
from tests.losses.reference import one_hot, pairwise_loss  # noqa: E402

KINDS = (None, *measures.MEASURES)

GRIDS = [(7,), (4, 5), (2, 3, 4)]


def logits(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def labels(*shape, high=3, seed=0):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def gradient(output, target, **settings):
    leaf = output.detach().clone().requires_grad_()
    partition_metric_loss(leaf, target, **settings).backward()
    return leaf.grad


# Values


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("anchor", [0, 0.7])
def test_hard_targets_give_the_sum_over_all_pairs(form, kind, grid, anchor):
    output, target = logits(2, 3, *grid), labels(2, *grid)
    found = partition_metric_loss(
        output, target, form=form, measure=kind, anchor=anchor, reduction="none"
    )
    measure = target_measure(target, kind, 3, dtype=torch.float64).flatten(1).numpy()
    soft = output.softmax(1).flatten(2).numpy()
    expected = [
        pairwise_loss(soft[i], one_hot(target[i], 3), measure[i], anchor, form) for i in range(2)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("form", ["squared", "root"])
@pytest.mark.parametrize("kind", [None, "class-balanced"])
@pytest.mark.parametrize("grid", GRIDS)
def test_soft_targets_give_the_sum_over_all_pairs(form, kind, grid):
    output, target = logits(2, 3, *grid), logits(2, 3, *grid, seed=1).softmax(1)
    found = partition_metric_loss(output, target, form=form, measure=kind, reduction="none")
    measure = target_measure(target, kind, 3, dtype=torch.float64).flatten(1).numpy()
    soft, other = output.softmax(1).flatten(2).numpy(), target.flatten(2).numpy()
    expected = [pairwise_loss(soft[i], other[i], measure[i], 1.0, form) for i in range(2)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("regions", [2, 5, 80])
def test_without_an_anchor_the_target_may_have_other_regions(form, regions):
    output, target = logits(1, 3, 6, 7), labels(1, 6, 7, high=regions)
    found = partition_metric_loss(output, target, anchor=0, form=form, n_regions=regions)
    soft = output.softmax(1).flatten(2)[0].numpy()
    expected = pairwise_loss(soft, one_hot(target, regions), anchor=0, form=form)
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_without_an_anchor_a_soft_target_may_have_other_regions():
    output, target = logits(1, 3, 6), logits(1, 5, 6).softmax(1)
    found = partition_metric_loss(output, target, anchor=0)
    expected = pairwise_loss(output.softmax(1)[0].numpy(), target[0].numpy(), anchor=0)
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("grid", [(4, 5), (2, 3, 4)])
def test_the_expected_form_is_the_metric_of_the_package(grid):
    output, target = logits(1, 3, *grid), labels(1, *grid)
    measure = torch.rand(1, *grid, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = partition_metric_loss(output, target, form="expected", anchor=0, measure=measure)
    query = SoftPartition.from_regions(output.softmax(1)[0].numpy())
    expected = distance(query, target[0].numpy(), measure=measure[0].numpy())
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_as_one_set_is_its_images_side_by_side(form):
    output, target = logits(3, 3, 4, 5), labels(3, 4, 5)
    settings = {"form": form, "measure": "class-balanced"}
    found = partition_metric_loss(output, target, per="batch", reduction="none", **settings)
    joined = output.movedim(0, 1).flatten(1, 2)[None], target.flatten(0, 1)[None]
    assert found.shape == ()
    assert float(found) == pytest.approx(float(partition_metric_loss(*joined, **settings)))


def test_reductions_agree():
    output, target = logits(3, 3, 4, 5), labels(3, 4, 5)
    each = partition_metric_loss(output, target, reduction="none")
    assert each.shape == (3,)
    assert float(each.sum()) == pytest.approx(
        float(partition_metric_loss(output, target, reduction="sum"))
    )
    assert float(each.mean()) == pytest.approx(float(partition_metric_loss(output, target)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_ignored_pixels_do_not_matter(form, kind):
    output, target = logits(1, 3, 5, 6), labels(1, 5, 6)
    target[0, 2:] = 255
    settings = {"form": form, "measure": kind, "ignore_index": 255}
    found = partition_metric_loss(output, target, **settings)
    without = partition_metric_loss(output[:, :, :2], target[:, :2], form=form, measure=kind)
    assert float(found) == pytest.approx(float(without), rel=1e-12)
    assert (gradient(output, target, **settings)[:, :, 2:] == 0).all()


def test_a_given_measure_of_zero_ignores_too():
    output, target = logits(2, 3, 5, 6), labels(2, 5, 6)
    measure = torch.ones(1, 5, 6)
    measure[0, 2:] = 0
    found = partition_metric_loss(output, target, measure=measure)
    without = partition_metric_loss(output[:, :, :2], target[:, :2])
    assert float(found) == pytest.approx(float(without), rel=1e-12)


def test_probabilities_give_what_their_logits_give():
    output, target = logits(2, 3, 4, 5), labels(2, 4, 5)
    found = partition_metric_loss(output.softmax(1), target, from_logits=False)
    assert float(found) == pytest.approx(float(partition_metric_loss(output, target)))


@pytest.mark.parametrize("form", FORMS)
def test_one_class_present_is_no_special_case(form):
    output, target = logits(1, 3, 4, 5), torch.ones(1, 4, 5, dtype=torch.int64)
    for kind in KINDS:
        value = partition_metric_loss(output, target, form=form, measure=kind)
        expected = pairwise_loss(
            output.softmax(1).flatten(2)[0].numpy(), one_hot(target, 3), form=form
        )
        assert float(value) == pytest.approx(expected)


# Gradients


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [*KINDS, "given"])
@pytest.mark.parametrize("per", ["image", "batch"])
@pytest.mark.parametrize("from_logits", [True, False])
def test_gradients_agree_with_finite_differences(form, kind, per, from_logits):
    output, target = logits(2, 3, 3, 4), labels(2, 3, 4)
    target[0, 0, 0] = -1
    measure = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0))

    def loss(values):
        return partition_metric_loss(
            values,
            target,
            form=form,
            measure=measure if kind == "given" else kind,
            per=per,
            ignore_index=-1,
            from_logits=from_logits,
        )

    start = output if from_logits else output.softmax(1)
    assert torch.autograd.gradcheck(loss, start.requires_grad_())


@pytest.mark.parametrize("form", ["squared", "root"])
@pytest.mark.parametrize("kind", [None, "class-balanced"])
@pytest.mark.parametrize(("regions", "anchor"), [(3, 1.0), (4, 0.0)])
def test_gradients_with_soft_targets_agree_with_finite_differences(form, kind, regions, anchor):
    output, target = logits(2, 3, 3, 4), logits(2, regions, 3, 4, seed=1).softmax(1)

    def loss(values):
        return partition_metric_loss(values, target, form=form, measure=kind, anchor=anchor)

    assert torch.autograd.gradcheck(loss, output.requires_grad_())


@pytest.mark.parametrize("form", FORMS)
def test_second_derivatives_agree_with_finite_differences(form):
    output, target = logits(1, 3, 2, 2), labels(1, 2, 2)
    assert torch.autograd.gradgradcheck(
        lambda values: partition_metric_loss(values, target, form=form), output.requires_grad_()
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [None, "tempered"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_the_short_way_back_is_that_of_differentiable_operations(form, kind, layout, dtype):
    side = int(BLOCK**0.5) + 7  # more pixels than the compiled function takes at once
    output = logits(2, 3, side, side).to(dtype).to(memory_format=layout).requires_grad_()
    target = labels(2, side, side)
    value = partition_metric_loss(output, target, form=form, measure=kind) * 2**10
    (short,) = torch.autograd.grad(value, output, retain_graph=True)
    (long,) = torch.autograd.grad(value, output, create_graph=True)
    assert not short.requires_grad
    assert long.requires_grad
    assert short.dtype == dtype
    torch.testing.assert_close(short, long.detach())


def test_no_gradient_flows_to_the_target_or_the_measure():
    output = logits(1, 3, 4, 5).requires_grad_()
    target = logits(1, 3, 4, 5, seed=1).softmax(1).requires_grad_()
    measure = torch.rand(1, 4, 5).requires_grad_()
    partition_metric_loss(output, target, measure=measure).backward()
    assert target.grad is None
    assert measure.grad is None
    assert output.grad.abs().sum() > 0


@pytest.mark.parametrize("form", FORMS)
def test_straight_through_is_hard_forward_and_soft_backward(form):
    output, target = logits(2, 3, 4, 5), labels(2, 4, 5)
    settings = {"form": form, "measure": "class-balanced"}
    hard = one_hot(output.argmax(1), 3).reshape(3, 2, 4, 5).swapaxes(0, 1)
    hard = torch.tensor(hard).requires_grad_()
    value = partition_metric_loss(hard, target, from_logits=False, **settings)
    value.backward()
    found = partition_metric_loss(output, target, straight_through=True, **settings)
    torch.testing.assert_close(found, value)
    leaf = output.clone().requires_grad_()
    (leaf.softmax(1) * hard.grad).sum().backward()
    found = gradient(output, target, straight_through=True, **settings)
    torch.testing.assert_close(found, leaf.grad)


# Half precision


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", [None, "class-balanced"])
def test_half_precision_at_full_size_is_single_precision_of_its_values(form, dtype, kind):
    output = logits(1, 3, 512, 512, dtype=torch.float32).to(dtype)
    target = labels(1, 512, 512)
    settings = {"form": form, "measure": kind}
    found = partition_metric_loss(output, target, **settings)
    assert found.dtype == torch.float32
    assert torch.equal(found, partition_metric_loss(output.float(), target, **settings))
    # Scaled as a training loop with half precision does, lest small slopes vanish.
    leaf = output.requires_grad_()
    (2.0**16 * partition_metric_loss(leaf, target, **settings)).backward()
    assert leaf.grad.dtype == dtype
    assert torch.isfinite(leaf.grad).all()
    assert (leaf.grad != 0).float().mean() > 0.99


@pytest.mark.parametrize(
    ("form", "soft"), [("squared", False), ("root", True), ("squared", True), ("expected", False)]
)
def test_autocast_does_not_lower_the_precision(form, soft):
    output = logits(2, 3, 16, 16, dtype=torch.float32)
    target = output.roll(1, 2).softmax(1) if soft else labels(2, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = partition_metric_loss(output, target, form=form)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, partition_metric_loss(output, target, form=form))


@pytest.mark.parametrize("form", FORMS)
def test_autocast_around_the_way_back_does_not_lower_the_precision(form):
    output, target = logits(2, 3, 16, 16, dtype=torch.float32), labels(2, 16, 16)
    leaf = output.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        partition_metric_loss(leaf, target, form=form).backward()
    assert torch.equal(leaf.grad, gradient(output, target, form=form))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [None, "class-balanced", "tempered"])
def test_single_precision_errs_by_rounding_however_many_pixels(form, kind):
    output, target = logits(1, 3, 300, 300), labels(1, 300, 300)
    settings = {"form": form, "measure": kind, "ignore_index": 2}
    exact = float(partition_metric_loss(output, target, **settings))
    single = float(partition_metric_loss(output.float(), target, **settings))
    assert single == pytest.approx(exact, abs=1e-6)


def test_double_precision_stays_double():
    assert partition_metric_loss(logits(1, 3, 4), labels(1, 4)).dtype == torch.float64


@pytest.mark.parametrize("scale", [1e-40, 1e30])
def test_measures_of_any_size_neither_vanish_nor_overflow(scale):
    output, target = logits(1, 3, 64, 64, dtype=torch.float32), labels(1, 64, 64)
    measure = torch.rand(1, 64, 64, dtype=torch.float64) + 0.5
    found = partition_metric_loss(output, target, measure=measure * scale)
    assert float(found) == pytest.approx(
        float(partition_metric_loss(output, target, measure=measure)), rel=1e-5
    )


# Compiled

CASES = [
    {"form": "squared"},
    {"form": "root", "measure": "class-balanced", "per": "batch"},
    {"form": "expected", "measure": "boundary", "ignore_index": 1},
    {"measure": "region-balanced", "straight_through": True, "reduction": "none"},
    {"measure": torch.ones(1, 4, 5), "anchor": 0, "n_regions": 80},
]


def compiled_agrees(backend, settings, soft=False):
    torch.compiler.reset()
    output = logits(2, 3, 4, 5, dtype=torch.float32)
    target = logits(2, 3, 4, 5, dtype=torch.float32, seed=1).softmax(1) if soft else labels(2, 4, 5)
    loss = PartitionMetricLoss(**settings)
    leaf, other = output.clone().requires_grad_(), output.clone().requires_grad_()
    value = torch.compile(loss, backend=backend, fullgraph=True)(leaf, target)
    value.sum().backward()
    expected = loss(other, target)
    expected.sum().backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(leaf.grad, other.grad)


@pytest.mark.parametrize("settings", CASES)
def test_it_compiles_to_one_graph(settings):
    compiled_agrees("aot_eager", settings)


def test_it_compiles_to_one_graph_with_soft_targets():
    compiled_agrees("aot_eager", {"form": "root", "measure": "class-balanced"}, soft=True)


def test_the_function_compiles_as_the_module_does():
    torch.compiler.reset()
    output, target = logits(2, 3, 4, 5), labels(2, 4, 5)
    compiled = torch.compile(
        lambda a, b: partition_metric_loss(a, b, form="root"), backend="eager", fullgraph=True
    )
    expected = partition_metric_loss(output, target, form="root")
    torch.testing.assert_close(compiled(output, target), expected)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_compiles_with_the_default_backend(form, kind):
    compiled_agrees("inductor", {"form": form, "measure": kind, "ignore_index": 2})


# Nothing counts


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("per", ["image", "batch"])
def test_all_pixels_ignored_is_zero_with_zero_gradients_and_a_warning(form, kind, per):
    output, target = logits(2, 3, 4, 5).requires_grad_(), torch.full((2, 4, 5), 9)
    with pytest.warns(UserWarning, match=r"no pixel of .* counts"):
        value = partition_metric_loss(
            output, target, form=form, measure=kind, per=per, ignore_index=9
        )
    value.backward()
    assert float(value) == 0
    assert (output.grad == 0).all()


def test_an_image_in_which_nothing_counts_is_named_and_left_out_of_the_mean():
    output, target = logits(3, 3, 4, 5), labels(3, 4, 5)
    target[1] = 9
    with pytest.warns(UserWarning, match=r"image\(s\) \[1\]"):
        found = partition_metric_loss(output, target, ignore_index=9)
    rest = partition_metric_loss(output[::2], target[::2])
    assert float(found) == pytest.approx(float(rest))


def test_no_warning_where_values_are_not_read():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = partition_metric_loss(
            logits(1, 3, 4), torch.full((1, 4), 9), ignore_index=9, checks=False
        )
    assert float(value) == 0


# The module


def test_the_module_is_the_function_with_its_settings():
    output, target = logits(2, 3, 4, 5), labels(2, 4, 5)
    settings = {"form": "root", "anchor": 0.5, "measure": "boundary", "per": "batch"}
    loss = PartitionMetricLoss(**settings)
    assert float(loss(output, target)) == float(partition_metric_loss(output, target, **settings))
    assert "measure='boundary'" in repr(loss)


def test_a_measure_given_to_the_module_replaces_its_own():
    output, target = logits(2, 3, 4, 5), labels(2, 4, 5)
    kept, given = torch.rand(2, 4, 5), torch.rand(1, 4, 5)
    loss = PartitionMetricLoss(measure=kept)
    expected = [partition_metric_loss(output, target, measure=measure) for measure in (kept, given)]
    assert [loss(output, target), loss(output, target, measure=given)] == expected
    assert not loss.state_dict()

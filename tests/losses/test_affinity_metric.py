"""The affinity loss is the metric on known pairs: brute force, axioms, gradients, bad input."""

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from hiersearch import distance  # noqa: E402
from hiersearch.losses.affinity_metric import (  # noqa: E402
    FORMS,
    AffinityMetricLoss,
    affinity_metric_loss,
)
from hiersearch.losses.affinity_pairs import affinity_offsets, affinity_targets  # noqa: E402
from hiersearch.partitions.soft import SoftPartition  # noqa: E402

PLANE = [(0, 1), (1, 0), (2, -1), (0, -3)]
VOLUME = [(0, 0, 1), (1, 0, -1), (0, 2, 0)]


def made(offsets, grid, images=2, regions=4, seed=0, extra=0, dtype=torch.float64):
    """Random logits and labels."""
    random = torch.Generator().manual_seed(seed)
    output = torch.randn(images, len(offsets) + extra, *grid, generator=random, dtype=dtype)
    target = torch.randint(regions, (images, *grid), generator=random)
    return 2 * output, target


def pairs_of(output, target, offsets, background=None, background_pairs=False, ignore=None):
    """Yield (image, offset number, C, A) of each pair that counts, one at a time."""
    grid = target.shape[1:]
    for i, (d, offset) in itertools.product(range(len(target)), enumerate(offsets)):
        for p in itertools.product(*map(range, grid)):
            q = tuple(a + b for a, b in zip(p, offset, strict=True))
            if not all(0 <= a < side for a, side in zip(q, grid, strict=True)):
                continue
            u, v = int(target[(i, *p)]), int(target[(i, *q)])
            if ignore is not None and ignore in (u, v):
                continue
            if not background_pairs and u == v == background:
                continue
            yield i, d, float(output[(i, d, *p)].sigmoid()), float(u == v)


def by_pairs(pairs, form, balance=None, weights=None):
    """The loss as one sum over pairs."""
    cost = {
        "likelihood": lambda e: -np.log(1 - e),
        "expected": lambda e: e,
        "squared": lambda e: e * e,
        "root": lambda e: e * e,
    }[form]
    rows = np.array([(1.0 if weights is None else weights[d], c, a) for _, d, c, a in pairs])
    w, c, a = rows.T
    if balance is not None:
        within, between = w * a, w * (1 - a)
        shares = [(balance, within), (1 - balance, between)]
        w = sum(share * part / part.sum() for share, part in shares if part.any())
    value = (w * cost(abs(c - a))).sum() / w.sum()
    return np.sqrt(value) if form == "root" else value


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("offsets", "grid"), [(PLANE, (4, 6)), (VOLUME, (3, 4, 3)), ([(2,)], (9,))]
)
def test_equals_the_sum_over_explicit_pairs(form, offsets, grid):
    output, target = made(offsets, grid)
    weights = [1.0, 0.5, 0.0, 2.0][: len(offsets)]
    for balance in (None, 0.3):
        expected = by_pairs(pairs_of(output, target, offsets), form, balance, weights)
        found = affinity_metric_loss(
            output, target, offsets, form=form, balance=balance, offset_weights=weights
        )
        assert found.item() == pytest.approx(expected, rel=1e-12)
        given_probabilities = affinity_metric_loss(
            output.sigmoid(),
            target,
            offsets,
            form=form,
            balance=balance,
            offset_weights=weights,
            from_logits=False,
        )
        assert given_probabilities.item() == pytest.approx(expected, rel=1e-9)


def test_background_pairs_and_ignored_pixels_count_only_where_asked_for():
    output, target = made(PLANE, (5, 6), regions=3)
    seen = set()
    for background_pairs, ignore in itertools.product((False, True), (None, 2)):
        settings = {"background": 0, "background_pairs": background_pairs}
        found = affinity_metric_loss(output, target, PLANE, **settings, ignore_index=ignore)
        pairs = pairs_of(output, target, PLANE, **settings, ignore=ignore)
        assert found.item() == pytest.approx(by_pairs(pairs, "likelihood"), rel=1e-12)
        seen.add(round(found.item(), 9))
    assert len(seen) == 4


def test_foreground_is_the_first_channel_and_its_term_a_mean_over_pixels():
    output, target = made(PLANE, (5, 6), extra=1)
    settings = {"background": 0, "ignore_index": 3}
    bare = affinity_metric_loss(output[:, 1:], target, PLANE, form="expected", **settings)
    anchored = affinity_metric_loss(
        output, target, PLANE, form="expected", foreground=True, anchor=0.7, **settings
    )
    valid = target != 3
    term = (output[:, 0].sigmoid() - (target != 0).double()).abs()[valid].mean()
    assert anchored.item() == pytest.approx(bare.item() + 0.7 * term.item())
    # In the root form it stands within the root: the distance stays Euclidean.
    bare = affinity_metric_loss(output[:, 1:], target, PLANE, form="squared", **settings)
    root = affinity_metric_loss(
        output, target, PLANE, form="root", foreground=True, anchor=0.7, **settings
    )
    term = (output[:, 0].sigmoid() - (target != 0).double()).square()[valid].mean()
    assert root.item() == pytest.approx((bare.item() + 0.7 * term.item()) ** 0.5)


@pytest.mark.parametrize(("offsets", "grid"), [(PLANE, (7, 9)), (VOLUME, (3, 4, 5))])
def test_expected_is_the_package_distance_to_these_affinities(offsets, grid):
    output, target = made(offsets, grid, images=1)
    weights = np.arange(1.0, 1 + len(offsets))
    soft = SoftPartition.from_affinities(output[0].sigmoid().numpy(), offsets, weights=weights)
    found = affinity_metric_loss(
        output, target, offsets, form="expected", offset_weights=weights.tolist()
    )
    assert found.item() == pytest.approx(distance(soft, target[0].numpy()), abs=1e-6)


# --- axioms ---------------------------------------------------------------------------------


def affinities_of(labels):
    """Hard affinities of label maps, as probabilities."""
    return affinity_targets(labels, PLANE)[0].double()


label_maps = st.lists(st.integers(0, 2), min_size=20, max_size=20).map(
    lambda values: torch.tensor(values).reshape(1, 4, 5)
)


def between(output, target, form, **settings):
    return affinity_metric_loss(
        output, target, PLANE, form=form, from_logits=False, **settings
    ).item()


@pytest.mark.parametrize("form", ["expected", "root"])
@given(one=label_maps, other=label_maps, third=label_maps)
def test_expected_and_root_are_pseudo_metrics_between_partitions(form, one, other, third):
    forth = between(affinities_of(one), other, form)
    back = between(affinities_of(other), one, form)
    assert forth == pytest.approx(back)
    detour = forth + between(affinities_of(other), third, form)
    assert between(affinities_of(one), third, form) <= detour + 1e-12
    assert between(affinities_of(one), one, form) == 0


@given(one=label_maps, other=label_maps, seed=st.integers(0, 9))
def test_soft_affinities_keep_the_triangle_inequality(one, other, seed):
    soft = made(PLANE, (4, 5), images=1, seed=seed)[0].sigmoid()
    for form in ("expected", "root"):
        detour = between(soft, one, form) + between(affinities_of(one), other, form)
        assert between(soft, other, form) <= detour + 1e-12


def test_partitions_that_agree_on_all_pairs_have_distance_zero():
    row = torch.tensor([[[0, 0, 1, 1, 0, 0]]])
    other = torch.tensor([[[0, 0, 1, 1, 2, 2]]])
    same, _ = affinity_targets(row, [(0, 1)])
    assert affinity_metric_loss(
        same.double(), other, [(0, 1)], form="expected", from_logits=False
    ) == pytest.approx(0)


def test_balanced_weights_come_from_the_target_and_break_the_symmetry():
    one, other = torch.tensor([[[0, 1, 1, 1]]]), torch.tensor([[[0, 0, 0, 0]]])
    settings = {"form": "expected", "from_logits": False, "balance": 0.5}
    values = []
    for a, b in ((one, other), (other, one)):
        same, _ = affinity_targets(a, [(0, 1)])
        values.append(affinity_metric_loss(same.double(), b, [(0, 1)], **settings).item())
    assert values == pytest.approx([1 / 3, 1 / 2])


def test_likelihood_bounds_expected_from_above_and_is_least_at_the_target():
    output, target = made(PLANE, (6, 7))
    values = {form: affinity_metric_loss(output, target, PLANE, form=form).item() for form in FORMS}
    assert values["likelihood"] >= values["expected"] >= values["squared"]
    right = 60.0 * (2 * affinities_of(target) - 1)
    for form in FORMS:
        assert affinity_metric_loss(right, target, PLANE, form=form).item() < 1e-9
        # No constant affinity is better than the right ones.
        assert affinity_metric_loss(0 * right, target, PLANE, form=form).item() > 0.2


@given(label_maps, st.permutations([0, 1, 2]))
def test_renaming_the_target_changes_nothing(target, names):
    output, _ = made(PLANE, (4, 5), images=1)
    renamed = torch.tensor(names)[target] * 1000 - 500
    for balance in (None, 0.5):
        values = [
            affinity_metric_loss(output, t, PLANE, balance=balance).item()
            for t in (target, renamed)
        ]
        assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_balance_multiplies_the_odds_at_which_the_loss_is_least():
    # One pair in four is joined; the best constant affinity is the share of their weight.
    target = torch.tensor([[[0, 1, 2, 3, 3]]])
    logit = torch.zeros(1, 1, 1, 1, requires_grad=True, dtype=torch.float64)
    for balance, best in ((None, 0.25), (0.5, 0.5), (0.8, 0.8)):
        with torch.no_grad():
            logit.fill_(np.log(best / (1 - best)))
        loss = affinity_metric_loss(
            logit.expand(1, 1, 1, 5), target, [(0, 1)], balance=balance, form="likelihood"
        )
        (slope,) = torch.autograd.grad(loss, logit)
        assert abs(slope.item()) < 1e-12


# --- images, batches, one region ------------------------------------------------------------


def test_per_image_values_are_those_of_the_images_alone():
    output, target = made(PLANE, (5, 6), images=3, extra=1)
    settings = {"foreground": True, "background": 0, "balance": 0.4}
    alone = [
        affinity_metric_loss(output[i : i + 1], target[i : i + 1], PLANE, **settings).item()
        for i in range(3)
    ]
    several = {
        reduction: affinity_metric_loss(
            output, target, PLANE, per="image", reduction=reduction, **settings
        )
        for reduction in ("none", "mean", "sum")
    }
    assert several["none"].tolist() == pytest.approx(alone)
    assert several["mean"].item() == pytest.approx(np.mean(alone))
    assert several["sum"].item() == pytest.approx(np.sum(alone))
    # A batch is one image whose pairs lie in several pieces.
    whole = affinity_metric_loss(output, target, PLANE, **settings)
    assert whole.shape == ()
    assert whole.item() != pytest.approx(np.mean(alone))


@pytest.mark.parametrize("balance", [None, 0.5])
@pytest.mark.parametrize("form", FORMS)
def test_one_region_only_gives_it_all_the_weight(form, balance):
    output, target = made(PLANE, (5, 6), regions=1)
    found = affinity_metric_loss(output, target, PLANE, form=form, balance=balance)
    expected = by_pairs(pairs_of(output, target, PLANE), form)
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("per", ["image", "batch"])
@pytest.mark.parametrize("balance", [None, 0.5])
def test_all_ignored_is_zero_with_zero_gradient_and_a_warning(form, per, balance):
    output, target = made(PLANE, (5, 6), extra=1, dtype=torch.float32)
    output.requires_grad_()
    settings = {"foreground": True, "background": 0, "balance": balance, "form": form, "per": per}
    with pytest.warns(UserWarning, match="no pair of .* counts"):
        value = affinity_metric_loss(
            output, torch.full_like(target, 9), PLANE, ignore_index=9, **settings
        )
    value.backward()
    assert value.item() == 0
    assert output.grad.count_nonzero() == 0


def test_an_ignored_image_is_left_out_of_the_mean():
    output, target = made(PLANE, (5, 6))
    target[1] = 9
    settings = {"per": "image", "ignore_index": 9}
    with pytest.warns(UserWarning, match=r"image\(s\) \[1\]"):
        mean = affinity_metric_loss(output, target, PLANE, **settings)
    alone = affinity_metric_loss(output[:1], target[:1], PLANE, **settings)
    assert mean.item() == pytest.approx(alone.item())


# --- gradients and precision ----------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("per", ["image", "batch"])
@pytest.mark.parametrize("from_logits", [True, False])
def test_gradients_are_those_of_finite_differences(form, per, from_logits):
    output, target = made(PLANE, (3, 4), extra=1)
    output = (output if from_logits else output.sigmoid()).requires_grad_()
    settings = {"foreground": True, "background": 0, "ignore_index": 3, "balance": 0.3}

    def loss(x):
        return affinity_metric_loss(
            x,
            target,
            PLANE,
            form=form,
            per=per,
            reduction="none",
            from_logits=from_logits,
            **settings,
        )

    assert torch.autograd.gradcheck(loss, output)


def test_only_the_likelihood_has_a_gradient_where_a_pair_is_surely_wrong():
    target = torch.tensor([[[0, 0, 0]]])
    sizes = {}
    for form in FORMS:
        logits = torch.full((1, 1, 1, 3), -40.0, dtype=torch.float64, requires_grad=True)
        affinity_metric_loss(logits, target, [(0, 1)], form=form).backward()
        sizes[form] = logits.grad.abs().sum().item()
    assert sizes.pop("likelihood") == pytest.approx(1)
    assert max(sizes.values()) < 1e-15


def test_no_form_has_a_zero_gradient_at_affinities_of_one_half():
    _, target = made(PLANE, (5, 6))
    for form in FORMS:
        logits = torch.zeros(2, len(PLANE), 5, 6, requires_grad=True)
        affinity_metric_loss(logits, target, PLANE, form=form).backward()
        assert logits.grad.abs().max() > 1e-3


def test_the_root_has_a_gradient_of_zeros_at_the_target():
    _, target = made(PLANE, (5, 6))
    exact = affinities_of(target).requires_grad_()
    value = affinity_metric_loss(exact, target, PLANE, form="root", from_logits=False)
    value.backward()
    assert value.item() == 0
    assert exact.grad.count_nonzero() == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(form, dtype):
    output, target = made(PLANE, (300, 300), images=1, dtype=torch.float32)
    half = (20 * output).to(dtype)
    found = affinity_metric_loss(half, target, PLANE, form=form)
    assert found.dtype == torch.float32
    assert found.item() == affinity_metric_loss(half.float(), target, PLANE, form=form).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = affinity_metric_loss(half, target, PLANE, form=form)
    assert within.dtype == torch.float32
    assert within.item() == found.item()
    assert affinity_metric_loss(half.double(), target, PLANE, form=form).dtype == torch.float64


@pytest.mark.parametrize("form", ["likelihood", "root"])
def test_compiled_as_one_graph_gives_the_same(form):
    output, target = made(PLANE, (6, 7), extra=1)
    loss = AffinityMetricLoss(
        PLANE,
        form=form,
        foreground=True,
        background=0,
        balance=0.5,
        ignore_index=3,
        offset_weights=[1, 2, 1, 1],
    )
    grads = []
    for run in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        leaf = output.clone().requires_grad_()
        value = run(leaf, target)
        value.backward()
        grads.append((value.item(), leaf.grad))
    assert grads[0][0] == pytest.approx(grads[1][0], rel=1e-12)
    assert torch.allclose(grads[0][1], grads[1][1], rtol=1e-10, atol=1e-14)


def test_the_module_is_the_function_with_its_settings_kept():
    output, target = made(PLANE, (6, 7), extra=1)
    settings = {"foreground": True, "background": 0, "balance": 0.2, "per": "image"}
    loss = AffinityMetricLoss(PLANE, **settings)
    expected = affinity_metric_loss(output, target, PLANE, **settings)
    assert loss(output, target).item() == expected.item()
    assert "balance=0.2" in repr(loss)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.bool])
def test_targets_of_any_integer_type(dtype):
    output, target = made(PLANE, (6, 7), regions=2)
    expected = affinity_metric_loss(output, target, PLANE).item()
    assert affinity_metric_loss(output, target.to(dtype), PLANE).item() == expected


def test_a_gradient_step_brings_the_affinities_nearer():
    output, target = made(PLANE, (8, 9))
    output.requires_grad_()
    before = affinity_metric_loss(output, target, PLANE, form="expected")
    affinity_metric_loss(output, target, PLANE).backward()
    moved = output.detach() - 10 * output.grad
    assert affinity_metric_loss(moved, target, PLANE, form="expected") < before


# --- offsets --------------------------------------------------------------------------------


@pytest.mark.parametrize(("ndim", "ways"), [(1, 1), (2, 4), (3, 9)])
@pytest.mark.parametrize("size", [2, 5, 20, 61.5])
def test_default_offsets_are_distinct_pairs_within_the_object(size, ndim, ways):
    offsets = affinity_offsets(size, ndim)
    assert len({max(o, tuple(-s for s in o)) for o in offsets}) == len(offsets)
    reaches = {max(map(abs, offset)) for offset in offsets}
    assert len(offsets) == ways * len(reaches)
    assert min(reaches) == 1
    assert max(reaches) < max(2, size / 2)


def test_targets_line_up_as_soft_partitions_do():
    _, target = made(PLANE, (5, 6), images=1)
    same, known = affinity_targets(target, PLANE)
    soft = SoftPartition.from_affinities(same[0].numpy().astype(float), PLANE)
    assert distance(soft, target[0].numpy()) == 0
    assert known.sum() == soft.pair_total


# --- bad input ------------------------------------------------------------------------------


def refused(message, error=ValueError, shape=(2, 4, 5, 6), target=None, offsets=PLANE, **settings):
    output = settings.pop("output", torch.zeros(shape))
    labels = torch.zeros(2, 5, 6, dtype=torch.long) if target is None else target
    with pytest.raises(error, match=message):
        affinity_metric_loss(output, labels, offsets, **settings)


def test_wrong_settings_are_named():
    refused("form must be one of likelihood", form="dice")
    refused("per must be one of", per="pixel")
    refused("reduction must be one of", reduction="max")
    refused(r"balance must be within \(0, 1\) or None, got 1.0", balance=1.0)
    refused("balance must be a number, got 'half'", TypeError, balance="half")
    refused("anchor must be finite and at least 0, got -1", anchor=-1)
    refused("background must be a whole number or None, got 0.5", TypeError, background=0.5)
    refused("foreground needs background", foreground=True, shape=(2, 5, 5, 6))
    refused("background and ignore_index must differ, got 0 twice", background=0, ignore_index=0)
    refused("ignore_index must be a whole number", TypeError, ignore_index=1.5)
    with pytest.raises(ValueError, match="form must be one of"):
        AffinityMetricLoss(PLANE, form="dice")


def test_wrong_shapes_and_types_are_named():
    refused(r"output must have 4 channels.* got shape \(2, 3, 5, 6\)", shape=(2, 3, 5, 6))
    refused("5 channels, .* after that of the foreground", foreground=True, background=0)
    refused(
        r"target must have shape \(2, 5, 6\), got \(2, 6, 5\)", target=torch.zeros(2, 6, 5).int()
    )
    refused("target must be of integer dtype", TypeError, target=torch.zeros(2, 5, 6))
    refused("output must be of floating dtype", TypeError, output=torch.zeros(2, 4, 5, 6).int())
    refused("output must be a tensor", TypeError, output=np.zeros((2, 4, 5, 6)))
    refused("output must not be empty", shape=(0, 4, 5, 6))
    refused(
        "offset_weights must be 4 numbers, one for each offset, and not all zero, got",
        offset_weights=[1, 2],
    )
    refused("offset_weights must be 4 numbers", offset_weights=[0, 0, 0, 0])
    refused("offset_weights must be finite and at least 0, got -1", offset_weights=[1, -1, 0, 0])


def test_wrong_offsets_are_named():
    refused("one offset of length 2", offsets=[(0, 0, 1)] * 4)
    refused(r"offsets must not be zero, got \(0, 0\)", offsets=[(0, 0), (0, 1), (1, 0), (1, 1)])
    refused("twice", offsets=[(0, 1), (0, -1), (1, 0), (1, 1)])
    refused(
        r"offsets must be shorter than the grid \(5, 6\), got \(-5, 0\)",
        offsets=[(0, 1), (1, 0), (1, 1), (-5, 0)],
    )
    with pytest.raises(ValueError, match="size must be at least 2 pixels, got 1"):
        affinity_offsets(1)
    with pytest.raises(ValueError, match=r"ndim must be within 1\.\.3, got 4"):
        affinity_offsets(9, 4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(value):
    output = torch.zeros(2, 4, 5, 6)
    output[1, 2, 3, 4] = value
    refused(rf"output must be finite, got {value} at index \(1, 2, 3, 4\)", output=output)
    # The last column has no partner at (0, 1): such a value is named all the same.
    output = torch.zeros(2, 4, 5, 6)
    output[0, 0, 0, 5] = value
    refused("output must be finite", output=output)


def test_probabilities_out_of_range_are_named():
    refused(r"output must be within \[0, 1\], got 3; logits", output=torch.full((2, 4, 5, 6), 3.0),
            from_logits=False)  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        affinity_metric_loss(
            torch.ones(2, 4, 5, 6),
            torch.zeros(2, 5, 6, dtype=torch.long),
            PLANE,
            from_logits=False,
            form="expected",
        )

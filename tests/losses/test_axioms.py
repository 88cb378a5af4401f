"""What docs/losses.md claims of the partition metric loss: axioms, invariances, zero gradients."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from hiersearch.losses import measures, partition_metric_loss  # noqa: E402
from hiersearch.losses.partition_metric import FORMS  # noqa: E402

KINDS = (None, *measures.MEASURES)

SEEDS = st.integers(0, 2**32 - 1)
ANCHORS = st.sampled_from([0.0, 0.3, 2.0])


def drawn(seed, pixels=7, channels=3):
    """Two soft and two hard partitions and a measure, from smooth to almost hard."""
    random = torch.Generator().manual_seed(seed)
    sharpness = 4 * torch.rand(3, 1, 1, generator=random, dtype=torch.float64)
    soft = torch.randn(3, channels, pixels, generator=random, dtype=torch.float64)
    hard = torch.randint(channels, (2, pixels), generator=random)
    measure = torch.rand(1, pixels, generator=random, dtype=torch.float64)
    measure[0, 0] = 0
    return (sharpness * soft).softmax(1), hard, measure


def loss(output, target, **settings):
    """Loss of one image of probabilities."""
    return float(partition_metric_loss(output[None], target[None], from_logits=False, **settings))


def gradient(output, target, **settings):
    leaf = output.detach().clone().requires_grad_()
    partition_metric_loss(leaf, target, **settings).backward()
    return leaf.grad


def one_hot(labels, channels=3):
    return functional.one_hot(labels, channels).movedim(-1, -2 if labels.dim() == 1 else 1).double()


# Axioms


@given(SEEDS, ANCHORS)
def test_the_root_form_is_a_metric_between_soft_partitions(seed, anchor):
    (p, q, r), _, measure = drawn(seed)
    settings = {"form": "root", "measure": measure, "anchor": anchor}
    assert loss(p, p, **settings) == pytest.approx(0, abs=1e-7)
    assert loss(p, q, **settings) == pytest.approx(loss(q, p, **settings), rel=1e-9)
    there, back = loss(p, r, **settings), loss(p, q, **settings) + loss(q, r, **settings)
    assert there <= back + 1e-9


def test_with_an_anchor_only_equal_partitions_are_at_zero_on_the_support_of_the_measure():
    (p, _, _), _, measure = drawn(0)
    other = p.clone()
    other[:, 0] = p[:, 0].flip(0)
    for form in ("squared", "root"):
        settings = {"form": form, "measure": measure}
        assert loss(p, other, **settings) == pytest.approx(0, abs=1e-7)
        assert loss(p, p.flip(0), **settings) > 0.01
        assert loss(p, p.flip(0), anchor=0, **settings) == pytest.approx(0, abs=1e-7)


def test_the_squared_form_breaks_the_triangle_inequality():
    steps = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])[:, :, None].expand(3, 2, 4)
    ends = loss(steps[0], steps[2])
    assert ends > loss(steps[0], steps[1]) + loss(steps[1], steps[2])


@given(SEEDS, ANCHORS)
def test_the_expected_form_keeps_the_triangle_inequality_over_hard_partitions(seed, anchor):
    (p, _, _), (alpha, beta), measure = drawn(seed)
    settings = {"form": "expected", "measure": measure, "anchor": anchor}
    between = loss(one_hot(beta), alpha, **settings)
    assert loss(p, alpha, **settings) <= loss(p, beta, **settings) + between + 1e-12
    assert between == pytest.approx(loss(one_hot(alpha), beta, **settings))


def test_the_expected_polynomial_of_a_soft_partition_and_itself_is_not_zero():
    """Why the form refuses soft targets: Σ s² + Σ s² − 2 Σ n² at (P, P)."""
    p = drawn(0)[0][0]
    sums, overlaps = p.mean(1), p @ p.T / p.shape[1]
    assert float(2 * sums.square().sum() - 2 * overlaps.square().sum()) > 0.05
    with pytest.raises(TypeError, match="not zero where they are equal"):
        loss(p, p, form="expected")


@given(SEEDS, ANCHORS, st.sampled_from(FORMS), st.sampled_from(KINDS))
def test_the_perfect_prediction_has_the_smallest_value_zero(seed, anchor, form, kind):
    (p, _, _), (alpha, _), _ = drawn(seed)
    settings = {"form": form, "measure": kind, "anchor": anchor}
    assert loss(one_hot(alpha), alpha, **settings) == pytest.approx(0, abs=1e-7)
    assert loss(p, alpha, **settings) >= 0


@given(SEEDS, st.sampled_from(["squared", "root"]))
def test_a_soft_target_is_its_own_perfect_prediction_with_zero_gradient(seed, form):
    (p, _, _), _, measure = drawn(seed)
    settings = {"form": form, "measure": measure}
    assert loss(p, p, **settings) == pytest.approx(0, abs=1e-7)
    slope = gradient(p[None].log(), p[None], **settings)
    assert float(slope.abs().max()) < 1e-7


# Invariances


@given(SEEDS, st.sampled_from(FORMS), st.permutations(range(3)))
def test_without_an_anchor_names_do_not_matter(seed, form, names):
    (p, _, _), (alpha, _), measure = drawn(seed)
    settings = {"form": form, "measure": measure, "anchor": 0}
    value = loss(p, alpha, **settings)
    assert loss(p[names], alpha, **settings) == pytest.approx(value, abs=1e-9)
    assert loss(p, torch.tensor(names)[alpha], **settings) == pytest.approx(value, abs=1e-9)


@given(SEEDS, st.sampled_from(FORMS), st.permutations(range(3)))
def test_with_an_anchor_output_and_target_may_be_renamed_together(seed, form, names):
    (p, _, _), (alpha, _), measure = drawn(seed)
    settings = {"form": form, "measure": measure}
    value = loss(p, alpha, **settings)
    found = loss(p[names], torch.tensor(names).argsort()[alpha], **settings)
    assert found == pytest.approx(value, abs=1e-9)


def test_with_an_anchor_names_matter():
    alpha = torch.tensor([0, 0, 1, 1, 2])
    for form in FORMS:
        assert loss(one_hot(alpha).flip(0), alpha, form=form) > 0.5
        assert loss(one_hot(alpha).flip(0), alpha, form=form, anchor=0) < 1e-7


@given(SEEDS, ANCHORS, st.sampled_from(FORMS), st.permutations(range(7)))
def test_the_order_of_pixels_and_the_scale_of_the_measure_do_not_matter(seed, anchor, form, order):
    (p, _, _), (alpha, _), measure = drawn(seed)
    settings = {"form": form, "anchor": anchor}
    value = loss(p, alpha, measure=measure, **settings)
    moved = loss(p[:, order], alpha[order], measure=7 * measure[:, order], **settings)
    assert moved == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("kind", "same"), [("class-balanced", True), (None, False)])
def test_the_size_of_a_class_does_not_matter_to_the_balanced_measure(form, kind, same):
    (p, _, _), (alpha, _), _ = drawn(1)
    again = torch.cat([torch.arange(7), torch.nonzero(alpha == 1).flatten()])
    value = loss(p, alpha, form=form, measure=kind)
    doubled = loss(p[:, again], alpha[again], form=form, measure=kind)
    assert (doubled == pytest.approx(value, rel=1e-6)) == same


# Where the gradient vanishes


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_at_the_uniform_output_only_the_anchor_has_a_gradient(form, kind):
    alpha = torch.tensor([[[0, 0, 0, 1], [0, 2, 2, 1]]])
    output = torch.zeros(1, 3, 2, 4, dtype=torch.float64)
    bare = gradient(output, alpha, form=form, measure=kind, anchor=0)
    assert float(bare.abs().max()) < 1e-12
    anchored = gradient(output, alpha, form=form, measure=kind, anchor=0.5)
    assert (anchored.abs() > 1e-4).all()
    # Downhill towards each pixel's class.
    assert torch.equal((-anchored).argmax(1), alpha)


@pytest.mark.parametrize("form", FORMS)
def test_without_an_anchor_equal_channels_stay_equal(form):
    alpha = torch.tensor([[0, 0, 0, 1, 1, 2, 2]])
    output = torch.randn(1, 3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    output[:, 2] = output[:, 1]
    bare = gradient(output, alpha, form=form, anchor=0)
    torch.testing.assert_close(bare[:, 1], bare[:, 2])
    anchored = gradient(output, alpha, form=form)
    assert float((anchored[:, 1] - anchored[:, 2]).abs().max()) > 0.01


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("straight_through", [False, True])
def test_at_saturated_wrong_logits_the_gradient_vanishes(form, straight_through):
    alpha = torch.tensor([[0, 0, 0, 1, 1, 2, 2]])
    wrong = 40 * one_hot((alpha + torch.tensor([0, 0, 1, 0, 0, 0, 1])) % 3)
    slope = gradient(wrong, alpha, form=form, straight_through=straight_through)
    assert float(slope.abs().max()) < 1e-12
    leaf = wrong.requires_grad_()
    functional.cross_entropy(leaf, alpha).backward()
    assert float(leaf.grad.abs().max()) > 0.1


@pytest.mark.parametrize("anchor", [0, 1])
def test_near_the_target_the_root_keeps_its_slope_and_the_square_loses_it(anchor):
    alpha = torch.tensor([[0, 0, 0, 1, 1, 2, 2]])
    slopes = {form: [] for form in FORMS}
    for distance in (1e-2, 1e-4):
        near = (1 - distance) * one_hot(alpha) + distance / 3
        for form in FORMS:
            leaf = near.clone().requires_grad_()
            value = partition_metric_loss(leaf, alpha, form=form, anchor=anchor, from_logits=False)
            value.backward()
            # Along the way to the target, as the distance is the length of that way.
            slopes[form].append(float((leaf.grad * (near - one_hot(alpha))).sum()) / distance)
    assert slopes["squared"][1] == pytest.approx(slopes["squared"][0] / 100, rel=0.1)
    for form in ("root", "expected"):
        assert slopes[form][1] == pytest.approx(slopes[form][0], rel=0.1)
        assert slopes[form][1] > 0.05


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_at_the_perfect_prediction_is_finite_and_that_of_root_zero(form):
    alpha = torch.tensor([[0, 0, 0, 1, 1, 2, 2]])
    leaf = one_hot(alpha).requires_grad_()
    partition_metric_loss(leaf, alpha, form=form, from_logits=False).backward()
    assert torch.isfinite(leaf.grad).all()
    assert form == "expected" or float(leaf.grad.abs().max()) < 1e-7
    saturated = gradient(800 * one_hot(alpha), alpha, form=form)
    assert (saturated == 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_straight_through_is_flat_where_every_pixel_is_right_but_for_the_expected_form(form):
    alpha = torch.tensor([[0, 0, 0, 1, 1, 2, 2]])
    slope = gradient(one_hot(alpha), alpha, form=form, straight_through=True)
    flat = float(slope.abs().max()) < 1e-7
    assert flat == (form != "expected")


# Small regions


def test_small_regions_pull_as_much_as_large_ones_under_a_balanced_measure():
    alpha = torch.zeros(1, 20, 20, dtype=torch.int64)
    alpha[0, 3:5, 3:5] = 1
    alpha[0, 9:11, 9:11] = 1
    output = torch.zeros(1, 2, 20, 20, dtype=torch.float64)

    def pull(kind, where):
        return float(gradient(output, alpha, measure=kind).abs().sum(1)[where].sum())

    small, large = alpha == 1, alpha == 0
    assert pull(None, small) == pytest.approx(8 / 392 * pull(None, large))
    assert pull("class-balanced", small) == pytest.approx(pull("class-balanced", large))
    one = torch.zeros_like(small)
    one[0, 3:5, 3:5] = True
    assert pull("region-balanced", one) == pytest.approx(pull("region-balanced", large))
    near, far = torch.zeros_like(small), torch.zeros_like(small)
    near[0, 2, 2], far[0, 19, 19] = True, True
    assert pull("boundary", near) == pytest.approx(5 * pull("boundary", far))


@pytest.mark.parametrize("form", FORMS)
def test_to_miss_a_small_region_costs_little_until_the_measure_says_otherwise(form):
    alpha = torch.zeros(100, dtype=torch.int64)
    alpha[:2] = 1
    missed = one_hot(torch.zeros_like(alpha), 2)
    settings = {"form": form, "anchor": 0}
    bare = loss(missed, alpha, **settings)
    balanced = loss(missed, alpha, measure="class-balanced", **settings)
    expected = 2 * 0.02 * 0.98
    assert bare == pytest.approx(expected**0.5 if form == "root" else expected, rel=1e-6)
    assert balanced == pytest.approx(0.5**0.5 if form == "root" else 0.5, rel=1e-6)

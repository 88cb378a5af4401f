import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scipy import ndimage  # noqa: E402

from hiersearch.losses import measures, target_measure  # noqa: E402

KINDS = (None, *measures.MEASURES)

TARGET = torch.tensor([[[0, 0, 1, 0], [0, 0, 1, 1], [2, 0, 0, 1]]])


def totals(weights, target, n_classes):
    return torch.stack([weights[target == label].sum() for label in range(n_classes)])


def test_uniform_counts_each_pixel_once():
    assert (target_measure(TARGET, None, 3) == 1).all()


def test_class_balanced_gives_each_class_present_the_same_total():
    weights = target_measure(TARGET, "class-balanced", 5)
    np.testing.assert_allclose(totals(weights, TARGET, 5), [1, 1, 1, 0, 0])


def test_classes_are_balanced_within_images_or_within_the_batch():
    target = torch.tensor([[[0, 0, 0, 1]], [[0, 1, 1, 1]]])
    each = target_measure(target, "class-balanced", 2)
    np.testing.assert_allclose(totals(each, target, 2), [2, 2])
    np.testing.assert_allclose(each[0].sum(), 2)
    joint = target_measure(target, "class-balanced", 2, per="batch")
    np.testing.assert_allclose(joint, 1 / 4)


def test_class_balanced_of_one_hot_probabilities_is_that_of_their_labels():
    soft = torch.nn.functional.one_hot(TARGET, 4).movedim(-1, 1).double()
    for per in ("image", "batch"):
        np.testing.assert_allclose(
            target_measure(soft, "class-balanced", 4, per=per),
            target_measure(TARGET, "class-balanced", 4, per=per),
        )


def test_class_balanced_of_probabilities_shares_one_total_among_the_pixels_of_each_class():
    soft = torch.rand(2, 3, 4, 5).softmax(1)
    weights = target_measure(soft, "class-balanced", 3)
    np.testing.assert_allclose(weights.flatten(1).sum(1), 3, rtol=1e-6)
    shares = soft / soft.sum((2, 3), keepdim=True)
    np.testing.assert_allclose(weights, shares.sum(1), rtol=1e-6)


@pytest.mark.parametrize("grid", [(40,), (9, 11), (4, 5, 6)])
def test_region_balanced_gives_each_connected_component_of_a_class_the_same_total(grid):
    target = torch.randint(3, (2, *grid), generator=torch.Generator().manual_seed(0))
    weights = target_measure(target, "region-balanced", 3)
    for image, weight in zip(target.numpy(), weights.numpy(), strict=True):
        for label in range(3):
            components, count = ndimage.label(image == label)  # Faces connect, SciPy's default.
            sums = ndimage.sum(weight, components, range(1, count + 1))
            np.testing.assert_allclose(sums, 1, rtol=1e-6)


def test_boundary_weighs_pixels_with_another_label_within_the_radius():
    target = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1, 1, 1]])
    weights = target_measure(target, "boundary", 2, radius=2, boundary_weight=7)
    assert weights.tolist() == [[1, 1, 1, 7, 7, 7, 7, 1, 1, 1]]


@pytest.mark.parametrize("grid", [(9, 11), (4, 5, 6)])
@pytest.mark.parametrize("radius", [1, 2])
def test_boundary_agrees_with_filters(grid, radius):
    target = torch.randint(2, (1, *grid), generator=torch.Generator().manual_seed(0))
    target = target * 0 + (torch.arange(grid[-1]) > grid[-1] // 2)
    target[0, 0] = 1
    size = 2 * radius + 1
    image = target[0].numpy()
    near = ndimage.maximum_filter(image, size) != ndimage.minimum_filter(image, size)
    weights = target_measure(target, "boundary", 2, radius=radius)
    np.testing.assert_array_equal(weights[0], np.where(near, 5, 1))


@pytest.mark.parametrize("largest", [2**31 - 1, 2**31, 2**62])
def test_boundary_takes_labels_of_any_size(largest):
    target = torch.tensor([[0, 0, largest, largest, 5, 5, 5, largest - 1, largest, 5, 0]])
    weights = target_measure(target, "boundary", largest + 1, radius=1, ignore_index=5)
    assert weights.tolist() == [[1, 5, 5, 1, 0, 0, 0, 5, 5, 0, 1]]


@pytest.mark.parametrize("kind", ["class-balanced", "region-balanced"])
def test_counts_of_pixels_are_not_rounded(kind):
    target = torch.zeros(1, 300, 300, dtype=torch.int64)
    weights = target_measure(target, kind, 1, dtype=torch.float16)
    assert (weights == torch.tensor(1 / 90000).half()).all()


@pytest.mark.parametrize("kind", KINDS)
def test_ignored_pixels_weigh_nothing_and_part_nothing(kind):
    target = torch.tensor([[0, 0, 9, 0, 0, 0, 9, 1, 1, 1, 1]])
    weights = target_measure(target, kind, 2, ignore_index=9)
    assert (weights[target == 9] == 0).all()
    expected = {
        None: [1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1],
        "class-balanced": [0.2, 0.2, 0, 0.2, 0.2, 0.2, 0, 0.25, 0.25, 0.25, 0.25],
        "region-balanced": [1 / 2, 1 / 2, 0, 1 / 3, 1 / 3, 1 / 3, 0, 0.25, 0.25, 0.25, 0.25],
        "boundary": [1, 1, 0, 1, 1, 5, 0, 5, 1, 1, 1],
        # Class 0 has five pixels that count, class 1 four: √0.2 and √0.25 = 0.5.
        "tempered": np.array([1, 1, 0, 1, 1, 5, 0, 0, 0, 0, 0]) * 0.2**0.5
        + np.array([0, 0, 0, 0, 0, 0, 0, 2.5, 0.5, 0.5, 0.5]),
    }
    np.testing.assert_allclose(weights[0], expected[kind], rtol=1e-6)


def test_labels_of_any_integer_type_are_taken():
    expected = target_measure(TARGET, "class-balanced", 3)
    for dtype in (torch.uint8, torch.int16, torch.int32):
        assert torch.equal(target_measure(TARGET.to(dtype), "class-balanced", 3), expected)
    doubles = target_measure(TARGET, "class-balanced", 3, dtype=torch.float64)
    assert doubles.dtype == torch.float64


def test_bad_arguments_are_named():
    soft = torch.full((1, 2, 3, 3), 0.5)
    cases = [
        (
            ValueError,
            "measure must be one of class-balanced, .*, got 'even'",
            (TARGET, "even", 3),
            {},
        ),
        (ValueError, "per must be one of", (TARGET, None, 3), {"per": "pixel"}),
        (TypeError, "measure 'boundary' needs integer targets", (soft, "boundary", 2), {}),
        (TypeError, "'region-balanced' needs integer", (soft, "region-balanced", 2), {}),
        (TypeError, "ignore_index needs integer", (soft, None, 2), {"ignore_index": 1}),
        (ValueError, r"target must have shape \(N, 3, \*grid\)", (soft, None, 3), {}),
        (ValueError, "target must sum to 1 over its channels", (2 * soft, None, 2), {}),
        (ValueError, r"labels 0..1, got 2 at index \(0, 2, 0\)", (TARGET, None, 2), {}),
        (ValueError, "radius must be at least 1, got 0", (TARGET, "boundary", 3), {"radius": 0}),
        (
            ValueError,
            "boundary_weight must be finite and at least 0, got -1",
            (TARGET, "boundary", 3),
            {"boundary_weight": -1},
        ),
        (ValueError, r"target must have shape \(N, \*grid\)", (TARGET[0, 0], None, 3), {}),
    ]
    for error, message, arguments, settings in cases:
        with pytest.raises(error, match=message):
            target_measure(*arguments, **settings)

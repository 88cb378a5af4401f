import numpy as np
import pytest
from PIL import Image

from hiersearch.hierarchy.matching import match
from hiersearch.partitions import SoftPartition
from hiersearch.plots import curve_picture, match_figure, save_figure, save_picture
from tests.plots.small_match import squares_match


def texts(figure):
    return [text.get_text() for text in figure.texts]


def drawn_boxes(figure):
    """Boxes of all texts and legends, in pixels, as drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    items = [text for text in figure.texts if text.get_text()]
    for axes in figure.axes:
        items += [axes.get_legend()] if axes.get_legend() else []
        items += [axes.xaxis.label, axes.yaxis.label] if axes.get_xlabel() else []
    return [item.get_window_extent(renderer) for item in items]


def test_six_panels_say_what_was_found():
    image, probabilities, found = squares_match()
    figure = match_figure(
        image, found, probabilities=probabilities, channel_names=("dark", "bright"), title="x.png"
    )
    assert len(figure.axes) == 6
    said = texts(figure)
    names = ["Soft output", "Superpixels", "Best horizontal cut", "Best of all cuts"]
    assert said[0] == "x.png"
    assert set(names) < set(said)
    assert "20 × 30 pixels" in said
    for cut in (found.horizontal, found.best):
        wanted = f"{cut.n_regions} regions · distance {cut.distance:.4g}"
        assert any(text.startswith(wanted) for text in said)
    legend = figure.axes[1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["dark", "bright"]


@pytest.mark.parametrize("shape", [(20, 30), (90, 12), (8, 200)])
def test_nothing_overlaps_or_leaves_the_figure(shape):
    image = np.zeros(shape)
    image[2:5, 2:9] = 1
    bright = np.where(image > 0, 0.9, 0.05)
    target = SoftPartition.from_classes(np.stack([1 - bright, bright]))
    found = match(image, target, superpixels="pixels", linkage="average")
    figure = match_figure(image, found, title="a name too long for the panel " * 3)
    boxes = drawn_boxes(figure)
    width, height = figure.get_size_inches() * figure.dpi
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
        for other in boxes[i + 1 :]:
            assert not box.overlaps(other)


def test_pictures_are_1800_pixels_wide_and_equal_when_made_twice(tmp_path):
    image, probabilities, found = squares_match()
    for name in ("a.png", "b.png"):
        save_figure(match_figure(image, found, probabilities=probabilities), tmp_path / name)
    first, second = ((tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert first == second
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size[0] == 1800
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_a_volume_names_the_slice_that_it_shows():
    volume = np.zeros((5, 6, 7))
    volume[:, 2:4, 2:5] = 1
    bright = np.where(volume > 0, 0.9, 0.05)
    target = SoftPartition.from_classes(np.stack([1 - bright, bright]))
    found = match(volume, target, superpixels="pixels", linkage="average")
    assert "5 × 6 × 7 voxels, slice 3 of 5" in texts(match_figure(volume, found))


def test_one_pixel_and_one_region():
    target = SoftPartition.from_regions(np.ones((1, 1, 1)))
    found = match(np.ones((1, 1)), target, superpixels="pixels", linkage="average")
    assert any(
        text.startswith("1 region ·") for text in texts(match_figure(np.ones((1, 1)), found))
    )
    target = SoftPartition.from_regions(np.ones((1, 4, 6)))
    leaves = np.zeros((4, 6), int)
    found = match(np.ones((4, 6)), target, superpixels=leaves, linkage="average")
    assert len(match_figure(np.ones((4, 6)), found).axes) == 6


def test_sixteen_bit_and_colour_images():
    image, _, found = squares_match()
    deep = (image * 40000).astype(np.uint16)
    assert len(match_figure(deep, found).axes) == 6
    assert len(match_figure(np.stack([deep] * 3, axis=-1), found).axes) == 6


def test_no_image_at_all():
    _, _, found = squares_match()
    assert len(match_figure(None, found).axes) == 6


def test_the_curve_goes_through_the_cuts_that_were_found():
    _, _, found = squares_match()
    (axes,) = curve_picture(found, title="squares").axes
    assert axes.get_xscale() == "log"
    lines = axes.get_lines()
    best, hull, horizontal = (line.get_xydata() for line in lines[:3])
    marks = [tuple(line.get_xydata()[0]) for line in lines[3:]]
    assert marks[0] == (found.best.n_regions, found.best.distance)
    assert marks[1] == (found.horizontal.n_regions, found.horizontal.distance)
    assert marks[2][0] == found.tree.n_leaves
    assert best[found.best.n_regions - 1] == pytest.approx(marks[0])
    on_best = np.interp(hull[:, 0], best[:, 0], best[:, 1])
    assert (hull[:, 1] <= on_best + 1e-9).all()
    assert horizontal[:, 1].min() == pytest.approx(marks[1][1])


def test_no_horizontal_cut_is_said():
    image, _, found = squares_match(apart=[((5, 5), (13, 18)), ((5, 5), (0, 0))], minimum_size=40)
    if found.horizontal is None:
        assert "none meets the constraints" in texts(match_figure(image, found))
    assert len(match_figure(image, found).axes) == 6


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        save_picture(np.zeros((2, 2, 3), np.uint8), tmp_path / "no" / "a.png")
    with pytest.raises(ValueError, match="picture must be uint8"):
        save_picture(np.zeros((2, 2, 3)), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []

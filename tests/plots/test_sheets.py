"""Sheets of many label maps: what they say, and that nothing runs into anything else."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle
from PIL import Image

from hiersearch.partitions.files import read_label_map
from hiersearch.plots import DuplicatePair, Panel, contact_sheet, duplicates_sheet, save_figure
from hiersearch.plots.sheets import (
    ONLY_FIRST,
    ONLY_SECOND,
    difference_picture,
    region_picture,
)

DATA = Path(__file__).resolve().parents[1] / "data"
NUCLEI = read_label_map(DATA / "nuclei-stained-labels.png")


def said(figure):
    return [text.get_text() for text in figure.texts if text.get_text()]


def drawn_boxes(figure):
    """Boxes of all texts and frames, in pixels, as drawn."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    items = [text for text in figure.texts if text.get_text()]
    items += [artist for artist in figure.get_children() if isinstance(artist, Rectangle)][1:]
    return [item.get_window_extent(renderer) for item in items]


def panels(count, shape=(20, 30), name="entry {} with a name too long for its place"):
    labels = np.arange(np.prod(shape)).reshape(shape) // 50
    return [
        Panel.of_labels(
            labels, name.format(i), "distance 0.0123 · 12,345 regions", highlighted=not i
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2, 7, 13])
@pytest.mark.parametrize("shape", [(20, 30), (90, 12), (8, 200), (3, 20, 30)])
def test_nothing_overlaps_or_leaves_the_figure(count, shape):
    figure = contact_sheet(panels(count, shape), title="a title " * 30, note="a note")
    boxes = drawn_boxes(figure)
    assert len(boxes) == 2 + 3 * count
    width, height = figure.get_size_inches() * figure.dpi
    assert width == 1800
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
        for other in boxes[i + 1 :]:
            assert not box.overlaps(other)


def test_panels_come_in_order_and_fill_rows():
    figure = contact_sheet(panels(7, name="{}"), columns=3)
    frames = [artist for artist in figure.get_children() if isinstance(artist, Rectangle)][1:]
    assert [text for text in said(figure) if len(text) == 1] == list("0123456")
    corners = [(round(frame.get_x(), 2), round(-frame.get_y(), 2)) for frame in frames]
    rows = sorted({y for _, y in corners[1:]})
    assert len(rows) == 3
    assert [rows.index(y) for _, y in corners[1:]] == [0, 0, 1, 1, 1, 2]


def test_only_the_query_has_a_thick_frame():
    figure = contact_sheet(panels(4))
    frames = [artist for artist in figure.get_children() if isinstance(artist, Rectangle)][1:]
    widths = [frame.get_linewidth() for frame in frames]
    assert widths[0] > 3
    assert max(widths[1:]) < 1


def test_long_names_keep_their_ends():
    figure = contact_sheet([Panel.of_labels([[0, 1]], "first " + "x" * 300 + " last")] * 6)
    name = said(figure)[0]
    assert name.startswith("first")
    assert name.endswith("last")
    assert "…" in name


def test_a_region_that_fills_a_quarter_is_grey_and_others_are_coloured():
    picture = region_picture(NUCLEI)
    factor = picture.shape[0] // NUCLEI.shape[0]
    ground = picture[::factor, ::factor][NUCLEI == 0]
    nuclei = picture[::factor, ::factor][NUCLEI > 0]
    assert np.mean(np.ptp(ground.astype(int), axis=1) == 0) > 0.9
    assert np.mean(np.ptp(nuclei.astype(int), axis=1) > 50) > 0.8


def test_differences_show_on_which_side_a_boundary_is():
    first = np.zeros((20, 20), int)
    first[:, 5:] = 1
    second = np.zeros((20, 20), int)
    second[:, 15:] = 1
    picture = difference_picture(first, second)
    factor = picture.shape[1] // 20
    row = picture[0]
    assert row[5 * factor].tolist() == list(ONLY_FIRST)
    assert row[15 * factor].tolist() == list(ONLY_SECOND)
    assert row[10 * factor].tolist() == [255, 255, 255]
    same = difference_picture(first, first + 7)
    assert not (same == ONLY_FIRST).all(axis=-1).any()
    assert not (same == ONLY_SECOND).all(axis=-1).any()


def test_duplicates_name_both_and_their_distance(tmp_path):
    moved = np.roll(NUCLEI, 1, axis=1)
    pairs = [
        DuplicatePair(NUCLEI, NUCLEI, "a", "copy of a", 0.0),
        DuplicatePair(NUCLEI, moved, "a", "a moved", 0.0321),
    ]
    figure = duplicates_sheet(pairs, title="two pairs")
    texts = said(figure)
    assert texts[0] == "two pairs"
    assert "the same partition" in texts
    assert {"a", "copy of a", "a moved", "distance 0", "distance 0.0321"} < set(texts)
    assert texts.count("13 regions") == 4
    boxes = drawn_boxes(figure)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    for name in ("a.png", "b.png"):
        save_figure(duplicates_sheet(pairs, title="two pairs"), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 20


def test_bad_input():
    with pytest.raises(ValueError, match="at least one picture, got none"):
        contact_sheet([])
    with pytest.raises(ValueError, match="at least one picture, got none"):
        duplicates_sheet([])
    with pytest.raises(ValueError, match="columns must be at least 1, got 0"):
        contact_sheet(panels(1), columns=0)
    with pytest.raises(TypeError, match="labels must be a label map of integer type"):
        Panel.of_labels(np.zeros((2, 2)), "a")
    with pytest.raises(ValueError, match=r"first and second must share one grid, got \(2, 2\)"):
        difference_picture(np.zeros((2, 2), int), np.zeros((2, 3), int))

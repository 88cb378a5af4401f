"""The four readings of a network's channels, side by side on one image, and one wrong reading.

Run ``python examples/readings.py --out docs`` to make ``docs/readings.png``; it needs torch for
the shipped network, which tells background, interior and boundary of nuclei apart.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import expand_labels

from hiersearch import Match, Partition, SoftPartition, distance, match, nearest_cut
from hiersearch.data import demo_image, demo_labels
from hiersearch.networks import nuclei_network
from hiersearch.partitions import Affinities, Memberships
from hiersearch.plots import image_picture, overlay, region_colours, soft_picture

CROP = np.s_[40:168, 48:240]
"""Where nuclei touch each other; the network sees the whole image."""
WRONG = "classes as regions"
OFFSETS = ((0, 1), (1, 0), (0, 5), (5, 0))


@dataclass(frozen=True, slots=True)
class Row:
    """One reading."""

    name: str
    """What the channels are read as."""
    meaning: str
    """What the channels are."""
    channels: NDArray[np.float32]
    """(k, H, W) those that the picture shows."""
    soft: SoftPartition
    """The soft partition that comes of it."""


def readings(probabilities: NDArray[np.float32]) -> list[Row]:
    """Read background, interior and boundary channels in the four ways, and once wrongly."""
    background, boundary = probabilities[0], probabilities[2]
    classes = np.stack([background, 1 - background])
    objects = SoftPartition.from_objects(probabilities)
    # Depth and softness suit this network: a basin is 0.2 deep, membership falls off over 0.03.
    basins = SoftPartition.from_boundaries(boundary, depth=0.2, softness=0.03)
    pairs = affinities(boundary)
    step = pairs.values[2].reshape(1, *pairs.grid)
    channels = objects.probabilities()
    largest = 1 + int(channels[1:].sum(axis=(1, 2)).argmax())
    return [
        Row(
            "regions",
            f"{len(channels)}: background and objects, shown: one object",
            channels[largest : largest + 1],
            objects,
        ),
        Row("classes", "2: background, nucleus", classes, SoftPartition.from_classes(classes)),
        Row("boundaries", "1: boundary", boundary[None], basins),
        Row("affinities", f"{len(OFFSETS)}, shown: 5 pixels to the right", step, pairs),
        Row(
            WRONG,
            "2: background, nucleus",
            classes,
            SoftPartition.from_regions(classes),
        ),
    ]


def affinities(boundary: NDArray[np.float32]) -> Affinities:
    """Affinities from a boundary map: 1 minus the largest value on the way from p to its partner.

    Steps of one pixel, and of five, which see whether something lies between.
    """
    height, width = boundary.shape
    channels = np.ones((len(OFFSETS), height, width), np.float32)
    for channel, (down, right) in zip(channels, OFFSETS, strict=True):
        inside = np.s_[: height - down, : width - right]
        for step in range(max(down, right) + 1):
            y, x = min(step, down), min(step, right)
            passed = boundary[y : height - down + y, x : width - right + x]
            channel[inside] = np.minimum(channel[inside], 1 - passed)
    return SoftPartition.from_affinities(channels, OFFSETS)


def found_nuclei(labels: NDArray[Any], truth: NDArray[Any]) -> int:
    """Count the nuclei that some region covers with intersection over union above a half."""
    found = 0
    for nucleus in np.unique(truth[truth > 0]):
        inside = truth == nucleus
        names, counts = np.unique(labels[inside], return_counts=True)
        region = labels == names[counts.argmax()]
        found += int(counts.max() > 0.5 * (region | inside).sum())
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Match each reading in one hierarchy, print what was found, and save the picture."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder for the picture")
    out: Path = parser.parse_args(arguments).out

    whole = demo_image()
    probabilities = np.ascontiguousarray(nuclei_network()(whole)[:, *CROP])
    image, truth = whole[CROP], demo_labels()[CROP].astype(np.int64)
    rows = readings(probabilities)

    # One hierarchy for all: what differs is the target alone.
    tree = match(image, rows[0].soft).tree
    found = [match(image, row.soft, tree=tree) for row in rows]
    boundary = probabilities[2]
    mistaken = SoftPartition.from_classes(np.stack([boundary, 1 - boundary]))
    told = [*((row.name, row.soft) for row in rows), ("boundary as a class", mistaken)]
    cuts = [*(result.best for result in found), nearest_cut(tree, mistaken)]
    one_region = Partition.from_labels((truth > 0).astype(np.int64))
    print(f"{'':20} nearest cut                cut to hand-  soft partition to hand-drawn")
    print(f"{'':20}  distance  regions  nuclei       drawn  nuclei apart  nuclei as one")
    for (name, soft), cut in zip(told, cuts, strict=True):
        print(
            f"{name:20} {cut.distance:9.4f} {cut.n_regions:8} {found_nuclei(cut.labels, truth):7}"
            f" {distance(cut.partition, truth):11.4f} {distance(soft, truth):13.4f}"
            f" {distance(soft, one_region):14.4f}"
        )
    print(f"\n{len(np.unique(truth[truth > 0]))} nuclei were drawn by hand")

    out.mkdir(parents=True, exist_ok=True)
    save_small(picture(image, truth, rows, found), out / "readings.png")
    print(f"picture: {out / 'readings.png'}")


def picture(
    image: NDArray[Any], truth: NDArray[Any], rows: Sequence[Row], found: Sequence[Match]
) -> Figure:
    """Draw a row for each reading: channels, soft partition, nearest cut."""
    colours = nucleus_colours(truth)
    leaves = found[0].tree.leaf_map
    n_nuclei = len(np.unique(truth[truth > 0]))
    panels = [
        ("the image", image_picture(image)),
        (
            f"one hierarchy for all: {found[0].tree.n_leaves} superpixels",
            overlay(image, leaves, side=384, line=(170, 140, 0)),
        ),
        (f"drawn by hand: {n_nuclei} nuclei", outlined(image, truth, truth, colours)),
    ]
    for row, result in zip(rows, found, strict=True):
        cut = result.best
        told = f"nearest cut: distance {cut.distance:.3f}, {cut.n_regions} regions"
        panels += [
            (f"channels — {row.meaning}", soft_picture(row.channels).pixels),
            soft_panel(row.soft, truth, colours),
            (
                f"{told}, {found_nuclei(cut.labels, truth)} nuclei",
                outlined(image, cut.labels, truth, colours),
            ),
        ]
    # At 96 pixels an inch each pixel of the image takes two by two, and panels lie on whole pixels.
    width, gap, left, above = 4.0, 0.125, 0.625, 0.375
    height = width * image.shape[0] / image.shape[1]
    size = (left + 3 * (width + gap), (len(rows) + 1) * (height + above))
    figure = Figure(figsize=size, dpi=96)
    for place, (name, pixels) in enumerate(panels):
        line, column = divmod(place, 3)
        x, y = left + column * (width + gap), size[1] - line * (height + above) - above - height
        axes = figure.add_axes((x / size[0], y / size[1], width / size[0], height / size[1]))
        axes.imshow(pixels, interpolation="nearest")
        axes.set_title(name, fontsize=10, loc="left", pad=4)
        axes.set_axis_off()
        if column == 0 and line > 0:
            figure.text(
                0.5 * left / size[0],
                (y + height / 2) / size[1],
                rows[line - 1].name,
                rotation=90,
                fontsize=14,
                weight="bold",
                color="#b00000" if rows[line - 1].name == WRONG else "black",
                ha="center",
                va="center",
            )
    return figure


def nucleus_colours(truth: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a colour for each nucleus, unlike those near it, and a grey for the background."""
    near = expand_labels(truth, distance=20)
    spread = region_colours(near)
    colours = np.full((int(truth.max()) + 1, 3), 70, np.uint8)
    for nucleus in np.unique(truth[truth > 0]):
        colours[nucleus] = spread[near == nucleus][0]
    return colours


def coloured(
    labels: NDArray[Any], truth: NDArray[Any], colours: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Give each region the colour of the hand-drawn nucleus, or background, that fills most of it.

    So nuclei that share a region share a colour.
    """
    regions = Partition.from_labels(labels)
    table = np.zeros((regions.n_regions, len(colours)), np.int64)
    np.add.at(table, (regions.labels.ravel(), truth.ravel()), 1)
    # Background only where no nucleus has a third: a merged clump keeps a nucleus's colour.
    background = table[:, 0] > 0.6 * table.sum(axis=1)
    owner = np.where(background, 0, 1 + table[:, 1:].argmax(axis=1))
    painted: NDArray[np.uint8] = colours[owner][regions.labels]
    return painted


def soft_panel(
    soft: SoftPartition, truth: NDArray[Any], colours: NDArray[np.uint8]
) -> tuple[str, NDArray[np.uint8]]:
    """Most probable region of each pixel, the darker the less probable; of pairs, their mean."""
    if not isinstance(soft, Memberships):
        return "soft partition: mean of a pixel's pairs", soft_picture(soft).pixels
    probable = soft.hard().labels
    confidence = soft.probabilities().max(axis=0)[..., None]
    faded = coloured(probable, truth, colours) * confidence
    return f"soft partition: {soft.n_channels} regions, dark = unsure", faded.astype(np.uint8)


def outlined(
    image: NDArray[Any], labels: NDArray[Any], truth: NDArray[Any], colours: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Tint the image by region and draw the regions' outlines."""
    tinted = 0.5 * image_picture(image) + 0.5 * coloured(labels, truth, colours)
    return overlay(tinted.astype(np.uint8), labels, side=384, thickness=2)


def save_small(figure: Figure, path: Path) -> None:
    """Write a figure as PNG of 256 colours, packed as tightly as it goes."""
    stream = BytesIO()
    figure.savefig(stream)
    few = (
        Image.open(stream)
        .convert("RGB")
        .quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    )
    few.save(path, optimize=True)


if __name__ == "__main__":
    main()

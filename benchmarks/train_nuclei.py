"""Train the network that the package ships on nuclei, and score it on images it has not seen.

The question: how well does it tell nuclei apart, by a plain watershed and by the package's own
search? Run from the root of the repository:

    python benchmarks/train_nuclei.py --data NUCLEI_FOLDER --out out/nuclei

The data folder holds ``manifest.csv`` (name, split, ...) and, for each name, ``NAME.png`` and
``NAME-labels.png``. Training is `hiersearch.networks.train` on the manifest's train split, of which
some images are held out to choose the weights; the test split is only scored. The checkpoint in
the output folder lets an interrupted run go on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from hiersearch.choices import TRAINED_READINGS
from hiersearch.evaluation import average_precision, mean_average_precision
from hiersearch.evaluation.class_maps import class_confusion, iou_of_confusion
from hiersearch.networks import Network, Progress, TrainingSettings, read_labelled_images, train
from hiersearch.networks.channels import three_classes
from hiersearch.networks.training.settings import LOSSES
from hiersearch.partitions.files import read_label_map, read_plain_image
from hiersearch.partitions.output import OBJECT_CHANNELS
from hiersearch.refinement import refine

Labels = NDArray[np.int32]


def separated(soft: NDArray[np.float32]) -> Labels:
    """Return nuclei by plain post-processing: a watershed from the interior's components."""
    interior, foreground = soft[1], soft[1] + soft[2]
    seeds, _ = ndimage.label(interior > 0.5)
    sizes = np.bincount(seeds.ravel())
    seeds[sizes[seeds] < 5] = 0
    return watershed(-interior, seeds, mask=(foreground > 0.5)).astype(np.int32)


def test_split(folder: Path) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield the images and label maps that nothing was trained on."""
    with (folder / "manifest.csv").open(newline="") as table:
        names = [row["name"] for row in csv.DictReader(table) if row["split"] == "test"]
    for name in names:
        yield (
            read_plain_image(folder / f"{name}.png"),
            read_label_map(folder / f"{name}-labels.png"),
        )


def scores(network: Network, folder: Path) -> dict[str, Any]:
    """Return AP = TP / (TP + FP + FN), mean over test images, and scores of the three classes."""
    three = network.reading == "objects"
    confusion = np.zeros((3, 3), np.int64)
    found: dict[str, list[list[float]]] = {}
    for image, labels in test_split(folder):
        output = network.predict(image)
        soft = output.channels
        ways = {"search": refine(image, output).labels}
        if three:
            ways["watershed"] = separated(soft)
            confusion += class_confusion(soft.argmax(axis=0), three_classes(labels), 3)
        for way, instances in ways.items():
            row = [*average_precision(instances, labels, (0.5, 0.7))]
            found.setdefault(way, []).append([*row, mean_average_precision(instances, labels)])
    result: dict[str, Any] = {
        way: dict(zip(("ap 0.5", "ap 0.7", "ap mean"), np.mean(rows, axis=0), strict=True))
        for way, rows in found.items()
    }
    if three:
        overlaps = iou_of_confusion(confusion).of_classes
        result["pixel accuracy"] = np.trace(confusion) / confusion.sum()
        result["iou"] = dict(zip(OBJECT_CHANNELS, overlaps, strict=True))
    return result


def show(now: Progress) -> None:
    if now.step % 50 == 0:
        score = "" if now.score is None else f", held out {now.score[0]} {now.score[1]:.4f}"
        print(f"step {now.step} of {now.steps}, loss {now.loss:.4f}{score}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the nuclei data folder")
    parser.add_argument("--out", type=Path, required=True, help="weights, scores, checkpoint")
    parser.add_argument("--reading", choices=TRAINED_READINGS, default=TRAINED_READINGS[0])
    parser.add_argument("--loss", choices=sorted({*sum(LOSSES.values(), ())}), default="")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--validation", type=float, default=0.075)
    options = vars(parser.parse_args())
    folder, out = options.pop("data"), options.pop("out")
    settings = TrainingSettings(every=max(1, options["steps"] // 6), **options)
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)

    data = read_labelled_images(folder)
    done = train(
        data.images,
        data.label_maps,
        settings,
        names=data.names,
        checkpoint=out / "checkpoint.pt",
        report=show,
    )
    done.save(out / "nuclei.pt")
    record = {**done.summary(), "test": scores(done.network, folder)}
    (out / "scores.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps({"held out": record["best_scores"], "test": record["test"]}, indent=2))


if __name__ == "__main__":
    main()

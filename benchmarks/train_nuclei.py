"""Train the small U-Net on nuclei, and score it on images it has not seen.

The question: how well does the network that the package ships tell nuclei apart, before any
search over partitions? Run from the root of the repository:

    python benchmarks/train_nuclei.py --data NUCLEI_FOLDER --out out/nuclei

The data folder holds ``manifest.csv`` (name, split, height, width, ...) and, for each name,
``NAME.png`` and ``NAME-labels.png``. Training uses the manifest's train split only, of which
some images are held out to watch a run and to choose between runs; the test split is only scored.
The checkpoint in the output folder lets an interrupted run go on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.io import imread
from skimage.segmentation import watershed
from torch import Tensor
from torch.nn import functional

from hiersearch.evaluation import average_precision
from hiersearch.networks.unet import NUCLEI_CHANNELS, SmallUNet, standardise

Labels = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a training run depends on, besides the data."""

    steps: int = 2400
    """Gradient steps of the schedule."""
    minutes: float = 600.0
    """Wall time after which the schedule is over, whatever the step."""
    seed: int = 0
    crop: int = 128
    """Side of the training crops, in pixels."""
    batch: int = 8
    learning_rate: float = 4e-3
    """Peak of the one-cycle schedule."""
    weight_decay: float = 1e-2
    boundary_weight: float = 2.0
    """Weight of boundary pixels in the cross-entropy; the other classes weigh 1."""
    seam_reach: int = 1
    """How far from another nucleus a nucleus is boundary, in pixels."""
    seam_weight: float = 1.0
    """Further factor on the cross-entropy within 2 pixels of two nuclei."""
    held_out: int = 30
    """Train-split images that are not trained on."""


# --- data ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """One image, standardised, with its label map."""

    name: str
    image: Tensor
    """float32, (3, H, W)."""
    labels: Labels
    """(H, W), 0 background."""


def read_samples(folder: Path, split: str) -> list[Sample]:
    with (folder / "manifest.csv").open(newline="") as table:
        names = [row["name"] for row in csv.DictReader(table) if row["split"] == split]
    return [read_sample(folder, name) for name in names]


def read_sample(folder: Path, name: str) -> Sample:
    labels = imread(folder / f"{name}-labels.png").astype(np.int32)
    return Sample(name, standardise(image_tensor(imread(folder / f"{name}.png")))[0], labels)


def image_tensor(image: NDArray[np.uint8]) -> Tensor:
    """Return an 8-bit grey or RGB image as float32 (1, C, H, W) in 0..1."""
    channels = image[None] if image.ndim == 2 else np.moveaxis(image[..., :3], -1, 0)
    return torch.from_numpy(np.ascontiguousarray(channels, dtype=np.float32) / 255.0)[None]


def three_classes(labels: Labels, seam_reach: int) -> NDArray[np.int64]:
    """Return background 0, interior 1, boundary 2 for a label map.

    The boundary is the outermost pixel of every nucleus, the pixels of a nucleus that lie within
    ``seam_reach`` pixels of another nucleus, and the background within one pixel of two nuclei.
    Interiors are then one component per nucleus, 2 · ``seam_reach`` pixels apart where they touch.
    """
    inside = labels > 0
    classes = inside.astype(np.int64)
    largest = ndimage.maximum_filter(labels, 3, mode="nearest")
    smallest = ndimage.minimum_filter(labels, 3, mode="nearest")
    classes[inside & (largest != smallest)] = 2
    classes[inside & seams(labels, seam_reach)] = 2
    classes[~inside & seams(labels, 1)] = 2
    return classes


def seams(labels: Labels, reach: int) -> NDArray[np.bool_]:
    """Return where two or more nuclei lie within ``reach`` pixels (in a square)."""
    size = 2 * reach + 1
    beyond = np.int32(np.iinfo(np.int32).max)
    largest = ndimage.maximum_filter(labels, size, mode="nearest")
    smallest = ndimage.minimum_filter(np.where(labels == 0, beyond, labels), size, mode="nearest")
    return (largest > 0) & (smallest != largest)


class Crops:
    """Draws augmented crops: one image, one scale, one symmetry, one change of intensity."""

    def __init__(self, samples: list[Sample], settings: Settings, rng: np.random.Generator):
        self.samples = samples
        self.crop = settings.crop
        self.settings = settings
        self.rng = rng
        self.queue: list[int] = []

    def batch(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return images (size, 3, crop, crop), and classes and weights (size, crop, crop)."""
        images, classes, weights = zip(*(self.one() for _ in range(size)), strict=True)
        return torch.stack(images), torch.stack(classes), torch.stack(weights)

    def one(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return a crop, its classes and weights; no image comes twice before all came once."""
        if not self.queue:
            self.queue = [int(i) for i in self.rng.permutation(len(self.samples))]
        image, labels = self.cut(self.samples[self.queue.pop()])
        turns, mirrored = int(self.rng.integers(4)), bool(self.rng.integers(2))
        image, labels = image.rot90(turns, (1, 2)), np.rot90(labels, turns)
        if mirrored:
            image, labels = image.flip(2), labels[:, ::-1]
        classes = three_classes(labels, self.settings.seam_reach)
        weights = np.array([1.0, 1.0, self.settings.boundary_weight], dtype=np.float32)[classes]
        weights[seams(labels, 2)] *= self.settings.seam_weight
        image = self.recoloured(image.contiguous())
        return image, torch.from_numpy(classes), torch.from_numpy(weights)

    def cut(self, sample: Sample) -> tuple[Tensor, Labels]:
        """Return a square piece of a sample, rescaled to the crop's side."""
        height, width = sample.labels.shape
        # Large images hold large nuclei: shrinking them more often joins the two populations.
        low, high = (0.6, 1.5) if min(height, width) < 500 else (0.8, 2.2)
        side = round(self.crop * float(np.exp(self.rng.uniform(np.log(low), np.log(high)))))
        side = min(side, height, width)
        top = int(self.rng.integers(height - side + 1))
        left = int(self.rng.integers(width - side + 1))
        image = sample.image[:, top : top + side, left : left + side]
        labels = sample.labels[top : top + side, left : left + side]
        if side == self.crop:
            return image, labels
        image = functional.interpolate(
            image[None], (self.crop, self.crop), mode="bilinear", antialias=side > self.crop
        )[0]
        nearest = ((np.arange(self.crop) + 0.5) * side / self.crop).astype(np.intp)
        return image, labels[np.ix_(nearest, nearest)]

    def recoloured(self, image: Tensor) -> Tensor:
        """Change contrast, brightness, colour and noise; sometimes invert."""
        rng = self.rng
        image = image * float(np.exp(rng.normal(0, 0.2))) + float(rng.normal(0, 0.2))
        is_grey = bool(torch.equal(image[0], image[1]))
        if not is_grey:
            if rng.random() < 0.3:  # histology seen in grey
                image = image.mean(dim=0, keepdim=True).expand(3, -1, -1)
            else:
                image = image + torch.from_numpy(rng.normal(0, 0.1, (3, 1, 1)).astype(np.float32))
        if rng.random() < 0.15:
            image = -image
        if rng.random() < 0.3:
            noise = rng.standard_normal(image.shape[1:], dtype=np.float32)
            image = image + torch.from_numpy(noise) * float(rng.uniform(0, 0.2))
        return image


# --- training -----------------------------------------------------------------------------


def rate(progress: float) -> float:
    """One cycle: a linear rise over the first tenth, then a cosine down to zero."""
    if progress < 0.1:
        return 0.1 + 9 * progress
    return 0.5 + 0.5 * float(np.cos(np.pi * (progress - 0.1) / 0.9))


def train(
    samples: list[Sample], settings: Settings, out: Path, start: Path | None
) -> tuple[SmallUNet, int, float]:
    """Return the trained network, the steps it took and its minutes."""
    torch.manual_seed(settings.seed)
    network = SmallUNet().train()
    if start is not None:
        network.load_state_dict(torch.load(start, weights_only=True))
    optimiser = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    held_out, used = samples[: settings.held_out], samples[settings.held_out :]
    checkpoint = out / "checkpoint.pt"
    step, spent, running = 0, 0.0, float("nan")
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent = state["step"], state["minutes"]
    # A resumed run draws new crops instead of those it has already seen.
    crops = Crops(used, settings, np.random.default_rng([settings.seed, step]))
    started = time.monotonic() - 60 * spent
    while True:
        spent = (time.monotonic() - started) / 60
        progress = max(step / settings.steps, spent / settings.minutes)
        if progress >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * rate(progress)
        images, classes, weights = crops.batch(settings.batch)
        losses = functional.cross_entropy(
            network.forward_standardised(images), classes, reduction="none"
        )
        loss = (weights * losses).sum() / weights.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
        value = float(loss.detach())
        running = value if np.isnan(running) else 0.98 * running + 0.02 * value
        if step % 50 == 0:
            print(f"step {step} minutes {spent:.1f} loss {running:.4f}", flush=True)
        if step % 400 == 0:
            state = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save({**state, "step": step, "minutes": spent}, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
            print("held out:", json.dumps(evaluate(network, held_out, settings)), flush=True)
            network.train()
    return network.eval(), step, spent


# --- scores -------------------------------------------------------------------------------


@torch.no_grad()
def probabilities(network: SmallUNet, image: Tensor) -> NDArray[np.float32]:
    return network.forward_standardised(image[None]).softmax(dim=1)[0].numpy()


def separated(soft: NDArray[np.float32]) -> Labels:
    """Return nuclei by plain post-processing: a watershed from the interior's components."""
    interior, foreground = soft[1], soft[1] + soft[2]
    seeds, _ = ndimage.label(interior > 0.5)
    sizes = np.bincount(seeds.ravel())
    seeds[sizes[seeds] < 5] = 0
    return watershed(-interior, seeds, mask=(foreground > 0.5)).astype(np.int32)


def evaluate(network: SmallUNet, samples: list[Sample], settings: Settings) -> dict[str, object]:
    """Return pixel accuracy, IoU by class and AP = TP / (TP + FP + FN), mean over images."""
    network.eval()
    confusion = np.zeros((3, 3), np.int64)
    thresholds = (0.5, 0.7)
    precisions = []
    for sample in samples:
        soft = probabilities(network, sample.image)
        target = three_classes(sample.labels, settings.seam_reach)
        guess = soft.argmax(0)
        confusion += np.bincount((3 * target + guess).ravel(), minlength=9).reshape(3, 3)
        precisions.append(average_precision(separated(soft), sample.labels, thresholds))
    right = np.diag(confusion)
    overlap = right / (confusion.sum(0) + confusion.sum(1) - right)
    return {
        "images": len(samples),
        "pixel_accuracy": round(float(right.sum() / confusion.sum()), 4),
        "iou": {c: round(float(v), 4) for c, v in zip(NUCLEI_CHANNELS, overlap, strict=True)},
        "average_precision": {
            str(t): round(float(v), 4)
            for t, v in zip(thresholds, np.mean(precisions, axis=0), strict=True)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the nuclei data folder")
    parser.add_argument("--out", type=Path, required=True, help="weights, scores, checkpoint")
    parser.add_argument("--start", type=Path, help="weights to start from, of an earlier run")
    for field in fields(Settings):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=type(field.default), default=field.default)
    options = vars(parser.parse_args())
    folder, out, start = options.pop("data"), options.pop("out"), options.pop("start")
    settings = Settings(**options)
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)

    samples = read_samples(folder, "train")
    # The same images are held out whatever the seed: a later run may start from an earlier one's.
    order = np.random.default_rng(0).permutation(len(samples))
    samples = [samples[i] for i in order]
    network, steps, minutes = train(samples, settings, out, start)
    torch.save(network.state_dict(), out / "nuclei.pt")
    scores = {
        "settings": asdict(settings),
        "steps": steps,
        "minutes": round(minutes, 1),
        "parameters": sum(p.numel() for p in network.parameters()),
        "held out": evaluate(network, samples[: settings.held_out], settings),
        "test": evaluate(network, read_samples(folder, "test"), settings),
    }
    (out / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    main()

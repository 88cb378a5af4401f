"""Running the command line inside the tests' own process."""

import json

import numpy as np
from typer.testing import CliRunner

from hiersearch.cli import app
from hiersearch.partitions.files import write_label_map


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(result, *parts):
    """Check that a run ended as bad input must: one sentence, code 2, nothing on stdout."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("hiersearch: error: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr, result.stderr
    return True


def parsed(result):
    """Return the JSON that a run wrote, which must be all that it wrote."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


HEIGHT, WIDTH = 18, 24


def scene():
    """Two bright squares on a dark ground, and a network's idea of dark and bright."""
    image = np.zeros((HEIGHT, WIDTH), np.uint8)
    image[3:9, 3:10] = 200
    image[10:16, 13:21] = 220
    bright = np.where(image > 0, 0.9, 0.05).astype(np.float32)
    return image, np.stack([1 - bright, bright])


def write_scene(folder):
    """Write image.png and soft.npy (channels first)."""
    from PIL import Image

    image, soft = scene()
    Image.fromarray(image).save(folder / "image.png")
    np.save(folder / "soft.npy", soft)
    return image, soft


def write_labels(path, labels):
    write_label_map(path, np.asarray(labels))
    return path

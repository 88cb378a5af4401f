"""The whole `hiersearch match` process on a 512 × 512 image, first run and later ones."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.inputs import photo, soft_output
from benchmarks.question import PHOTO, Answer, Question
from benchmarks.tables import Table, figure, shown

QUESTION = Question(
    "How long does the whole `hiersearch match` process take on a 512 × 512 image?",
    minutes=0.7,
    bundled=PHOTO,
    in_readme=True,
)

REPEATS = 5


def run() -> list[Table]:
    from skimage.io import imsave

    with tempfile.TemporaryDirectory() as folder:
        image, soft = Path(folder, "photo.png"), Path(folder, "soft.npy")
        imsave(image, photo(), check_contrast=False)
        np.save(soft, soft_output(12))
        command = [sys.executable, "-m", "hiersearch", "match", str(image), "--soft", str(soft)]
        command += ["--reading", "regions", "--channel-axis", "0", "--out", str(Path(folder, "o"))]
        # An empty cache of compiled kernels makes the first run a true first run.
        environment = os.environ | {"NUMBA_CACHE_DIR": str(Path(folder, "cache"))}
        seconds = []
        for _ in range(1 + REPEATS):
            begin = time.perf_counter()
            subprocess.run(command, check=True, env=environment, capture_output=True)
            seconds.append(time.perf_counter() - begin)
        again = np.array(seconds[1:])
        table = Table("Whole `hiersearch match` process, 512 × 512, 12 channels (s)", ("run", "s"))
        table.rows.append(("first, kernels compiled", shown(seconds[0])))
        table.rows.append(
            (
                f"later, median of {REPEATS} (range)",
                f"{shown(float(np.median(again)))} ({shown(again.min())}–{shown(again.max())})",
            )
        )
        return [table]


def answer(tables: list[Table]) -> Answer:
    (first, later) = tables[0].rows
    return Answer(f"{figure(later[1])} s; first run ever {first[1]} s (kernels are compiled)")

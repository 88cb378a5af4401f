"""Time of tree voting on one core: against a dense CRF in the same run, and how it grows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.dense_crf import dense_crf
from benchmarks.measuring import in_turn
from benchmarks.question import PHOTO, Answer, Question
from benchmarks.tables import Table, shown

QUESTION = Question(
    "How long does tree voting take on one core, for 360 × 480 pixels with 12 channels?",
    minutes=3,
    bundled=PHOTO,
    packages=("pydensecrf2",),
    in_readme=True,
)
PEER = "dense CRF, 5 iterations (pydensecrf2)"

CHANNELS = 12


def scene(
    grid: tuple[int, ...], colours: int, channels: int = CHANNELS
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return a photo tiled over a grid (in a volume, shifted), and smooth random probabilities."""
    from scipy.ndimage import gaussian_filter
    from skimage.data import astronaut

    photo = astronaut()[..., :colours]
    turns = [-(-side // size) for side, size in zip(grid[-2:], photo.shape, strict=False)]
    plane = np.tile(photo, (*turns, 1))[: grid[-2], : grid[-1]]
    if len(grid) == 3:
        rng = np.random.default_rng(1)
        planes = [np.roll(plane, z, axis=0) for z in range(grid[0])]
        noise = rng.integers(0, 8, (*grid, colours))
        image = np.clip(np.stack(planes) + noise, 0, 255).astype(np.uint8)
    else:
        image = np.ascontiguousarray(plane)
    rng = np.random.default_rng(0)
    fields = [gaussian_filter(rng.standard_normal(grid), 4) for _ in range(channels)]
    scores = np.stack([np.exp(3 * field / field.std()) for field in fields])
    return image[..., 0] if colours == 1 else image, (scores / scores.sum(axis=0)).astype("f4")


def _against_crf() -> Table:
    from hiersearch.refinement.tree_voting import tree_voting

    image, soft = scene((360, 480), 3)
    by_crf = dense_crf((40, 8, 5))
    functions = {
        "tree_voting, 1 tree, 1 step": lambda: tree_voting(
            image, soft, reading="classes", trees=1, steps=1
        ),
        "tree_voting, 2 trees, 1 step (default)": lambda: tree_voting(
            image, soft, reading="classes"
        ),
        "tree_voting, 2 trees, 2 steps": lambda: tree_voting(
            image, soft, reading="classes", steps=2
        ),
        PEER: lambda: by_crf(image, soft),
    }
    found = in_turn(functions, 11)
    peer = found[PEER].median
    table = Table(
        f"360 × 480, {CHANNELS} channels, one core: from image and probabilities to labels, "
        "components and refined probabilities, trees included (ms)",
        ("method", "ms", "÷ dense CRF"),
    )
    table.rows += [(name, str(t), shown(t.median / peer)) for name, t in found.items()]
    values = CHANNELS * 360 * 480 * 4 / 1e6
    table.notes.append(
        f"The table of probabilities is {values:.1f} MB. Read once and written once it would take "
        f"about {shown(2 * values / 10)} ms at 10 GB/s; the rest is one visit of each pair of "
        "neighbours (sorted, then joined in the order of their contrast) and two of each node, at "
        "addresses that no prefetcher foresees."
    )
    return table


def _growth() -> Table:
    from hiersearch.refinement.tree_voting import tree_voting

    table = Table(
        f"tree_voting, 1 tree, 1 step, {CHANNELS} channels, one core",
        ("grid", "ms", "ns a pixel"),
    )
    grids = (((180, 240), 3), ((360, 480), 3), ((512, 1024), 3), ((1024, 2048), 3))
    for grid, colours in (*grids, ((50, 100, 200), 1), ((64, 256, 256), 1)):
        image, soft = scene(grid, colours, CHANNELS)
        found = in_turn(
            {
                "ours": lambda image=image, soft=soft: tree_voting(
                    image, soft, reading="classes", trees=1, steps=1
                )
            },
            5,
        )["ours"]
        pixels = float(np.prod(grid))
        name = " × ".join(map(str, grid)) + (" RGB" if colours == 3 else " grey")
        table.rows.append((name, str(found), shown(1e6 * found.median / pixels)))
    return table


def run() -> list[Table]:
    return [_against_crf(), _growth()]


def answer(tables: list[Table]) -> Answer:
    table = tables[0]
    default = "tree_voting, 2 trees, 1 step (default)"
    ratio = table.figure(default, "÷ dense CRF")
    return Answer(
        f"{table.figure(default, 'ms')} ms, trees included",
        f"dense CRF, 5 iterations {table.figure(PEER, 'ms')} ms ({ratio})",
    )

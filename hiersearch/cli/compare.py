"""``hiersearch compare``: how far two label maps are from each other, and in what."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hiersearch.cli.console import print_line, print_table, progress, warn, write_json
from hiersearch.cli.errors import UsageError
from hiersearch.cli.options import LabelKey, check_choice

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from hiersearch.partitions import Partition


TRUTHS = ("first", "second", "both")


def compare(
    a: Annotated[Path, typer.Argument(help="A label map: PNG, TIFF, NPY or NPZ.", metavar="A")],
    b: Annotated[
        Path,
        typer.Argument(help="Another on the same grid; the true one, where one is.", metavar="B"),
    ],
    ignore: Annotated[
        list[int] | None,
        typer.Option(
            help="Leave out pixels that have this label in the true label map, like 255 for void; "
            "may be given several times."
        ),
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option(
            help=f"Whose labels --ignore means: {', '.join(TRUTHS)} (A, B or either); "
            f"{TRUTHS[1]} unless given.",
            metavar="NAME",
        ),
    ] = None,
    key: LabelKey = None,
    measure: Annotated[
        Path | None,
        typer.Option(help="Weight of each pixel: NPY, TIFF or PNG on the same grid."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write only JSON to standard output.")
    ] = False,
) -> None:
    """Compare two label maps: their distance, its parts, and their regions.

    A result comes first and the truth second: 'compare labels.npy truth.png --ignore 255'.
    """
    check_choice("--truth", truth, TRUTHS)
    if truth is not None and not ignore:
        raise UsageError(f"--truth is for --ignore only, got {truth!r}")
    with progress("Comparing", as_json):
        summary = _summary(a, b, ignore or [], truth or TRUTHS[1], measure, key)
    if ignore:
        _warn_of_labels(summary["ignored"], a, b, said=truth is not None)
    if as_json:
        write_json(summary)
    else:
        _print(summary)


def _warn_of_labels(ignored: dict[str, Any], a: Path, b: Path, said: bool) -> None:
    """Say which labels are not there, and which are where they were not asked for."""
    asked = {"first": str(a), "second": str(b), "both": f"{a} and {b}"}[ignored["in"]]
    for label in ignored["absent"]:
        warn(f"no pixel has the label {label} of --ignore in {asked}")
    for label in ignored["elsewhere"] if not said else ():
        warn(
            f"{a} has the label {label} of --ignore, too, and there it counts: "
            "--truth says whose label is meant"
        )


def _summary(
    a: Path,
    b: Path,
    ignore: "Sequence[int]",
    truth: str,
    measure: Path | None,
    key: str | None,
) -> dict[str, Any]:
    from hiersearch.metric import contingency_table, jaccard_distance
    from hiersearch.partitions import Partition
    from hiersearch.partitions.files import read_label_map
    from hiersearch.partitions.saved_arrays import KEYED

    keys = [key if path.suffix.lower() in KEYED else None for path in (a, b)]
    if key is not None and not any(keys):
        raise UsageError(f"--key is for .npz files only, got {key!r} for {a} and {b}")
    maps = [read_label_map(path, key=own) for path, own in zip((a, b), keys, strict=True)]
    if maps[0].shape != maps[1].shape:
        raise UsageError(
            f"label maps must share one grid, but {a} has shape {maps[0].shape} "
            f"and {b} has shape {maps[1].shape}"
        )
    void, ignored = _ignored(maps, ignore, truth)
    weights = _weights(maps[0].shape, void, measure)
    first, second = (Partition.from_labels(labels, measure=weights) for labels in maps)
    overlaps = contingency_table(first, second)[2]
    squares = [_square_sum(sizes) for sizes in (first.sizes, second.sizes, overlaps)]
    rho = squares[0] + squares[1] - 2 * squares[2]
    total = first.total
    return {
        "distance": float(rho) / float(total) ** 2,
        "rho": rho,
        "parts": {
            "sum_a2": squares[0],
            "sum_b2": squares[1],
            "sum_n2": squares[2],
            "joined_in_both": squares[2],
            "joined_only_in_a": squares[0] - squares[2],
            "joined_only_in_b": squares[1] - squares[2],
        },
        "jaccard": jaccard_distance(first, second),
        **_references(maps, weights, measure is not None),
        "ignored": ignored,
        "total_measure": total,
        "grid": list(first.grid),
        "a": {"file": str(a), **_statistics(first)},
        "b": {"file": str(b), **_statistics(second)},
    }


def _ignored(
    maps: "list[NDArray[np.integer[Any]]]", ignore: "Sequence[int]", truth: str
) -> "tuple[NDArray[np.bool_] | None, dict[str, Any] | None]":
    """Return which pixels are left out, and what is to be said about it."""
    if not ignore:
        return None, None
    import numpy as np

    from hiersearch.partitions.ignored import has_label

    # Labels of a result are numbers that a program gave, so they are asked only if it is said.
    asked = {"first": maps[:1], "second": maps[1:], "both": maps}[truth]
    others = {"first": maps[1:], "second": maps[:1], "both": []}[truth]
    each = {label: [has_label(one, [label]) for one in asked] for label in dict.fromkeys(ignore)}
    void = np.logical_or.reduce([one for found in each.values() for one in found])
    if void.all():
        listed = " ".join(f"--ignore {label}" for label in each)
        raise UsageError(f"{listed} leaves no pixel to compare")
    return void, {
        "labels": list(each),
        "in": truth,
        "pixels": int(void.sum()),
        "absent": [label for label, found in each.items() if not any(one.any() for one in found)],
        "elsewhere": [label for label in each if any(has_label(m, [label]).any() for m in others)],
    }


def _weights(
    grid: tuple[int, ...], void: "NDArray[np.bool_] | None", measure: Path | None
) -> "NDArray[Any] | None":
    """Return the measure of each pixel, zero where left out; None where it is 1 everywhere."""
    import numpy as np

    from hiersearch.partitions.files import read_image

    weights: NDArray[Any] | None = None
    if measure is not None:
        weights = read_image(measure)
        if weights.shape != grid:
            raise UsageError(
                f"--measure must lie on the label maps' grid {grid}, "
                f"but {measure} has shape {weights.shape}"
            )
    if void is not None:
        weights = ~void if weights is None else np.where(void, 0, weights).astype(weights.dtype)
    return weights


def _square_sum(sizes: Any) -> int | float:
    """Σ sizes², exact for integers: within int64, since integer totals stay below 2**31."""
    total: int | float = (sizes * sizes).sum().item()
    return total


def _references(
    maps: "list[NDArray[np.integer[Any]]]", weights: "NDArray[Any] | None", weighted: bool
) -> dict[str, Any]:
    """Return scikit-image's two measures of the same pair; they know no weights but 0 and 1."""
    if weighted:
        return {"adapted_rand_error": None, "variation_of_information": None}
    import numpy as np

    from hiersearch.evaluation import adapted_rand_error, variation_of_information

    kept = slice(None) if weights is None else weights.reshape(-1)
    a, b = (labels.reshape(-1)[kept][None] for labels in maps)
    error = adapted_rand_error(found=b, truth=a)
    return {
        # Not defined where no two pixels are joined, as on a grid of one pixel.
        "adapted_rand_error": error if np.isfinite(error) else None,
        "variation_of_information": sum(variation_of_information(found=b, truth=a)),
    }


def _statistics(partition: "Partition") -> dict[str, Any]:
    """Count regions and their sizes, those without any measure left out."""
    import numpy as np

    sizes = partition.sizes[partition.sizes > 0]
    return {
        "regions": int(sizes.size),
        "smallest": sizes.min().item(),
        "median": float(np.median(sizes)),
        "largest": sizes.max().item(),
    }


def _print(summary: dict[str, Any]) -> None:
    parts = summary["parts"]
    rows = [
        ["distance ρ / M²", f"{summary['distance']:.6g}"],
        ["ρ = Σa² + Σb² − 2 Σn²", _number(summary["rho"])],
        ["  Σa²", _number(parts["sum_a2"])],
        ["  Σb²", _number(parts["sum_b2"])],
        ["  Σn²", _number(parts["sum_n2"])],
        ["pairs joined only in A", _number(parts["joined_only_in_a"])],
        ["pairs joined only in B", _number(parts["joined_only_in_b"])],
        ["Jaccard distance", f"{summary['jaccard']:.6g}"],
    ]
    for key, name in (
        ("adapted_rand_error", "adapted Rand error"),
        ("variation_of_information", "variation of information (bits)"),
    ):
        if summary[key] is not None:
            rows.append([name, f"{summary[key]:.6g}"])
    print_table("Distance", ["", "value"], rows)
    columns = ["regions", "smallest", "median", "largest"]
    print_table(
        "Regions",
        ["label map", *columns],
        [
            [
                f"{name.upper()}: {Path(summary[name]['file']).name}",
                *(_number(summary[name][column]) for column in columns),
            ]
            for name in ("a", "b")
        ],
    )
    ignored = summary["ignored"]
    if ignored is not None:
        of = {"first": "A", "second": "B", "both": "A or B"}[ignored["in"]]
        labels = ", ".join(map(str, ignored["labels"]))
        print_line(f"left out {ignored['pixels']:,} pixels of label {labels} in {of}")
    if summary["distance"] == 0:
        print_line("A and B are the same partition.")


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"

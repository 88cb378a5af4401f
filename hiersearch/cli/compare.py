"""``hiersearch compare``: how far two label maps are from each other, and in what."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hiersearch.cli.console import print_line, print_table, progress, write_json
from hiersearch.cli.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hiersearch.partitions import Partition


def compare(
    a: Annotated[Path, typer.Argument(help="A label map: PNG, TIFF, NPY or NPZ.", metavar="A")],
    b: Annotated[Path, typer.Argument(help="Another on the same grid.", metavar="B")],
    ignore: Annotated[
        int | None, typer.Option(help="Leave out pixels that have this label in A.")
    ] = None,
    measure: Annotated[
        Path | None,
        typer.Option(help="Weight of each pixel: NPY, TIFF or PNG on the same grid."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write only JSON to standard output.")
    ] = False,
) -> None:
    """Compare two label maps: their distance, its parts, and their regions."""
    with progress("Comparing", as_json):
        summary = _summary(a, b, ignore, measure)
    if as_json:
        write_json(summary)
    else:
        _print(summary)


def _summary(a: Path, b: Path, ignore: int | None, measure: Path | None) -> dict[str, Any]:
    from hiersearch.metric import contingency_table, jaccard_distance
    from hiersearch.partitions import Partition
    from hiersearch.partitions.files import read_label_map

    maps = [read_label_map(path) for path in (a, b)]
    if maps[0].shape != maps[1].shape:
        raise UsageError(
            f"label maps must share one grid, but {a} has shape {maps[0].shape} "
            f"and {b} has shape {maps[1].shape}"
        )
    weights = _weights(maps, ignore, measure)
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
        "total_measure": total,
        "grid": list(first.grid),
        "a": {"file": str(a), **_statistics(first)},
        "b": {"file": str(b), **_statistics(second)},
    }


def _weights(
    maps: "list[NDArray[np.integer[Any]]]", ignore: int | None, measure: Path | None
) -> "NDArray[Any] | None":
    """Return the measure of each pixel, zero where ignored; None where it is 1 everywhere."""
    import numpy as np

    from hiersearch.partitions.files import read_image

    weights: NDArray[Any] | None = None
    if measure is not None:
        weights = read_image(measure)
        if weights.shape != maps[0].shape:
            raise UsageError(
                f"--measure must lie on the label maps' grid {maps[0].shape}, "
                f"but {measure} has shape {weights.shape}"
            )
    if ignore is not None:
        # In A alone: B may be a result of this program, whose labels begin with 0.
        kept = maps[0] != ignore
        if not kept.any():
            raise UsageError(f"--ignore {ignore} leaves no pixel to compare")
        weights = kept if weights is None else np.where(kept, weights, 0).astype(weights.dtype)
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
    error = adapted_rand_error(b, a)
    return {
        # Not defined where no two pixels are joined, as on a grid of one pixel.
        "adapted_rand_error": error if np.isfinite(error) else None,
        "variation_of_information": sum(variation_of_information(b, a)),
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
    if summary["distance"] == 0:
        print_line("A and B are the same partition.")


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"

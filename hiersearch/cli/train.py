"""``hiersearch train``: a network of one's own from a folder of images and label maps."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hiersearch.choices import TRAINED_READINGS, TRAINING_LOSSES
from hiersearch.cli.console import print_line, print_table, progress, write_json
from hiersearch.cli.errors import Interrupted, UsageError
from hiersearch.cli.names import shown
from hiersearch.cli.options import Force, Quiet, check_choice
from hiersearch.cli.outputs import Destination, input_files

if TYPE_CHECKING:
    from hiersearch.networks import LabelledImages, Progress, Training, TrainingSettings

MOST_ROWS = 12


def train(
    data: Annotated[
        Path,
        typer.Argument(
            help="Folder of images and label maps: NAME.png beside NAME-labels.png, or "
            "images/NAME.png and labels/NAME.png; PNG, TIFF or NPY, images also JPEG.",
            metavar="DATA",
        ),
    ],
    reading: Annotated[
        str | None,
        typer.Option(
            help=f"What the channels shall mean: {', '.join(TRAINED_READINGS)}; objects are "
            "background, interior and boundary. Labels are classes for 'classes', else instances "
            f"with 0 for background. {TRAINED_READINGS[0]} unless given.",
            metavar="NAME",
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(TRAINING_LOSSES[:-1])}; for affinities {TRAINING_LOSSES[-1]}. "
            f"Unless given: {TRAINING_LOSSES[0]}; for classes {TRAINING_LOSSES[2]}.",
            metavar="NAME",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File of the network, .pt or .pth; DATA's name with -network.pt unless given.",
            metavar="MODEL",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Gradient steps; 1000 unless given.")] = None,
    batch: Annotated[int | None, typer.Option(help="Crops a step; 8 unless given.")] = None,
    crop: Annotated[
        int | None, typer.Option(help="Side of the crops, in pixels; 128 unless given.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Peak of the learning rate; 0.004 unless given.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Decides weights, crops and held-out images; 0 unless given.")
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(help="Share of images held out for scores, 0 for none; 0.1 unless given."),
    ] = None,
    every: Annotated[
        int | None, typer.Option(help="Steps between scores and checkpoints; 100 unless given.")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="How many, for classes; the labels say unless given.")
    ] = None,
    ignore: Annotated[int | None, typer.Option(help="Label whose pixels don't count.")] = None,
    size: Annotated[
        float | None,
        typer.Option(help="Diameter of objects, for affinities; measured unless given."),
    ] = None,
    widths: Annotated[
        str | None,
        typer.Option(
            help="Feature channels of the network, finest first; 16,32,64,96 unless given.",
            metavar="N,N,...",
        ),
    ] = None,
    upright: Annotated[
        bool, typer.Option("--upright", help="Never turn images: up stays up.")
    ] = False,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--fresh",
            help="Go on from the checkpoint, or start anew; by default go on if there is one.",
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the CPU.")] = None,
    force: Force = False,
    as_json: Quiet = False,
) -> None:
    """Train the small U-Net on images with label maps, for `match` and `refine`.

    Writes MODEL; beside it a checkpoint, the learning curve (PNG) and a summary (JSON).

    Of DATA with a manifest.csv of names and splits, only the split "train" is used.
    """
    _check(reading, loss, out, threads)
    given: dict[str, Any] = {
        "reading": reading,
        "loss": loss,
        "steps": steps,
        "batch": batch,
        "crop": crop,
        "rate": rate,
        "seed": seed,
        "validation": validation,
        "every": every,
        "classes": classes,
        "ignore": ignore,
        "size": size,
        "widths": None if widths is None else _parsed_widths(widths),
        "turns": not upright,
    }
    model = _checked_model(data, out)
    checkpoint = model.with_name(f"{model.stem}-checkpoint.pt")
    if resume and not checkpoint.exists():
        raise UsageError(f"--resume needs the checkpoint {checkpoint}, and there is none")
    destination = _checked_destination(data, model, checkpoint, resume, force)
    with progress("Reading", as_json):
        from hiersearch.networks import TrainingSettings, read_labelled_images

        settings = TrainingSettings(
            **{name: value for name, value in given.items() if value is not None}
        )
        examples = read_labelled_images(data)
    done = _trained(examples, settings, checkpoint, resume, threads, as_json)
    with progress("Drawing", as_json):
        summary = _written(done, examples, data, model, checkpoint, destination)
    if as_json:
        write_json(summary)
    else:
        _print(summary, done)


def _check(reading: str | None, loss: str | None, out: Path | None, threads: int | None) -> None:
    check_choice("--reading", reading, TRAINED_READINGS)
    check_choice("--loss", loss, TRAINING_LOSSES)
    if threads is not None and threads < 1:
        raise UsageError(f"--threads must be at least 1, got {threads}")


def _checked_model(data: Path, out: Path | None) -> Path:
    """Return where the network goes, if it can be written, before any work is done."""
    from hiersearch.networks.training.result import checked_model_path

    model = Path(f"{data.resolve().name}-network.pt") if out is None else out
    try:
        checked_model_path(model)
    except ValueError as error:
        raise UsageError(f"--out: {error}") from error
    if model.is_dir():
        raise UsageError(f"--out {model} is in the way: it is a folder")
    if not model.absolute().parent.is_dir():
        raise UsageError(f"--out {model} must lie in a folder that exists")
    return model


def _checked_destination(
    data: Path, model: Path, checkpoint: Path, resume: bool | None, force: bool
) -> Destination:
    """Check that no file is in the way, before any work is done."""
    parts = {"images", "labels"} if (data / "images").is_dir() else {""}
    read = [data / part for part in parts]
    folder = Path(os.path.abspath(model)).parent
    for source in read:
        if source.is_dir() and folder.is_dir() and source.samefile(folder):
            raise UsageError(
                f"--out {model} must not lie in {source}: the picture of the training would be "
                "taken for one of its images"
            )
    files = [file for source in read if source.is_dir() for file in source.iterdir()]
    destination = Destination(
        folder,
        "train",
        _record(model).name,
        input_files(data / "manifest.csv", *files),
        force,
        # The same record may stand for a .pt and a .pth.
        tidy=False,
    )
    destination.check([model.name, _picture(model).name, _record(model).name])
    if resume is False and not force and os.path.lexists(checkpoint):
        from hiersearch.networks.training.checkpoints import is_checkpoint

        if not is_checkpoint(checkpoint):
            raise UsageError(
                f"{checkpoint} would be replaced, and is no checkpoint of hiersearch train: "
                "give --force to replace it, or write elsewhere"
            )
    return destination


def _picture(model: Path) -> Path:
    return model.with_name(f"{model.stem}-learning.png")


def _record(model: Path) -> Path:
    return model.with_name(f"{model.stem}.json")


def _parsed_widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--widths must be whole numbers like 16,32,64, got {text!r}") from error


def _trained(
    examples: "LabelledImages",
    settings: "TrainingSettings",
    checkpoint: Path,
    resume: bool | None,
    threads: int | None,
    quiet: bool,
) -> "Training":
    """Train; when interrupted, say how to go on."""
    # First what says which extra to install, where torch is missing.
    from hiersearch.networks.training.loop import train as train_network

    import torch  # isort: skip

    if threads is not None:
        torch.set_num_threads(threads)
    with _training_bar(settings.steps, quiet) as show:
        try:
            return train_network(
                examples.images,
                examples.label_maps,
                settings,
                names=examples.names,
                checkpoint=checkpoint,
                resume=resume,
                report=show,
            )
        except KeyboardInterrupt as error:
            if not str(error):
                raise
            how = " without --fresh" if resume is False else ""
            raise Interrupted(f"{error}, and the same command{how} goes on from there") from error


@contextmanager
def _training_bar(steps: int, quiet: bool) -> Iterator[Callable[["Progress"], None]]:
    """Show steps, loss and the last score on standard error, if that is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda now: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("Training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=steps)

        def show(now: "Progress") -> None:
            score = "" if now.score is None else f", {now.score[0]} {now.score[1]:.3f}"
            bar.update(task, completed=now.step, description=f"loss {now.loss:.4f}{score}")

        yield show


def _written(
    done: "Training",
    examples: "LabelledImages",
    data: Path,
    model: Path,
    checkpoint: Path,
    destination: Destination,
) -> dict[str, Any]:
    """Write the network, the picture and the summary; return the summary."""
    from hiersearch.plots import save_figure
    from hiersearch.plots.learning import learning_picture

    picture, record = _picture(model), _record(model)
    summary = {
        "data": str(data),
        "untouched": examples.untouched,
        **done.summary(),
        "files": {
            "network": str(model),
            "checkpoint": str(checkpoint),
            "picture": str(picture),
            "summary": str(record),
        },
    }
    with destination.staged() as stage:
        done.save(stage / model.name)
        save_figure(learning_picture(done, title=shown(model.name)), stage / picture.name)
        destination.write_record(stage, summary)
    return summary


def _print(summary: dict[str, Any], done: "Training") -> None:
    from hiersearch.networks.training.validation import SCORES

    names = SCORES[done.settings.reading] if done.held_out else {}
    rows = [
        [f"{row['step']:,}", f"{row['loss']:.4f}", *(_number(row.get(name)) for name in names)]
        for row in _chosen(summary["curve"], done.best_step)
    ]
    settings = done.settings
    title = f"Trained on {_images(done.trained_on)}: {settings.reading}, {settings.loss}"
    print_table(title, ["step", "loss", *names.values()], rows)
    if done.held_out:
        deciding = next(iter(names.values()))
        print_line(
            f"scores are of {_images(len(done.held_out))} held out; the network has the weights of "
            f"step {done.best_step:,}, the best by {deciding}"
        )
    else:
        print_line("no images were held out: the network has the weights of the last step")
    for split, count in summary["untouched"].items():
        print_line(f"{_images(count)} of the split {split!r} left untouched")
    print_line("wrote:")
    for path in summary["files"].values():
        print_line(f"  {path}")


def _chosen(curve: list[dict[str, Any]], best_step: int) -> list[dict[str, Any]]:
    """Return the rows of a table of moderate length, the best and the last among them."""
    apart = -(-len(curve) // MOST_ROWS)
    return [
        row
        for place, row in enumerate(reversed(curve))
        if place % apart == 0 or row["step"] == best_step
    ][::-1]


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"

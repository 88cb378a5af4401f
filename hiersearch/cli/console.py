"""What commands write to the terminal: JSON or a table on standard output, progress beside it."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer


@contextmanager
def progress(step: str, quiet: bool) -> Iterator[None]:
    """Show a step while it runs, on standard error, if that is a terminal and not ``quiet``."""
    if quiet:
        yield
        return
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(step):
        yield


Report = Callable[[float, int], None]
"""Called with the share of the work that is done, 0 to 1, and the count of what is done."""


@contextmanager
def progress_bar(step: str, unit: str, quiet: bool) -> Iterator[Report]:
    """Show how far a long step is, with rate and time left; where :func:`progress` would show."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda share, count: None
        return
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[counted]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    begin = time.perf_counter()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(step, total=1.0, counted="")

        def report(share: float, count: int) -> None:
            rate = count / max(time.perf_counter() - begin, 1e-9)
            bar.update(task, completed=share, counted=f"{count:,} {unit}, {rate:,.0f}/s")

        yield report


def warn(text: str) -> None:
    """Write one line about what may be a mistake to standard error, also beside JSON."""
    typer.echo(f"hiersearch: warning: {text}", err=True)


def write_json(summary: dict[str, Any]) -> None:
    """Write a summary as JSON, and nothing else, to standard output."""
    typer.echo(as_json(summary))


def as_json(summary: dict[str, Any]) -> str:
    """Return a summary as JSON text: NaN and infinities, which JSON lacks, are refused."""
    return json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Write a table to standard output; all columns but the first are numbers."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def print_line(text: str) -> None:
    """Write a line to standard output as it is."""
    typer.echo(text)

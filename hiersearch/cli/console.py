"""What commands write to the terminal: JSON or a table on standard output, progress beside it."""

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hiersearch.cli.names import escaped_json, shown


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


class ReaderGone(Exception):
    """Whoever read standard output, such as ``head``, has had enough."""


def write_json(summary: dict[str, Any]) -> None:
    """Write a summary as JSON, and nothing else, to standard output."""
    text = as_json(summary)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = json.dumps(summary, indent=2, allow_nan=False)
    _write(f"{text}\n")


def as_json(summary: dict[str, Any]) -> str:
    """Return a summary as JSON text: NaN and infinities, which JSON lacks, are refused."""
    return escaped_json(json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Write a table to standard output; all columns but the first are numbers."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(shown(title)), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for place, column in enumerate(columns):
        justify: Any = "left" if place == 0 else "right"
        table.add_column(Text(shown(column)), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown(cell)) for cell in row))
    rendered = _Rendered()
    rendered.encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    Console(file=rendered, force_terminal=is_terminal).print(table)
    _write(rendered.getvalue())


class _Rendered(io.StringIO):
    """Text for standard output, which rich asks whether it can show lines of boxes."""

    encoding = "utf-8"


def print_line(text: str) -> None:
    """Write a line to standard output; what is no plain text is shown escaped."""
    _write(f"{shown(text)}\n")


def print_aside(text: str) -> None:
    """Write a line beside the results, to standard error, if there is one."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(shown(text), file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Write one line about what may be a mistake to standard error, also beside JSON."""
    print_aside(f"hiersearch: warning: {' '.join(text.split())}")


def _write(text: str) -> None:
    """Write text to standard output at once, so that a failure is seen here.

    Raises
    ------
    ReaderGone
        If it is a pipe that nobody reads any more.
    OSError
        If it cannot be written, naming it.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        _give_up_on_output()
        if isinstance(error, BrokenPipeError):
            raise ReaderGone from error
        raise OSError(error.errno, error.strerror, "standard output") from error


def _give_up_on_output() -> None:
    """Send what is left to nowhere: Python would try once more at its end, and complain."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)

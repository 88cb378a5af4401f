"""The command line: ``hiersearch demo``, ``match``, ``refine``, ``train``, ``compare``, ``index``.

Only Typer is imported here; each command imports what it needs once it runs, so that help and
usage errors come at once. Exit codes: 0 success; 1 damage found by ``index verify``, or some of
several files failed and the others were done; 2 usage or bad input; 129 (SIGHUP), 130 (Ctrl-C) and
143 (SIGTERM) interrupted; 141 nobody reads standard output any more.
"""

import io
import logging
from typing import Annotated

import typer

from hiersearch.cli.compare import compare
from hiersearch.cli.console import print_aside, warn
from hiersearch.cli.demo import demo
from hiersearch.cli.errors import BAD_INPUT, PlainErrors
from hiersearch.cli.index.commands import index
from hiersearch.cli.match import match
from hiersearch.cli.refine import refine
from hiersearch.cli.train import train

app = typer.Typer(
    name="hiersearch",
    cls=PlainErrors,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Find the partition of an image's hierarchy that is nearest to a network's soft output.",
)
app.command()(demo)
app.command()(match)
app.command()(refine)
app.command()(train)
app.command()(compare)
app.add_typer(index)


def _show_version(asked: bool) -> None:
    if asked:
        from hiersearch import __version__

        typer.echo(f"hiersearch {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Find the partition of an image's hierarchy that is nearest to a network's soft output."""


def main() -> None:
    """Run the command line."""
    import sys
    import warnings

    from hiersearch.cli import signals

    signals.occupy_standard_streams()
    signals.heed()
    if sys.stdout is None:
        print_aside(
            "hiersearch: error: standard output must be open, got a closed one: "
            "send it to /dev/null if it is not wanted"
        )
        sys.exit(BAD_INPUT)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Where letters are missing, escapes: no name can make a table fail.
            stream.reconfigure(errors="backslashreplace")
    if not sys.warnoptions:
        # Warnings of libraries are for programmers; the package's own are shown all the same.
        warnings.simplefilter("ignore")
    logging.getLogger("hiersearch").addHandler(_Aside(logging.WARNING))
    app(prog_name="hiersearch")


class _Aside(logging.Handler):
    """Shows warnings of the package's logger as one line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one."""
        warn(record.getMessage())


__all__ = ["app", "main"]

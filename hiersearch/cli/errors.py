"""What the user sees when something is wrong: one sentence on standard error, exit code 2."""

import errno
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

import typer
from typer.core import TyperGroup

from hiersearch.cli import signals
from hiersearch.cli.console import ReaderGone, print_aside, warn
from hiersearch.cli.names import shown
from hiersearch.errors import HiersearchWarning, MissingExtraError

SOME_FAILED = 1
"""Exit code where some of several inputs failed, and the others were done."""
BAD_INPUT = 2
INTERRUPTED = 130
"""Exit code after Ctrl-C; 143 after SIGTERM, 129 after SIGHUP."""
READER_GONE = 141
"""Exit code where nobody reads standard output any more, as of programs that SIGPIPE ends."""


class UsageError(ValueError):
    """Options that do not go together."""


class Interrupted(Exception):
    """The user has interrupted a command that has something to say about it.

    Typer would swallow the words of a KeyboardInterrupt.
    """


class PlainErrors(TyperGroup):
    """A group of commands whose errors are single sentences.

    Errors that are no fault of the input keep their traceback: they are faults of the program.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command and leave with its exit code."""
        reason = ""
        try:
            with _own_warnings_shown():
                code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except (KeyboardInterrupt, typer.Abort):
            code = INTERRUPTED
        except Interrupted as error:
            code, reason = INTERRUPTED, f": {error}"
        except ReaderGone:
            code = READER_GONE
        except Exception as error:
            message = sentence(error)
            if signals.heard():
                # Some libraries make another error of the interruption.
                code = INTERRUPTED
            elif message is None:
                raise
            else:
                print_aside(f"hiersearch: error: {message}")
                code = BAD_INPUT
        if code == INTERRUPTED:
            print_aside(f"hiersearch: {signals.word()}{reason}")
            code = signals.exit_code()
        sys.exit(code if isinstance(code, int) else 0)


def stops_all(error: Exception) -> bool:
    """Say whether what went wrong with one of several files would go wrong with all others."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return isinstance(error, MissingExtraError) or (
        isinstance(error, OSError) and error.errno in full
    )


def with_name(name: str, message: str) -> str:
    """Put the name of a file before what is wrong with it, unless it is said."""
    shown_name = shown(name)
    said = shown_name in message or shown(PurePath(name).name) in message
    return message if said else f"{shown_name}: {message}"


def print_failed(failed: list[dict[str, str]], what: str, total: int) -> None:
    """List the files of several that failed, with the reasons, on standard error."""
    for one in failed:
        print_aside(f"hiersearch: failed: {with_name(one[what], one['error'])}")
    print_aside(f"hiersearch: error: {len(failed):,} of {total:,} {what}s failed")


@contextmanager
def _own_warnings_shown() -> Iterator[None]:
    """Write the package's warnings on standard error, each once; others are as they were."""
    with warnings.catch_warnings():
        warnings.filterwarnings("default", category=HiersearchWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
            if issubclass(category, HiersearchWarning):
                warn(str(message))
            else:
                others(message, category, *rest, **named)

        warnings.showwarning = show
        yield


def sentence(error: Exception) -> str | None:
    """Return what to tell the user in one line, or None for a fault of the program."""
    # Click's own errors, whose class is at different places in different versions of Typer.
    written = getattr(error, "format_message", None)
    if written is not None:
        context = getattr(error, "ctx", None)
        command = "hiersearch" if context is None else context.command_path
        text = f"{str(written()).rstrip('.')} (see {command} --help)"
    elif isinstance(error, UsageError | MissingExtraError | ValueError | TypeError):
        text = str(error)
    elif isinstance(error, OSError):
        text = _about_file(error)
    elif isinstance(error, MemoryError):
        text = f"there is not enough memory: {error}" if str(error) else "there is no memory left"
    else:
        return None
    return shown(" ".join(text.split()))


def _about_file(error: OSError) -> str:
    if error.filename is None or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
